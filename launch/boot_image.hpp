// SPDX-License-Identifier: Apache-2.0
// What a guest is to boot, from whoever wrote it: a kernel, or a unified kernel image (UKI; UAPI.5) in which there is a
// kernel with all that belongs to it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/extents.hpp"

namespace vtpm::launch {

struct UkiSection {
    std::string name;
    Extent content;  // as it is loaded: VirtualSize bytes
    bool operator==(const UkiSection &) const = default;
};

struct Uki {
    std::vector<UkiSection> sections;  // those that systemd-stub knows, in the order in which it measures them
    Extents kernel_hashed;             // of its kernel, what a BootImage's `hashed` is

    // nullptr: there is none.
    [[nodiscard]] const Extent *find(std::string_view name) const;
    bool operator==(const Uki &) const = default;
};

struct BootImage {
    Extents hashed;  // what its digest in PCR 4 is over: Authenticode's part of a PE image, all of any other file
    std::optional<Uki> uki;
    bool operator==(const BootImage &) const = default;
};

// All but the signature, which is over the values that the others lead to.
inline bool is_measured(const UkiSection &section) { return section.name != ".pcrsig"; }

// kInvalid: it claims to be a PE image and is none, or a UKI that cannot be told from its headers alone.
Result<BootImage> read_boot_image(ByteView file);

// The command line in a UKI, as systemd-stub would pass it: to the first NUL, without spaces around it, a line. Empty:
// there is none. kInvalid: it is longer than any kernel takes.
Result<std::string> command_line_of(ByteView file, const Uki &uki);

// What a UKI's kernel gets as its initrd: parts of the image, and archives that are made from others of its parts.
struct UkiInitrd {
    Extents parts;
    Bytes archives;
    [[nodiscard]] bool empty() const { return parts.empty() && archives.empty(); }
};
// kInvalid: a part is larger than it may be.
Result<UkiInitrd> initrd_of(ByteView file, const Uki &uki);

}  // namespace vtpm::launch
