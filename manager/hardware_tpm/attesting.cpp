// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "manager/crypto/certificate_chain.hpp"
#include "manager/crypto/x509.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/tpm/attestation_key.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm {
namespace {

constexpr int kQuoteAttempts = 3;

Result<TpmStatement> statement(const TPM2B_ATTEST &attested, const TPMT_SIGNATURE &signature) {
    VTPM_ASSIGN(Bytes marshalled_signature, marshalled(signature, Tss2_MU_TPMT_SIGNATURE_Marshal));
    return TpmStatement{Bytes(attested.attestationData, attested.attestationData + attested.size),
                        std::move(marshalled_signature)};
}

TPM2B_DATA qualifying(ByteView data) {
    TPM2B_DATA out{static_cast<UINT16>(data.size()), {}};
    require(data.size() <= sizeof out.buffer, "a TPM qualifies by at most a digest");
    std::ranges::copy(data, out.buffer);
    return out;
}

// The PCRs may be extended between the two.
bool is_of(const TpmStatement &quote, const PcrValues &values) {
    TPMS_ATTEST attest{};
    std::size_t consumed = 0;
    const auto digest = digest_of(values);
    if (!digest || Tss2_MU_TPMS_ATTEST_Unmarshal(quote.attested.data(), quote.attested.size(), &consumed, &attest) !=
                       TSS2_RC_SUCCESS)
        return false;
    const TPM2B_DIGEST &quoted = attest.attested.quote.pcrDigest;
    return attest.type == TPM2_ST_ATTEST_QUOTE && std::ranges::equal(*digest, ByteView(quoted.buffer, quoted.size));
}

// TCG EK Credential Profile, B.6: PolicyA, which the templates have that we know.
Result<> assert_endorsement(ESYS_CONTEXT *context, ESYS_TR policy, ESYS_TR command) {
    return checked("TPM2_PolicySecret of the endorsement hierarchy", [&] {
        return Esys_PolicySecret(context, ESYS_TR_RH_ENDORSEMENT, policy, command, ESYS_TR_NONE, ESYS_TR_NONE, nullptr,
                                 nullptr, nullptr, 0, nullptr, nullptr);
    });
}

// Makers leave indices larger than the certificate in them.
Bytes without_padding(Bytes content) {
    const std::uint8_t *at = content.data();
    const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(content.size())));
    if (certificate) content.resize(static_cast<std::size_t>(at - content.data()));
    return content;
}

}  // namespace

Result<HostEvidence> HardwareTpm::attest(const PcrSelection &pcrs, const TpmKey &ca, ByteView ca_authorization,
                                         ByteView data) {
    VTPM_ASSIGN(const Primary key, create_primary(esys_.get(), Hierarchy::kEndorsement, attestation_key_form()));
    HostEvidence evidence;
    evidence.attestation_key = marshalled(TPM2B_PUBLIC{0, key.area});
    VTPM_TRY(quote(pcrs, key, data, evidence));
    VTPM_ASSIGN(evidence.ca_certification, certify(ca, ca_authorization, key, data));
    return evidence;
}

Result<> HardwareTpm::quote(const PcrSelection &pcrs, const Primary &key, ByteView data, HostEvidence &evidence) {
    const TPM2B_DATA extra = qualifying(data);
    const TPML_PCR_SELECTION selection = pcrs.tpm();
    TPMT_SIG_SCHEME scheme{};
    scheme.scheme = TPM2_ALG_NULL;  // the key's
    for (int attempt = 0; attempt < kQuoteAttempts; ++attempt) {
        VTPM_ASSIGN(evidence.values, read(pcrs));
        EsysPtr<TPM2B_ATTEST> attested;
        EsysPtr<TPMT_SIGNATURE> signature;
        VTPM_TRY(checked("TPM2_Quote", [&] {
            return Esys_Quote(esys_.get(), key.handle.get(), ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &extra,
                              &scheme, &selection, out(attested), out(signature));
        }));
        VTPM_ASSIGN(evidence.quote, statement(*attested, *signature));
        if (is_of(evidence.quote, evidence.values)) return {};
    }
    return fail(ErrorCode::kUnavailable,
                "the PCRs {} change while they are quoted: try again, or leave out those that do", pcrs.to_string());
}

Result<TpmStatement> HardwareTpm::certify(const TpmKey &ca, ByteView ca_authorization, const Primary &key,
                                          ByteView data) {
    VTPM_ASSIGN(const ESYS_TR certified, loaded(ca, ca_authorization));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const TPM2B_DATA extra = qualifying(data);
    TPMT_SIG_SCHEME scheme{};
    scheme.scheme = TPM2_ALG_NULL;  // the key's
    EsysPtr<TPM2B_ATTEST> attested;
    EsysPtr<TPMT_SIGNATURE> signature;
    VTPM_TRY(checked("TPM2_Certify", [&] {
        return Esys_Certify(esys_.get(), certified, key.handle.get(), command, ESYS_TR_PASSWORD, ESYS_TR_NONE, &extra,
                            &scheme, out(attested), out(signature));
    }));
    return statement(*attested, *signature);
}

