// SPDX-License-Identifier: Apache-2.0
// The words of release 0.1, which still work: a command line with them becomes one with the present words.
#pragma once

#include <string>
#include <vector>

namespace vtpm::cli {

// `arguments` without the program's name.
std::vector<std::string> with_present_words(std::vector<std::string> arguments);

}  // namespace vtpm::cli
