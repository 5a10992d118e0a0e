// SPDX-License-Identifier: Apache-2.0
// Catch2: version 2 in Debian 12, 3 in Debian 13.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace vtpm {

#if __has_include(<catch2/catch_all.hpp>)
inline auto Contains(const std::string &text, Catch::CaseSensitive choice = Catch::CaseSensitive::Yes) {
    return Catch::Matchers::ContainsSubstring(text, choice);
}
#else
using Catch::Matchers::Contains;
#endif

}  // namespace vtpm
