// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/pcr_values.hpp"

#include <fmt/ranges.h>
#include <openssl/evp.h>

namespace vtpm {

Bytes joined(const PcrValues &values) {
    Bytes all;
    for (const Bytes &value : values) all.insert(all.end(), value.begin(), value.end());
    return all;
}

PcrValues split(const PcrSelection &pcrs, ByteView bytes) {
    PcrValues values;
    const std::size_t count = pcrs.numbers().size();
    if (count == 0 || bytes.size() % count != 0) return values;
    const std::size_t size = bytes.size() / count;
    for (std::size_t i = 0; i < count; ++i) {
        const ByteView value = bytes.subspan(i * size, size);
        values.emplace_back(value.begin(), value.end());
    }
    return values;
}

Result<Bytes> digest_of(const PcrValues &values) {
    const Bytes all = joined(values);
    Bytes digest(32);
    if (EVP_Digest(all.data(), all.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
        return fail(ErrorCode::kSystem, "SHA-256 failed");
    return digest;
}

std::string differences(const PcrSelection &pcrs, const PcrValues &were, const PcrValues &are) {
    const auto numbers = pcrs.numbers();
    if (were.size() != numbers.size() || are.size() != numbers.size()) return {};
    std::string text;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (were[i] == are[i]) continue;
        if (!text.empty()) text += "; ";
        text += fmt::format("PCR {} was {:02x}, is {:02x}", numbers[i], fmt::join(were[i], ""), fmt::join(are[i], ""));
    }
    return text;
}

}  // namespace vtpm
