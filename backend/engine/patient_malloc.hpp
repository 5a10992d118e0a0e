// SPDX-License-Identifier: Apache-2.0
// An engine waits for memory. libtpms takes 280 KiB for each change that is to last, and where it gets none the TPM is
// in failure mode until the guest reboots; C++ throws, OpenSSL fails in each place in another way. A shortage passes;
// its guest's driver has more time than that.
#pragma once

namespace vtpm {

// From now on malloc, calloc and realloc of this process return when there is memory. (Not under a sanitizer, whose own
// malloc it is.)
void wait_for_memory();

}  // namespace vtpm
