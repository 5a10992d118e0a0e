// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/policy_digest.hpp"

#include <openssl/sha.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>

#include "base/result.hpp"

namespace vtpm {
namespace {

std::array<std::uint8_t, SHA256_DIGEST_LENGTH> sha256(ByteView bytes) {
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    SHA256(bytes.data(), bytes.size(), digest.data());
    return digest;
}

}  // namespace

Bytes marshalled(const PcrSelection &pcrs) {
    const TPML_PCR_SELECTION list = pcrs.tpm();
    std::array<std::uint8_t, sizeof list> buffer{};
    std::size_t size = 0;
    require(Tss2_MU_TPML_PCR_SELECTION_Marshal(&list, buffer.data(), buffer.size(), &size) == TSS2_RC_SUCCESS,
            "a PCR selection is marshalled");
    return {buffer.data(), buffer.data() + size};
}

PolicyDigest &PolicyDigest::pcrs(const PcrSelection &pcrs, const PcrValues &values) {
    return extend(TPM2_CC_PolicyPCR, BigEndian().raw(marshalled(pcrs)).raw(sha256(joined(values))));
}

PolicyDigest &PolicyDigest::authorize(const TPM2B_NAME &key, const TPM2B_NONCE &policy_ref) {
    value_ = {TPM2_SHA256_DIGEST_SIZE, {}};
    extend(TPM2_CC_PolicyAuthorize, BigEndian().raw({key.name, key.size}));
    return set(BigEndian().raw({value_.buffer, value_.size}).raw({policy_ref.buffer, policy_ref.size}));
}

PolicyDigest &PolicyDigest::nv_equals(const TPM2B_NAME &index, ByteView content) {
    constexpr std::uint16_t kOffset = 0;
    const auto arguments = sha256(BigEndian().raw(content).number(kOffset, 2).number(TPM2_EO_EQ, 2).bytes());
    return extend(TPM2_CC_PolicyNV, BigEndian().raw(arguments).raw({index.name, index.size}));
}

PolicyDigest &PolicyDigest::command_code(TPM2_CC code) {
    return extend(TPM2_CC_PolicyCommandCode, BigEndian().number(code, 4));
}

PolicyDigest &PolicyDigest::extend(TPM2_CC assertion, const BigEndian &with) {
    return set(BigEndian().raw({value_.buffer, value_.size}).number(assertion, 4).raw(with.bytes()));
}

PolicyDigest &PolicyDigest::set(const BigEndian &of) {
    std::ranges::copy(sha256(of.bytes()), value_.buffer);
    return *this;
}

}  // namespace vtpm
