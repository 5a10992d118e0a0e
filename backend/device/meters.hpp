// SPDX-License-Identifier: Apache-2.0
// The meters of a zygote's engines, as the daemon reads them.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm {

class Meters {
public:
    // The file that GiveMeters brings. kInvalid: somebody might cut it while it is read.
    static Result<Meters> map(const UniqueFd &file);
    Meters(Meters &&other) noexcept;
    Meters &operator=(Meters &&other) noexcept;
    Meters(const Meters &) = delete;
    Meters &operator=(const Meters &) = delete;
    ~Meters();

    // Nothing: there is no such page.
    [[nodiscard]] std::optional<MeterReading> read(std::uint32_t page) const;

private:
    Meters(const void *memory, std::size_t size) : memory_(static_cast<const std::uint8_t *>(memory)), size_(size) {}

    const std::uint8_t *memory_;
    std::size_t size_;
};

}  // namespace vtpm
