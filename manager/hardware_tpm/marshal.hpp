// SPDX-License-Identifier: Apache-2.0
// Between the TSS' structures and the bytes that the store keeps.
#pragma once

#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>

#include "base/bytes.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {

// The two marshalling functions differ in type only.
template <typename T, typename Marshal>
Result<Bytes> marshalled(const T &value, Marshal marshal) {
    std::array<std::uint8_t, sizeof(T)> buffer{};
    std::size_t size = 0;
    const TSS2_RC rc = marshal(&value, buffer.data(), buffer.size(), &size);
    if (rc != TSS2_RC_SUCCESS) return tpm_failure(rc, "marshal");
    return Bytes(buffer.data(), buffer.data() + size);
}

template <typename T, typename Unmarshal>
Result<T> unmarshalled(ByteView bytes, Unmarshal unmarshal) {
    T value{};
    std::size_t consumed = 0;
    const TSS2_RC rc = unmarshal(bytes.data(), bytes.size(), &consumed, &value);
    if (rc != TSS2_RC_SUCCESS || consumed != bytes.size())
        return fail(ErrorCode::kRefused, "a key of the hardware TPM in the store is damaged");
    return value;
}

// An authorization, wiped when it goes.
struct Authorization : TPM2B_AUTH {
    explicit Authorization(ByteView authorization) : TPM2B_AUTH{static_cast<UINT16>(authorization.size()), {}} {
        std::ranges::copy(authorization, buffer);
    }
    Authorization(const Authorization &) = delete;
    Authorization &operator=(const Authorization &) = delete;
    ~Authorization() { explicit_bzero(static_cast<TPM2B_AUTH *>(this), sizeof(TPM2B_AUTH)); }
};

// What TPM2_Create takes as the secret part: an authorization, and data to seal. Wiped when it goes.
struct SensitiveCreate : TPM2B_SENSITIVE_CREATE {
    SensitiveCreate(ByteView authorization, ByteView data) : TPM2B_SENSITIVE_CREATE{} {
        sensitive.userAuth.size = static_cast<UINT16>(authorization.size());
        std::ranges::copy(authorization, sensitive.userAuth.buffer);
        sensitive.data.size = static_cast<UINT16>(data.size());
        std::ranges::copy(data, sensitive.data.buffer);
    }
    SensitiveCreate(const SensitiveCreate &) = delete;
    SensitiveCreate &operator=(const SensitiveCreate &) = delete;
    ~SensitiveCreate() { explicit_bzero(&sensitive, sizeof sensitive); }
};

}  // namespace vtpm
