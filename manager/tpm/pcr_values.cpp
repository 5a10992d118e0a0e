// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/pcr_values.hpp"

#include <fmt/ranges.h>
#include <openssl/evp.h>

namespace vtpm {

Bytes joined(const PcrValues &values) {
    Bytes all;
    for (const auto &[pcr, value] : values) all.insert(all.end(), value.begin(), value.end());
    return all;
}

PcrValues split(const PcrSelection &pcrs, ByteView bytes) {
    PcrValues values;
    const auto numbers = pcrs.numbers();
    if (numbers.empty() || bytes.size() % numbers.size() != 0) return values;
    const std::size_t size = bytes.size() / numbers.size();
    for (const unsigned pcr : numbers) {
        values[pcr].assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        bytes = bytes.subspan(size);
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

std::string differences(const PcrValues &before, const PcrValues &now, std::string_view were) {
    std::string text;
    for (const auto &[pcr, value] : before) {
        const auto present = now.find(pcr);
        if (present == now.end() || present->second == value) continue;
        text += fmt::format("{}PCR {} {} {:02x}, is {:02x}", text.empty() ? "" : "; ", pcr, were, fmt::join(value, ""),
                            fmt::join(present->second, ""));
    }
    return text;
}

}  // namespace vtpm
