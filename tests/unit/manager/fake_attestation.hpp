// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/sha.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>
#include <memory>

#include "manager/tpm/attestation_key.hpp"
#include "manager/tpm/ca_key.hpp"
#include "manager/tpm/evidence.hpp"
#include "manager/tpm/public_area.hpp"
#include "manager/tpm/tpm_key.hpp"
#include "openssl_keys.hpp"

// What a TPM says under its attestation key, in memory. Each member is what the test makes of it: a TPM that is none.
struct FakeAttestation {
    std::shared_ptr<EVP_PKEY> key{ec_key()};
    TPM2_GENERATED magic = TPM2_GENERATED_VALUE;
    TPM2_ST quote_type = TPM2_ST_ATTEST_QUOTE;
    vtpm::Bytes certified_name{};  // empty: the key's own
    TPMS_CLOCK_INFO clock{123'456, 7, 2, TPM2_YES};

    [[nodiscard]] vtpm::Bytes public_area() const {
        TPM2B_PUBLIC area{0, vtpm::attestation_key_form()};
        area.publicArea.unique = vtpm::public_area_of(key.get()).value().unique;
        return vtpm::marshalled(area);
    }
    [[nodiscard]] vtpm::HostIdentity identity() const { return {{}, {}, public_area()}; }

    [[nodiscard]] vtpm::HostEvidence attest(const vtpm::PcrSelection &pcrs, vtpm::PcrValues values,
                                            const vtpm::TpmKey &ca, vtpm::ByteView data) const {
        TPMS_ATTEST quote = statement(quote_type, data);
        const vtpm::Bytes digest = vtpm::digest_of(values).value();
        quote.attested.quote.pcrSelect = pcrs.tpm();
        quote.attested.quote.pcrDigest.size = static_cast<UINT16>(digest.size());
        std::ranges::copy(digest, quote.attested.quote.pcrDigest.buffer);
        TPMS_ATTEST certification = statement(TPM2_ST_ATTEST_CERTIFY, data);
        const auto area = vtpm::area_of_form(ca.public_area, vtpm::ca_key_form());
        const vtpm::Bytes name = certified_name.empty() ? vtpm::tpm_name(area.value()) : certified_name;
        certification.attested.certify.name.size = static_cast<UINT16>(name.size());
        std::ranges::copy(name, certification.attested.certify.name.name);
        return {public_area(), std::move(values), sign(quote), sign(certification)};
    }

private:
    [[nodiscard]] TPMS_ATTEST statement(TPM2_ST type, vtpm::ByteView data) const {
        TPMS_ATTEST attest{};
        attest.magic = magic;
        attest.type = type;
        attest.clockInfo = clock;
        attest.firmwareVersion = 0x2019102300163636;
        attest.extraData.size = static_cast<UINT16>(data.size());
        std::ranges::copy(data, attest.extraData.buffer);
        return attest;
    }
    [[nodiscard]] vtpm::TpmStatement sign(const TPMS_ATTEST &attest) const {
        vtpm::Bytes attested(sizeof attest);
        std::size_t size = 0;
        Tss2_MU_TPMS_ATTEST_Marshal(&attest, attested.data(), attested.size(), &size);
        attested.resize(size);
        std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
        SHA256(attested.data(), attested.size(), digest.data());
        const vtpm::Bytes der = ecdsa(key.get(), digest).value();
        const std::uint8_t *at = der.data();
        const vtpm::EcdsaSignature parsed(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
        TPMT_SIGNATURE signature{};
        signature.sigAlg = TPM2_ALG_ECDSA;
        signature.signature.ecdsa.hash = TPM2_ALG_SHA256;
        signature.signature.ecdsa.signatureR.size = 32;
        signature.signature.ecdsa.signatureS.size = 32;
        BN_bn2binpad(ECDSA_SIG_get0_r(parsed.get()), signature.signature.ecdsa.signatureR.buffer, 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(parsed.get()), signature.signature.ecdsa.signatureS.buffer, 32);
        vtpm::Bytes marshalled(sizeof signature);
        size = 0;
        Tss2_MU_TPMT_SIGNATURE_Marshal(&signature, marshalled.data(), marshalled.size(), &size);
        marshalled.resize(size);
        return {std::move(attested), std::move(marshalled)};
    }
};
