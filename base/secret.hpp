// SPDX-License-Identifier: Apache-2.0
// Memory for what must not outlive its use: wiped when it goes, neither copied nor printed.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "base/bytes.hpp"

namespace vtpm {

inline void wipe(MutableBytes bytes) {
    if (!bytes.empty()) ::explicit_bzero(bytes.data(), bytes.size());
}

// A key of N bytes.
template <std::size_t N>
class Secret {
public:
    Secret() = default;
    Secret(Secret &&other) noexcept : bytes_(other.bytes_) { other.clear(); }
    Secret &operator=(Secret &&other) noexcept {
        if (this != &other) {
            bytes_ = other.bytes_;
            other.clear();
        }
        return *this;
    }
    Secret(const Secret &) = delete;
    Secret &operator=(const Secret &) = delete;
    ~Secret() { clear(); }

    [[nodiscard]] ByteView view() const { return bytes_; }
    [[nodiscard]] MutableBytes writable() { return bytes_; }

private:
    void clear() { wipe(bytes_); }
    std::array<std::uint8_t, N> bytes_{};
};

// A secret whose size is known only at run time, such as a vTPM's state. Never reallocates behind its owner's back.
class SecretBytes {
public:
    SecretBytes() = default;
    explicit SecretBytes(std::size_t size) : bytes_(std::make_unique<std::uint8_t[]>(size)), size_(size) {}
    explicit SecretBytes(ByteView source) : SecretBytes(source.size()) {
        if (!source.empty()) std::memcpy(bytes_.get(), source.data(), source.size());
    }
    SecretBytes(SecretBytes &&other) noexcept : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
    SecretBytes &operator=(SecretBytes &&other) noexcept {
        if (this != &other) {
            wipe(writable());
            bytes_ = std::move(other.bytes_);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    SecretBytes(const SecretBytes &) = delete;
    SecretBytes &operator=(const SecretBytes &) = delete;
    ~SecretBytes() { wipe(writable()); }

    [[nodiscard]] ByteView view() const { return {bytes_.get(), size_}; }
    [[nodiscard]] MutableBytes writable() { return {bytes_.get(), size_}; }
    [[nodiscard]] bool empty() const { return size_ == 0; }

private:
    std::unique_ptr<std::uint8_t[]> bytes_;
    std::size_t size_ = 0;
};

}  // namespace vtpm
