// SPDX-License-Identifier: Apache-2.0
// PE images (Microsoft's "PE Format"), from whoever wrote them: their sections, and what their Authenticode hash is
// over, as UEFI firmware measures an image ("Windows Authenticode Portable Executable Signature Format", 2008;
// PFP 2.3.4).
#pragma once

#include <string>
#include <vector>

#include "launch/extents.hpp"

namespace vtpm::launch {

struct PeSection {
    std::string name;  // up to 8 bytes, without the NULs behind it
    std::uint32_t raw_offset = 0;
    std::uint32_t raw_size = 0;  // bytes in the file
    std::uint32_t virtual_size = 0;
};

struct PeImage {
    Extents authenticode;
    std::vector<PeSection> sections;
};

// It begins as a PE image does ("MZ"); then it has to be one.
bool claims_pe(ByteView file);

// An image of `length` bytes, those behind `file` being zero (a section of another image, as it is loaded). kInvalid:
// it is none, or the Authenticode hash would not cover each of its bytes once, but for checksum and signatures.
Result<PeImage> read_pe(ByteView file, std::uint64_t length);
inline Result<PeImage> read_pe(ByteView file) { return read_pe(file, file.size()); }

}  // namespace vtpm::launch
