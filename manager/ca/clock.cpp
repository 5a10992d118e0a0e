// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/clock.hpp"

#include <sys/timex.h>

#include <ctime>

#include "build_date.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

// As NTP's clients tell the kernel. Where we may not ask, nothing speaks against it.
bool is_synchronised() {
    timex question{};
    return ::adjtimex(&question) < 0 || (question.status & STA_UNSYNC) == 0;
}

}  // namespace

std::string doubt_of_clock(std::int64_t now, std::int64_t built, bool synchronised) {
    if (now < 0 || now > kLastUtc) return "it is out of all bounds";
    if (now < built) return "it says " + to_utc(now) + ", which is before this program was built";
    if (!synchronised) return "it says " + to_utc(now) + ", and nothing has synchronised it";
    return {};
}

std::string doubt_of_clock() { return doubt_of_clock(std::time(nullptr), kBuildDate, is_synchronised()); }

}  // namespace vtpm
