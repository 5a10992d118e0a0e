// SPDX-License-Identifier: Apache-2.0
#include "backend/device/meters.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

namespace vtpm {

Result<Meters> Meters::map(const UniqueFd &file) {
    constexpr int kKeepsItsSize = F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno("the engines' meters");
    const int seals = ::fcntl(file.get(), F_GET_SEALS);
    if (seals < 0 || (seals & kKeepsItsSize) != kKeepsItsSize || status.st_size <= 0)
        return fail(ErrorCode::kInvalid, "the file of the engines' meters may change its size");
    const auto size = static_cast<std::size_t>(status.st_size);
    const void *memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) return fail_errno("map the engines' meters");
    return Meters(memory, size);
}

Meters::Meters(Meters &&other) noexcept : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_) {}

Meters &Meters::operator=(Meters &&other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    return *this;
}

Meters::~Meters() {
    if (memory_ != nullptr) ::munmap(const_cast<std::uint8_t *>(memory_), size_);
}

std::optional<MeterReading> Meters::read(std::uint32_t page) const {
    if (page >= size_ / kMeterSize) return std::nullopt;
    // An engine's own page, on which it has made a Meter, or zero, which is one.
    return reinterpret_cast<const Meter *>(memory_ + std::size_t{page} * kMeterSize)->read();
}

}  // namespace vtpm
