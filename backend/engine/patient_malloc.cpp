// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/patient_malloc.hpp"

#if defined(__SANITIZE_ADDRESS__)

void vtpm::wait_for_memory() {}

#else

#include <poll.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>

// glibc's names.
// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
extern "C" {
void *__libc_malloc(std::size_t size);
void *__libc_calloc(std::size_t count, std::size_t size);
void *__libc_realloc(void *memory, std::size_t size);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

namespace {

bool patient = false;

// Who asks for more than an engine ever has is in error, and is told so.
constexpr std::size_t kMost = std::size_t{16} << 20;

template <typename Ask>
void *ask_patiently(std::size_t size, Ask ask) {
    constexpr int kMilliseconds = 10;
    const int saved = errno;
    void *memory = ask();
    while (memory == nullptr && patient && size != 0 && size <= kMost) {
        (void)::poll(nullptr, 0, kMilliseconds);  // an engine has this system call
        errno = saved;
        memory = ask();
    }
    return memory;
}

}  // namespace

void vtpm::wait_for_memory() { patient = true; }

// They take the place of glibc's ("Replacing malloc" in its manual), and are glibc's: free() stays.
extern "C" {

void *malloc(std::size_t size) noexcept {
    return ask_patiently(size, [=] { return __libc_malloc(size); });
}

void *calloc(std::size_t count, std::size_t size) noexcept {
    std::size_t all = 0;
    if (__builtin_mul_overflow(count, size, &all)) all = kMost + 1;
    return ask_patiently(all, [=] { return __libc_calloc(count, size); });
}

void *realloc(void *memory, std::size_t size) noexcept {
    return ask_patiently(size, [=] { return __libc_realloc(memory, size); });
}

}  // extern "C"

#endif
