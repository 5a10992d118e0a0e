// SPDX-License-Identifier: Apache-2.0
// The versions in the names of kernels, as a configuration of GRUB has them, before and after an update.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vtpm {

// Of "/boot/vmlinuz-6.1.0-56-amd64" what is behind the first '-', in the order in which they come first.
std::vector<std::string> kernel_versions(std::string_view text);

// Each version became another one, or stayed.
struct Renaming {
    std::vector<std::string> then;
    std::vector<std::string> now;  // as many

    [[nodiscard]] std::string forward(std::string_view text) const;
    [[nodiscard]] std::string backward(std::string_view text) const;
};

}  // namespace vtpm
