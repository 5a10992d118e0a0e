// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include "tests/catch.hpp"

#include "base/result.hpp"

// The value, or the end of the test with the error's text.
template <typename T>
T expect(vtpm::Result<T> result) {
    if (!result) FAIL(result.error().text);
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// The error of something that must fail.
template <typename T>
vtpm::Error expect_error(const vtpm::Result<T> &result) {
    if (result) FAIL("it succeeded, and should not have");
    return result.error();
}
