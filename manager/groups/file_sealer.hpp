// SPDX-License-Identifier: Apache-2.0
// sealing = "file", for machines without a TPM: the group keys are wrapped by a key in a file beside the store. Who
// has the disk has the keys.
#pragma once

#include "manager/groups/sealer.hpp"

namespace vtpm {

// The key file is made at the first start (`pinned` is empty) and must be there at every other one.
Result<std::unique_ptr<Sealer>> open_file_sealer(const std::string &path, ByteView pinned);

}  // namespace vtpm
