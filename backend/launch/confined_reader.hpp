// SPDX-License-Identifier: Apache-2.0
// Reads what a guest may have written, in a process that can do nothing else.
#pragma once

#include "launch/boot_image.hpp"

namespace vtpm::launch {

// read_boot_image(), in a child: another user (if this one is root), no descriptor but a pipe, no system call but
// memory and that pipe, some seconds. Its answer is within the file. kInvalid: the image is damaged, or its reader was
// ended. The caller has one thread.
// `reader` is another one in tests.
using ImageReader = Result<BootImage> (*)(ByteView file);
Result<BootImage> read_confined(ByteView file, ImageReader reader = read_boot_image);

}  // namespace vtpm::launch
