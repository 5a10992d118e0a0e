// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/approval_fields.hpp"

#include <openssl/sha.h>

#include <algorithm>

#include "launch/hashes.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxGroupName = 64;
constexpr std::size_t kIdSize = 8;

}  // namespace

Result<> check_group(std::string_view what, const std::string &group) {
    const bool good = !group.empty() && group.size() <= kMaxGroupName &&
                      std::ranges::all_of(group, [](char c) { return c >= ' ' && c <= '~'; });
    if (good) return {};
    return fail(ErrorCode::kInvalid, "{}'s 'group' is 1 to {} printable ASCII characters", what, kMaxGroupName);
}

Result<> check_values(std::string_view what, const PcrSelection &pcrs, const PcrValues &values) {
    if (!std::ranges::equal(pcrs.numbers(), values, {}, {}, &PcrValues::value_type::first))
        return fail(ErrorCode::kInvalid, "{}'s 'values' must be those of its 'pcrs', no more and no less", what);
    const auto bank = launch::hash_of_algorithm(pcrs.tpm().pcrSelections[0].hash);
    const std::size_t size = bank ? launch::digest_size(*bank) : 0;
    for (const auto &[pcr, value] : values)
        if (value.size() != size)
            return fail(ErrorCode::kInvalid, "{}'s 'values': PCR {} of this bank has {} bytes, not {}", what, pcr, size,
                        value.size());
    return {};
}

Result<> check_generation(std::string_view what, std::uint32_t generation) {
    if (generation > 0) return {};
    return fail(ErrorCode::kInvalid, "{}'s 'generation' is 1 or more", what);
}

std::string document_id(ByteView document) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(document.data(), document.size(), digest.data());
    return to_hex(ByteView(digest).first(kIdSize));
}

}  // namespace vtpm
