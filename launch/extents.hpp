// SPDX-License-Identifier: Apache-2.0
// Parts of a file: which bytes a digest is over.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "launch/hashes.hpp"

namespace vtpm::launch {

// `size` bytes of the file from `offset` on, then `zeros` bytes that are zero.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t zeros = 0;
    [[nodiscard]] std::uint64_t length() const { return size + zeros; }
    bool operator==(const Extent &) const = default;
};
using Extents = std::vector<Extent>;

// One file; all that its digests are over; and what of that is only claimed: a kernel's memory that is zero when it
// starts has some tens of MiB, and a few bytes of a file that claim gigabytes would keep the host busy.
constexpr std::uint64_t kMaxFile = 1024UL * 1024 * 1024;
constexpr std::uint64_t kMaxHashed = 4 * kMaxFile;
constexpr std::uint64_t kMaxZeros = 256UL * 1024 * 1024;

// Sum of the lengths. kInvalid: an extent is not within a file of `file_size` bytes, or they are more than kMaxHashed,
// or their zeros more than kMaxZeros.
Result<std::uint64_t> checked_length(const Extents &extents, std::uint64_t file_size);

// The digests over the extents, one after the other, and then over `tail`. kInvalid as above. Has threads for a long
// file, which end before it returns.
Result<Digests> digests_of(ByteView file, const Extents &extents, const Banks &banks, ByteView tail = {});

}  // namespace vtpm::launch
