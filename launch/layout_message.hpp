// SPDX-License-Identifier: Apache-2.0
// What a confined reader of a boot image tells the process that it reads for.
#pragma once

#include "launch/boot_image.hpp"

namespace vtpm::launch {

constexpr std::size_t kMaxLayoutMessage = 16UL * 1024;

// A BootImage, or why there is none.
Bytes layout_message(const Result<BootImage> &image);

// The reader may have been taken over: a message in any other form, or with names that are no UKI's, is kSystem. What
// it says of a file of `file_size` bytes is within that file.
Result<BootImage> layout_in(ByteView message, std::uint64_t file_size);

}  // namespace vtpm::launch
