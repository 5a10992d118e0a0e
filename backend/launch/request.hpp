// SPDX-License-Identifier: Apache-2.0
// What libxl wants of a boot loader: its command line and its answer (Xen's tools/libs/light/libxl_bootloader.c; the
// same in 4.17 to 4.20).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace vtpm::launch {

struct Request {
    std::uint32_t domain = 0;
    std::string kernel;            // of the guest's configuration; empty: it is on the guest's disk
    std::string ramdisk;           // empty: none
    std::string arguments;         // the kernel's command line
    std::string output;            // where the answer is to be written
    std::string output_directory;  // where what it names is to be
    std::string pygrub;            // the boot loader for a guest's disk; empty: that of the running Xen
    std::string disk;
    std::vector<std::string> others;  // options of libxl and of bootloader_args, for that boot loader
};

// kInvalid, with what is wrong: `arguments` are not those of libxl. argv without the program's name.
Result<Request> parse_request(const std::vector<std::string> &arguments);

// What is to be started: paths, and the command line.
struct Answer {
    std::string kernel;
    std::optional<std::string> ramdisk;
    std::string arguments;
};

// Output format simple0: "kernel PATH", "ramdisk PATH", "args LINE", each with a NUL.
std::string to_simple0(const Answer &answer);
// Of another boot loader. kInvalid: something else, or an item of more bytes than libxl reads.
Result<Answer> parse_simple0(std::string_view text);

}  // namespace vtpm::launch
