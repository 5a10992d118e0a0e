// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <memory>

#include "manager/tpm/ca_key.hpp"
#include "manager/tpm/public_area.hpp"
#include "manager/tpm/tpm_key.hpp"
#include "openssl_keys.hpp"

// ECDSA keys as a TPM keeps them, in memory: the private area is a number.
class FakeSigningKeys {
public:
    vtpm::Result<vtpm::TpmKey> create(vtpm::ByteView authorization) {
        vtpm::EvpKey key = ec_key();
        TPM2B_PUBLIC area{0, vtpm::ca_key_form()};
        VTPM_ASSIGN(const TPMT_PUBLIC given, vtpm::public_area_of(key.get()));
        area.publicArea.unique = given.unique;
        const auto number = static_cast<std::uint8_t>(keys_.size());
        keys_.emplace(number, Kept{std::move(key), {authorization.begin(), authorization.end()}});
        return vtpm::TpmKey{vtpm::marshalled(area), {number}};
    }

    vtpm::Result<vtpm::Bytes> sign(const vtpm::TpmKey &key, vtpm::ByteView authorization, vtpm::ByteView digest) {
        const auto found = keys_.find(key.private_area.empty() ? 255 : key.private_area[0]);
        if (found == keys_.end()) return vtpm::fail(vtpm::ErrorCode::kRefused, "a key of another TPM");
        if (!std::ranges::equal(found->second.authorization, authorization))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "another authorization");
        return ecdsa(found->second.key.get(), digest);
    }

    // Under another number: the former goes on to sign.
    vtpm::Result<vtpm::TpmKey> change(const vtpm::TpmKey &key, vtpm::ByteView former, vtpm::ByteView next) {
        VTPM_TRY(sign(key, former, vtpm::Bytes(32)));
        const auto number = static_cast<std::uint8_t>(keys_.size());
        keys_.emplace(number, Kept{keys_.at(key.private_area[0]).key, {next.begin(), next.end()}});
        return vtpm::TpmKey{key.public_area, {number}};
    }

private:
    struct Kept {
        std::shared_ptr<EVP_PKEY> key;  // a fake TPM is copied
        vtpm::Bytes authorization;
    };
    std::map<std::uint8_t, Kept> keys_;
};
