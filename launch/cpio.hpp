// SPDX-License-Identifier: Apache-2.0
// The archive that Linux unpacks as an initramfs ("newc": Documentation/driver-api/early-userspace/buffer-format.rst).
#pragma once

#include <string_view>

#include "base/bytes.hpp"

namespace vtpm::launch {

// `directory`/`name`, for everybody to read, of no time and of root: the same bytes for the same content.
Bytes cpio_archive(std::string_view directory, std::string_view name, ByteView content);

}  // namespace vtpm::launch
