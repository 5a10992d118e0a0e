// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

// A directory of its own for one test, gone with it.
class TemporaryDirectory {
public:
    explicit TemporaryDirectory(const std::filesystem::path &parent = std::filesystem::temp_directory_path()) {
        std::string pattern = (parent / "xen-vtpm-test-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
        path_ = pattern;
    }
    TemporaryDirectory(const TemporaryDirectory &) = delete;
    TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    // In memory, where there is such a thing: for tests that write many stores, and whose disk need not keep them.
    static std::filesystem::path fast() {
        std::error_code none;
        const std::filesystem::path memory = "/dev/shm";
        return std::filesystem::is_directory(memory, none) ? memory : std::filesystem::temp_directory_path();
    }
    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string operator/(const char *name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};
