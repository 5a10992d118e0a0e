// SPDX-License-Identifier: Apache-2.0
// Whether this host's clock may be trusted with what certificates say: from when on they are valid.
#pragma once

#include <cstdint>
#include <string>

namespace vtpm {

// What speaks against it; empty: nothing does.
std::string doubt_of_clock();

// Of the time `now` (seconds since 1970), for a program that was built at `built`.
std::string doubt_of_clock(std::int64_t now, std::int64_t built, bool synchronised);

}  // namespace vtpm
