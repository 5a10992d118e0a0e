// SPDX-License-Identifier: Apache-2.0
// What a confined reader of a boot image tells the process that it reads for.
#pragma once

#include "launch/boot_image.hpp"

namespace vtpm::launch {

constexpr std::size_t kMaxLayoutMessage = 16UL * 1024;

// A BootImage, or why there is none.
Bytes layout_message(const Result<BootImage> &image);

// The reader may have been taken over: a message in any other form, or with names that are no UKI's, is kSystem. So is
// what cannot be true of a file of `file_size` bytes, whatever is in it: a digest over its parts in another order,
// without one that is booted, or with zeros between them, would be that of another image.
Result<BootImage> layout_in(ByteView message, std::uint64_t file_size);

}  // namespace vtpm::launch
