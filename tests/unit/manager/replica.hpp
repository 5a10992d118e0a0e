// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "temporary_directory.hpp"

// `to` has what `from` has, and nothing else: a store is put away, or put back.
inline void replicate(const TemporaryDirectory &from, const TemporaryDirectory &to) {
    std::filesystem::remove_all(to.path());
    std::filesystem::create_directory(to.path());
    std::filesystem::copy(from.path(), to.path(), std::filesystem::copy_options::recursive);
}
