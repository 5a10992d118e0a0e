// SPDX-License-Identifier: Apache-2.0
// From what a guest is to boot to what is measured of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "launch/boot_image.hpp"

namespace vtpm::launch {

struct MeasuredImage {
    Digests digests;
    std::uint64_t size = 0;  // bytes
};

struct MeasuredSection {
    std::string name;
    Digests content;
};

struct MeasuredUki {
    std::vector<MeasuredSection> sections;  // in the order in which they are measured
    MeasuredImage kernel;
    bool command_line_replaced = false;  // by another one than its own
};

struct MeasuredLaunch {
    Banks banks;
    MeasuredImage image;       // the kernel, or the UKI
    std::string command_line;  // what the guest's kernel gets: without space before it
    std::optional<Digests> initrd;
    std::optional<MeasuredUki> uki;
};

// The content of files. A UKI has an initrd and a command line of its own.
struct LaunchFiles {
    ByteView image;
    std::optional<ByteView> initrd;
    std::string_view command_line{};  // empty: that of a UKI
};

// `image` must be what read_boot_image() said of `files.image`, or somebody untrusted. kInvalid: it does not fit the
// file; an initrd beside a UKI; an empty file. Each byte is hashed once for each digest that it is in: of a kernel or
// an initrd one, of a UKI's kernel three.
Result<MeasuredLaunch> measure(const LaunchFiles &files, const BootImage &image, const Banks &banks);

}  // namespace vtpm::launch
