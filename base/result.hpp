// SPDX-License-Identifier: Apache-2.0
// What can go wrong in the environment, as a value. A guest's fault is answered by a TPM return code instead
// (backend/engine/tpm.hpp); a fault of our own is an assertion (require()).
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace vtpm {

// Why something failed, coarse enough to act upon. The numbers travel between the processes (docs/protocol.md).
enum class ErrorCode : std::uint16_t {
    kNone = 0,         // only on the wire: success
    kNotFound = 1,     // the inventory does not know it
    kInUse = 2,        // this vTPM already runs elsewhere
    kRefused = 3,      // state, key or policy does not allow it; never retry, never start afresh
    kUnavailable = 4,  // a peer or a device is away; may come back
    kStoreFailed = 5,  // not durable: nothing was acknowledged
    kInvalid = 6,      // the request itself is malformed
    kSystem = 7,       // a system call failed
    kShortage = 8,     // it failed for want of memory, descriptors or processes: passes
    kWrongState = 9,   // possible, but not in the state that the object is in; told by D-Bus only
};

constexpr std::uint16_t kErrorCodeLast = static_cast<std::uint16_t>(ErrorCode::kShortage);

// What errno says of a system call that failed: kShortage or kSystem.
ErrorCode code_of_errno(int error);

struct Error {
    ErrorCode code;
    std::string text;      // a sentence for a human: cause and, where there is one, remedy
    bool passing = false;  // begun anew at once, it may succeed; it does not travel between processes
};

template <typename T = void>
using Result = tl::expected<T, Error>;

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args &&...args) {
    return tl::make_unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// For a system call that just failed: appends errno's text.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail_errno(fmt::format_string<Args...> format, Args &&...args) {
    const int saved = errno;
    return tl::make_unexpected(
        Error{code_of_errno(saved),
              fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), std::strerror(saved))});
}

// An assertion that stays in release builds: `what` names the invariant that our own code broke.
void require(bool invariant, const char *what);

}  // namespace vtpm

#define VTPM_JOIN_(a, b) a##b
#define VTPM_JOIN(a, b) VTPM_JOIN_(a, b)

// Evaluates to nothing, or returns the error of `expression` from the enclosing function.
#define VTPM_TRY(expression)                                                \
    do {                                                                    \
        if (auto vtpm_try_result = (expression); !vtpm_try_result)          \
            return tl::make_unexpected(std::move(vtpm_try_result).error()); \
    } while (false)

// `VTPM_ASSIGN(const auto size, read_size());` declares `size`, or returns the error from the enclosing function.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses
#define VTPM_ASSIGN(declaration, expression) \
    VTPM_ASSIGN_(declaration, expression, VTPM_JOIN(vtpm_assign_result_, __LINE__))
#define VTPM_ASSIGN_(declaration, expression, result)                     \
    auto result = (expression);                                           \
    if (!(result)) return tl::make_unexpected(std::move(result).error()); \
    declaration = std::move(*(result))
// NOLINTEND(bugprone-macro-parentheses)
