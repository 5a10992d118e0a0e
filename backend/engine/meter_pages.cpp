// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/meter_pages.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "shared-protocol/messages.hpp"

namespace vtpm {

Result<MeterPages> MeterPages::create(std::uint32_t pages) {
    UniqueFd file(::memfd_create("xen-vtpm-meters", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!file) return fail_errno("memfd_create");
    const std::size_t size = pages * kMeterSize;
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return fail_errno("the size of the meters");
    if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return fail_errno("seal the meters");
    void *memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) return fail_errno("map the meters");
    return MeterPages(std::move(file), memory, pages);
}

MeterPages::MeterPages(UniqueFd file, void *memory, std::uint32_t pages)
    : file_(std::move(file)), memory_(static_cast<std::uint8_t *>(memory)), pages_(pages), taken_(pages) {}

MeterPages::MeterPages(MeterPages &&other) noexcept
    : file_(std::move(other.file_)),
      memory_(std::exchange(other.memory_, nullptr)),
      pages_(other.pages_),
      taken_(std::move(other.taken_)) {}

MeterPages::~MeterPages() {
    if (memory_ != nullptr) ::munmap(memory_, pages_ * kMeterSize);
}

std::uint32_t MeterPages::take() {
    const auto free = std::ranges::find(taken_, false);
    if (free == taken_.end()) return kNoMeter;
    *free = true;
    return static_cast<std::uint32_t>(free - taken_.begin());
}

void MeterPages::give_back(std::uint32_t page) {
    if (page >= pages_ || !taken_[page]) return;
    const auto offset = static_cast<off_t>(page * kMeterSize);
    // Zero again, and no memory. If that cannot be, nobody else gets it.
    if (::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, kMeterSize) == 0)
        taken_[page] = false;
}

Meter &MeterPages::keep_only(std::uint32_t page) {
    static Meter nobody_reads_it;
    std::uint8_t *memory = std::exchange(memory_, nullptr);
    const std::size_t size = pages_ * kMeterSize;
    if (page >= pages_) {
        require(::munmap(memory, size) == 0, "mappings can be given up");
        return nobody_reads_it;
    }
    std::uint8_t *own = memory + page * kMeterSize;
    const auto before = static_cast<std::size_t>(own - memory);
    const std::size_t after = size - before - kMeterSize;
    require((before == 0 || ::munmap(memory, before) == 0) && (after == 0 || ::munmap(own + kMeterSize, after) == 0),
            "mappings can be given up");
    return *new (own) Meter;
}

}  // namespace vtpm
