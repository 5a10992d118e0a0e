// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>

namespace vtpm {

// Text that others wrote, as one line of ASCII: nothing that a terminal or a log would obey, or D-Bus refuse.
inline std::string legible(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return c < ' ' || c > '~'; }, '?');
    return text;
}

}  // namespace vtpm
