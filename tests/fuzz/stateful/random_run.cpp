// SPDX-License-Identifier: Apache-2.0
// Runs a stateful fuzz target over its corpus, then over random inputs until so many steps are done:
//
//   PROGRAM CORPUS_DIRECTORY STEPS SECONDS     at most; with XEN_VTPM_STEPS=N: N, however long they take
//
// XEN_VTPM_SEED=N (random): the first input's; each further one's is one more. An abort prints the seed of its input,
// by which it is repeated as far as its timing allows.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/fuzz/replay.hpp"
#include "tests/fuzz/stateful/input.hpp"

// An abort shows the log, which a sanitizer's exit does not: quiet_log.hpp.
extern "C" const char *__ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }  // NOLINT: its name
extern "C" const char *__asan_default_options() { return "abort_on_error=1"; }                      // NOLINT: its name

namespace vtpm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestInput = 32768;

std::uint64_t number_of(const char *text) { return std::strtoull(text, nullptr, 10); }

Bytes random_input(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Bytes input(random() % kLongestInput);
    for (std::uint8_t &byte : input) byte = static_cast<std::uint8_t>(random());
    return input;
}

std::array<char, 64> seed_line;

// Only what is allowed in a signal's handler.
void say_seed(int) { (void)!::write(STDOUT_FILENO, seed_line.data(), std::strlen(seed_line.data())); }

void run(std::uint64_t steps, std::chrono::seconds limit, std::uint64_t seed) {
    const auto began = Clock::now();
    auto said = began - std::chrono::minutes(1);
    std::uint64_t inputs = 0;
    const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
    const auto say = [&] {
        std::printf("%llu steps in %llu inputs, %.0f s\n", static_cast<unsigned long long>(steps_done),
                    static_cast<unsigned long long>(inputs), seconds());
        std::fflush(stdout);
    };
    for (; steps_done < steps && Clock::now() - began < limit; ++inputs, ++seed) {
        if (Clock::now() - said > std::chrono::minutes(1)) {
            said = Clock::now();
            say();
        }
        (void)std::snprintf(seed_line.data(), seed_line.size(), "seed %llu\n", static_cast<unsigned long long>(seed));
        const Bytes input = random_input(seed);
        (void)LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    say();
}

}  // namespace
}  // namespace vtpm

int main(int count, char **arguments) {
    if (count != 4) {
        std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY STEPS SECONDS\n", arguments[0]);
        return 2;
    }
    (void)std::signal(SIGABRT, vtpm::say_seed);
    if (vtpm::replay(arguments[1]) == 0) return 1;
    const char *steps = std::getenv("XEN_VTPM_STEPS");
    const char *seed = std::getenv("XEN_VTPM_SEED");
    const std::chrono::seconds limit(steps != nullptr ? 1'000'000'000 : vtpm::number_of(arguments[3]));
    vtpm::run(vtpm::number_of(steps != nullptr ? steps : arguments[2]), limit,
              seed != nullptr ? vtpm::number_of(seed) : std::random_device()());
    return 0;
}
