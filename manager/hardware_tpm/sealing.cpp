// SPDX-License-Identifier: Apache-2.0
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <span>

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/hardware_tpm/session.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/tpm/policy_digest.hpp"

namespace vtpm {
namespace {

constexpr int kAttemptsAtOnce = 20;  // of at most some 100 ms each

// A sealed data object that only its policy opens: no userWithAuth, and no dictionary-attack lockout on its account.
TPM2B_PUBLIC sealed_template(const TPM2B_DIGEST &policy) {
    TPM2B_PUBLIC object{};
    TPMT_PUBLIC &area = object.publicArea;
    area.type = TPM2_ALG_KEYEDHASH;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes =
        TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_NODA;
    area.authPolicy = policy;
    area.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL;
    return object;
}

// PolicyNV after PolicyAuthorize, which begins anew: no approver can say what the counter is.
TPM2B_DIGEST finished(PolicyDigest digest, const Count &count) {
    return digest.nv_equals(counter_name(count.index), content_of(count)).command_code(TPM2_CC_Unseal).value();
}

TPM2B_DIGEST policy_of(const PcrSelection &pcrs, const PcrValues &values, const Count &count) {
    return finished(pcrs.empty() ? PolicyDigest() : PolicyDigest().pcrs(pcrs, values), count);
}

TPM2B_DIGEST policy_of(const Approver &approver, const Count &count) {
    return finished(PolicyDigest().authorize(approver.name, approver.policy_ref), count);
}

bool has_policy(const SealedObject &object, const TPM2B_DIGEST &policy) {
    const auto area = unmarshalled<TPM2B_PUBLIC>(object.public_area, Tss2_MU_TPM2B_PUBLIC_Unmarshal);
    if (!area) return false;
    const TPM2B_DIGEST &its = area->publicArea.authPolicy;
    return std::ranges::equal(std::span(its.buffer, its.size), std::span(policy.buffer, policy.size));
}

}  // namespace

bool sealed_for(const SealedObject &object, const PcrSelection &pcrs, const Count &count) {
    return has_policy(object, policy_of(pcrs, split(pcrs, object.pcr_values), count));
}

bool sealed_for(const SealedObject &object, const Approver &approver, const Count &count) {
    return has_policy(object, policy_of(approver, count));
}

Result<SealedObject> HardwareTpm::seal(ByteView secret, const PcrSelection &pcrs, const Count &count) {
    VTPM_ASSIGN(const PcrValues values, read(pcrs));
    VTPM_ASSIGN(SealedObject object, create(secret, policy_of(pcrs, values, count)));
    object.pcr_values = joined(values);
    return object;
}

Result<SealedObject> HardwareTpm::seal(ByteView secret, const Approver &approver, const Count &count) {
    VTPM_TRY(require_usable(esys_.get(), approver));
    return create(secret, policy_of(approver, count));
}

Result<SealedObject> HardwareTpm::create(ByteView secret, const TPM2B_DIGEST &policy) {
    require(secret.size() <= 128, "a TPM seals at most MAX_SYM_DATA bytes");
    VTPM_ASSIGN(TpmKey object, create(SensitiveCreate({}, secret), sealed_template(policy)));
    return SealedObject{{}, std::move(object.public_area), std::move(object.private_area)};
}

Result<TpmKey> HardwareTpm::create(const TPM2B_SENSITIVE_CREATE &sensitive, const TPM2B_PUBLIC &in_public) {
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const TPM2B_DATA outside_info{};
    const TPML_PCR_SELECTION creation_pcrs{};
    EsysPtr<TPM2B_PRIVATE> private_area;
    EsysPtr<TPM2B_PUBLIC> public_area;
    VTPM_TRY(checked("TPM2_Create", [&] {
        return Esys_Create(esys_.get(), primary_.handle.get(), command, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive,
                           &in_public, &outside_info, &creation_pcrs, out(private_area), out(public_area), nullptr,
                           nullptr, nullptr);
    }));
    TpmKey object;
    VTPM_ASSIGN(object.public_area, marshalled(*public_area, Tss2_MU_TPM2B_PUBLIC_Marshal));
    VTPM_ASSIGN(object.private_area, marshalled(*private_area, Tss2_MU_TPM2B_PRIVATE_Marshal));
    return object;
}

Result<EsysHandle> HardwareTpm::load(ByteView public_bytes, ByteView private_bytes) {
    VTPM_ASSIGN(const auto public_area, unmarshalled<TPM2B_PUBLIC>(public_bytes, Tss2_MU_TPM2B_PUBLIC_Unmarshal));
    VTPM_ASSIGN(const auto private_area, unmarshalled<TPM2B_PRIVATE>(private_bytes, Tss2_MU_TPM2B_PRIVATE_Unmarshal));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    ESYS_TR raw = ESYS_TR_NONE;
    VTPM_TRY(checked("TPM2_Load of a key in the store", [&] {
        return Esys_Load(esys_.get(), primary_.handle.get(), command, ESYS_TR_NONE, ESYS_TR_NONE, &private_area,
                         &public_area, &raw);
    }));
    return EsysHandle(esys_.get(), raw);
}

// Whether the PCRs are to blame is told by them alone: the TPM names no reason, and neither do we without having one.
Error HardwareTpm::why_refused(Error refusal, const SealedObject &object, const PcrSelection &pcrs,
                               const Count &count) {
    const auto are = read(pcrs);
    if (!are) return are.error();
    const std::string different = differences(split(pcrs, object.pcr_values), *are);
    if (!different.empty())
        return {ErrorCode::kRefused,
                fmt::format("the hardware TPM does not unseal the group key: the PCRs {} are not as they were when it "
                            "was sealed: this host booted something else: {}",
                            pcrs.to_string(), different)};
    const auto at = counter(count.index);
    if (!at) return at.error();
    if (*at != count.value || !sealed_for(object, pcrs, count)) return refusal;
    return {ErrorCode::kUnavailable,
            fmt::format("the hardware TPM does not unseal the group key, though PCRs and counter are as they were when "
                        "it was sealed: {}",
                        refusal.text),
            true};
}

Result<SecretBytes> HardwareTpm::unseal(const SealedObject &object, const PcrSelection &pcrs, const Count &count) {
    VTPM_ASSIGN(const EsysHandle sealed, load(object.public_area, object.private_area));
    auto secret = unseal(sealed, count, [&](ESYS_TR policy) {
        return pcrs.empty() ? Result<>() : assert_pcrs(esys_.get(), policy, pcrs);
    });
    if (!secret && secret.error().code == ErrorCode::kRefused && !pcrs.empty())
        return tl::make_unexpected(why_refused(std::move(secret).error(), object, pcrs, count));
    return secret;
}

Result<SecretBytes> HardwareTpm::unseal(const SealedObject &object, const Approver &approver, const ApprovedBoot &boot,
                                        const Count &count) {
    VTPM_ASSIGN(const ApprovalTicket ticket, verify(esys_.get(), approver, boot));
    VTPM_ASSIGN(
        const EsysHandle sealed,
        load(object.public_area, object.private_area));  // after the approver's key is gone: a TPM holds three objects
    return unseal(sealed, count,
                  [&](ESYS_TR policy) { return assert_approved_boot(esys_.get(), policy, approver, boot, ticket); });
}

Result<> HardwareTpm::require_own(const SealedObject &object) {
    VTPM_TRY(load(object.public_area, object.private_area));
    return {};
}

Result<> HardwareTpm::require_approved(const Approver &approver, const ApprovedBoot &boot) {
    VTPM_ASSIGN(const ApprovalTicket ticket, verify(esys_.get(), approver, boot));
    VTPM_ASSIGN(const EsysHandle policy, policy_session());
    return assert_approved_boot(esys_.get(), policy.get(), approver, boot, ticket);
}

// Between TPM2_PolicyPCR and TPM2_Unseal nobody may extend a PCR, whichever. So all that can come before comes before;
// and whoever does it again and again leaves a gap sooner or later: the session begins again at once, some times.
Result<SecretBytes> HardwareTpm::unseal(const EsysHandle &sealed, const Count &count, const PolicyBegin &begin) {
    VTPM_ASSIGN(const NvHandle counter, find_counter(esys_.get(), count.index));
    VTPM_ASSIGN(const EsysHandle policy, policy_session());
    for (int attempt = 1;; ++attempt) {
        VTPM_TRY(begin(policy.get()));
        VTPM_TRY(assert_count(policy, counter, count));
        VTPM_TRY(assert_unseal(esys_.get(), policy.get()));
        EsysPtr<TPM2B_SENSITIVE_DATA> secret;
        const TSS2_RC rc = with_retry([&] {
            return Esys_Unseal(esys_.get(), sealed.get(), policy.get(), ESYS_TR_NONE, ESYS_TR_NONE, out(secret));
        });
        if (rc == TSS2_RC_SUCCESS) return SecretBytes(ByteView(secret->buffer, secret->size));
        if (plain_code(rc) != TPM2_RC_PCR_CHANGED || attempt == kAttemptsAtOnce) return tpm_failure(rc, "TPM2_Unseal");
        VTPM_TRY(restart(esys_.get(), policy.get()));
    }
}

}  // namespace vtpm
