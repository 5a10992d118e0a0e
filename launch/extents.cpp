// SPDX-License-Identifier: Apache-2.0
#include "launch/extents.hpp"

#include <algorithm>
#include <array>
#include <future>

namespace vtpm::launch {
namespace {

constexpr std::uint64_t kWorthThreads = 1024UL * 1024;  // bytes: some milliseconds

Result<> add_zeros(Hasher &hasher, std::uint64_t count) {
    static constexpr std::array<std::uint8_t, 65'536> kZeros{};
    for (std::uint64_t left = count; left > 0;) {
        const std::uint64_t size = std::min<std::uint64_t>(left, kZeros.size());
        VTPM_TRY(hasher.add(ByteView(kZeros).first(size)));
        left -= size;
    }
    return {};
}

Result<Digests> digests_in_one_pass(ByteView file, const Extents &extents, const Banks &banks, ByteView tail) {
    VTPM_ASSIGN(Hasher hasher, Hasher::begin(banks));
    for (const Extent &extent : extents) {
        VTPM_TRY(hasher.add(file.subspan(extent.offset, extent.size)));
        VTPM_TRY(add_zeros(hasher, extent.zeros));
    }
    VTPM_TRY(hasher.add(tail));
    return hasher.end();
}

}  // namespace

Result<std::uint64_t> checked_length(const Extents &extents, std::uint64_t file_size) {
    std::uint64_t length = 0;
    std::uint64_t zeros = 0;
    for (const Extent &extent : extents) {
        if (extent.offset > file_size || extent.size > file_size - extent.offset)
            return fail(ErrorCode::kInvalid, "{} bytes at offset {} are not in a file of {} bytes", extent.size,
                        extent.offset, file_size);
        if (extent.zeros > kMaxZeros || zeros + extent.zeros > kMaxZeros)
            return fail(ErrorCode::kInvalid, "more than {} bytes are claimed that are not in the file", kMaxZeros);
        if (length + extent.length() > kMaxHashed)
            return fail(ErrorCode::kInvalid, "more than {} bytes would have to be hashed", kMaxHashed);
        zeros += extent.zeros;
        length += extent.length();
    }
    return length;
}

// SHA-384 and SHA-512 take most of the time: each bank has a thread, where there are threads.
Result<Digests> digests_of(ByteView file, const Extents &extents, const Banks &banks, ByteView tail) {
    VTPM_ASSIGN(const std::uint64_t length, checked_length(extents, file.size()));
    if (length < kWorthThreads) return digests_in_one_pass(file, extents, banks, tail);
    std::vector<std::future<Result<Digests>>> parts;
    for (const Hash bank : banks)
        parts.push_back(std::async(std::launch::async | std::launch::deferred,
                                   [=, &extents] { return digests_in_one_pass(file, extents, {bank}, tail); }));
    Digests all;
    for (auto &part : parts) {
        VTPM_ASSIGN(Digests digests, part.get());
        all.merge(digests);
    }
    return all;
}

}  // namespace vtpm::launch
