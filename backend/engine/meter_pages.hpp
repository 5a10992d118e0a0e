// SPDX-License-Identifier: Apache-2.0
// The meters of a zygote's engines: one file in memory, a page for each. An engine keeps the mapping of its own only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm {

class MeterPages {
public:
    // Address space and no memory, until one is used. `pages`: engines beyond that many have no meter that is read.
    static Result<MeterPages> create(std::uint32_t pages = kMostMeters);
    MeterPages(MeterPages &&other) noexcept;
    MeterPages &operator=(MeterPages &&) = delete;
    MeterPages(const MeterPages &) = delete;
    MeterPages &operator=(const MeterPages &) = delete;
    ~MeterPages();

    // For who reads them. Its size is sealed: nobody makes a reader fault by cutting it.
    [[nodiscard]] int fd() const { return file_.get(); }
    // The page of a new engine, zero; kNoMeter: all are taken.
    std::uint32_t take();
    void give_back(std::uint32_t page);
    // In the engine: its own, and no mapping of another one's.
    Meter &keep_only(std::uint32_t page);

    static constexpr std::uint32_t kMostMeters = 16384;

private:
    MeterPages(UniqueFd file, void *memory, std::uint32_t pages);

    UniqueFd file_;
    std::uint8_t *memory_;
    std::uint32_t pages_;
    std::vector<bool> taken_;
};

}  // namespace vtpm
