// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/fakes/standard_error.hpp"

// What the manager tells the journal goes nowhere while this lives: for tests that make it say the same ten thousand
// times.
class QuietErrors {
    vtpm::StandardErrorTo nowhere_{vtpm::UniqueFd(::open("/dev/null", O_WRONLY | O_CLOEXEC))};
};
