// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over its corpus, where there is no libFuzzer: replay CORPUS_DIRECTORY
#include "tests/fuzz/replay.hpp"

int main(int count, char **arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", arguments[0]);
        return 2;
    }
    return vtpm::replay(arguments[1]) > 0 ? 0 : 1;
}