// The certificate decides which key: TPMs may be able to make others, for which their maker signed nothing.
Result<HostIdentity> HardwareTpm::identity(std::optional<EkTemplate> wanted) {
    EkTemplate kind = wanted.value_or(EkTemplate::kEccP256);
    HostIdentity identity;
    for (const EkTemplate candidate : {EkTemplate::kEccP256, EkTemplate::kRsa2048}) {
        if (wanted && candidate != *wanted) continue;
        auto certificate = nv_read_public(ek_certificate_index(candidate));
        if (!certificate && certificate.error().code != ErrorCode::kNotFound)
            return tl::make_unexpected(std::move(certificate).error());
        if (!certificate) continue;
        kind = candidate;
        identity.endorsement_certificate = without_padding(std::move(*certificate));
        VTPM_ASSIGN(identity.endorsement_chain, certificate_chain());
        break;
    }
    {
        VTPM_ASSIGN(const Primary ek, create_endorsement_key(kind));
        identity.endorsement_key = marshalled(TPM2B_PUBLIC{0, ek.area});
    }
    VTPM_ASSIGN(const Primary ak, create_primary(esys_.get(), Hierarchy::kEndorsement, attestation_key_form()));
    identity.attestation_key = marshalled(TPM2B_PUBLIC{0, ak.area});
    return identity;
}

// Only help: an index that cannot be read has none, and more than makers use is not looked for.
Result<Bytes> HardwareTpm::certificate_chain() {
    constexpr std::size_t kMostIndices = 16;
    VTPM_ASSIGN(auto indices, nv_indices(kEkCertificateChainIndex, kLastEkCertificateChainIndex));
    indices.resize(std::min(indices.size(), kMostIndices));
    std::vector<Bytes> contents;
    for (const std::uint32_t index : indices) {
        auto content = nv_read_public(index);
        if (!content && content.error().code == ErrorCode::kUnavailable)
            return tl::make_unexpected(std::move(content).error());
        if (content) contents.push_back(std::move(*content));
    }
    return certificates_in_indices(contents);
}

Result<Primary> HardwareTpm::create_endorsement_key(EkTemplate kind) {
    VTPM_ASSIGN(const auto in, unmarshalled<TPM2B_PUBLIC>(ek_template(kind), Tss2_MU_TPM2B_PUBLIC_Unmarshal));
    return create_primary(esys_.get(), Hierarchy::kEndorsement, in.publicArea);
}

Result<SecretBytes> HardwareTpm::activate(const Credential &credential) {
    const auto malformed = fail(ErrorCode::kInvalid, "the challenge is damaged");
    const auto asked = endorsement_key(credential.endorsement_key);
    const auto id = unmarshalled<TPM2B_ID_OBJECT>(credential.id_object, Tss2_MU_TPM2B_ID_OBJECT_Unmarshal);
    const auto encrypted =
        unmarshalled<TPM2B_ENCRYPTED_SECRET>(credential.encrypted_secret, Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal);
    if (!asked || asked->kind == EkTemplate::kEccP384 || !id || !encrypted) return malformed;
    VTPM_ASSIGN(const Primary ek, create_endorsement_key(asked->kind));
    if (marshalled(ek.area) != marshalled(asked->area))
        return fail(ErrorCode::kRefused, "the challenge is for another TPM: it is not for this one's endorsement key");
    VTPM_ASSIGN(const Primary ak, create_primary(esys_.get(), Hierarchy::kEndorsement, attestation_key_form()));
    VTPM_ASSIGN(const EsysHandle policy, policy_session());
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    VTPM_TRY(assert_endorsement(esys_.get(), policy.get(), command));
    EsysPtr<TPM2B_DIGEST> secret;
    const TSS2_RC rc = with_retry([&] {
        return Esys_ActivateCredential(esys_.get(), ak.handle.get(), ek.handle.get(), ESYS_TR_PASSWORD, policy.get(),
                                       ESYS_TR_NONE, &*id, &*encrypted, out(secret));
    });
    if (rc == TSS2_RC_SUCCESS) return SecretBytes(ByteView(secret->buffer, secret->size));
    if (auto failure = tpm_failure(rc, "TPM2_ActivateCredential"); failure.value().code == ErrorCode::kUnavailable)
        return failure;
    return fail(ErrorCode::kRefused, "the challenge was changed, or is not for this TPM's attestation key ({:#x})", rc);
}

}  // namespace vtpm
