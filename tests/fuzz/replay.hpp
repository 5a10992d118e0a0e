// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace vtpm {

// Runs the fuzz target over the files of its corpus; says how many there were.
inline int replay(const char *directory) {
    int inputs = 0;
    for (const auto &entry : std::filesystem::directory_iterator(directory)) {
        // Before it runs: a crash is about the last one named.
        std::printf("%s\n", entry.path().c_str());
        std::fflush(stdout);
        std::ifstream file(entry.path(), std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
        (void)LLVMFuzzerTestOneInput(input.data(), input.size());
        ++inputs;
    }
    std::printf("%d inputs\n", inputs);
    return inputs;
}

}  // namespace vtpm
