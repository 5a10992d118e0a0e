// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/policy_digest.hpp"

#include <openssl/sha.h>
#include <tss2/tss2_mu.h>

#include <array>

#include "base/result.hpp"

namespace vtpm {
namespace {

void append(Bytes &out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

void append_number(Bytes &out, std::uint32_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

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
    Bytes with = marshalled(pcrs);
    append(with, sha256(joined(values)));
    extend(TPM2_CC_PolicyPCR, with);
    return *this;
}

PolicyDigest &PolicyDigest::authorize(const TPM2B_NAME &key, const TPM2B_NONCE &policy_ref) {
    value_ = {TPM2_SHA256_DIGEST_SIZE, {}};
    extend(TPM2_CC_PolicyAuthorize, {key.name, key.size});
    Bytes with_ref(value_.buffer, value_.buffer + value_.size);
    append(with_ref, {policy_ref.buffer, policy_ref.size});
    SHA256(with_ref.data(), with_ref.size(), value_.buffer);
    return *this;
}

PolicyDigest &PolicyDigest::nv_equals(const TPM2B_NAME &index, ByteView content) {
    Bytes arguments(content.begin(), content.end());
    append_number(arguments, 0, 2);  // the offset
    append_number(arguments, TPM2_EO_EQ, 2);
    Bytes with;
    append(with, sha256(arguments));
    append(with, {index.name, index.size});
    extend(TPM2_CC_PolicyNV, with);
    return *this;
}

PolicyDigest &PolicyDigest::command_code(TPM2_CC code) {
    Bytes with;
    append_number(with, code, 4);
    extend(TPM2_CC_PolicyCommandCode, with);
    return *this;
}

void PolicyDigest::extend(TPM2_CC assertion, ByteView with) {
    Bytes bytes(value_.buffer, value_.buffer + value_.size);
    append_number(bytes, assertion, 4);
    append(bytes, with);
    SHA256(bytes.data(), bytes.size(), value_.buffer);
}

}  // namespace vtpm
