// SPDX-License-Identifier: Apache-2.0
// The machine's TPM 2.0, for as long as the object lives: its connection, its storage primary, and sealing under it.
// After an error that passes (Error::passing), or kUnavailable, the object is good for nothing: open another one.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "manager/hardware_tpm/approval.hpp"
#include "manager/hardware_tpm/counter.hpp"
#include "manager/hardware_tpm/esys.hpp"
#include "manager/hardware_tpm/nv_handle.hpp"
#include "manager/hardware_tpm/session.hpp"
#include "manager/hardware_tpm/storage_primary.hpp"
#include "manager/tpm/endorsement_key.hpp"
#include "manager/tpm/evidence.hpp"
#include "manager/tpm/pcr_selection.hpp"
#include "manager/tpm/pcr_values.hpp"
#include "manager/tpm/sealed_object.hpp"
#include "manager/tpm/tpm_key.hpp"

namespace vtpm {

enum class NvUse { kNone, kSecret, kCounter, kForeign };

class HardwareTpm {
public:
    // `pinned`: the Name its storage primary must have (kRefused otherwise); empty: the first TPM is the right one.
    static Result<HardwareTpm> open(const std::string &tcti, ByteView pinned, const HierarchyPasswords &passwords = {});
    // Quicker, if it is opened again with the same `saved`.
    static Result<HardwareTpm> open(const std::string &tcti, ByteView pinned, const HierarchyPasswords &passwords,
                                    SavedPrimary &saved);

    [[nodiscard]] ByteView storage_key_name() const { return primary_.name; }
    // Vendor and firmware, as the TPM names them.
    [[nodiscard]] const std::string &description() const { return description_; }

    // What `pcrs` are now. kRefused if the TPM has not all of them.
    Result<PcrValues> read(const PcrSelection &pcrs);

    // `secret`, to be had back from this TPM only, while a counter is at `count`, and while `pcrs` are as they are now,
    // or in a boot that `approver` approves. At most 128 bytes. kRefused if the TPM has not all of the PCRs, or knows
    // no such key.
    Result<SealedObject> seal(ByteView secret, const PcrSelection &pcrs, const Count &count);
    Result<SealedObject> seal(ByteView secret, const Approver &approver, const Count &count);
    // kRefused if the PCRs differ (the error names them), the counter does, or the object is not of this TPM. Passes if
    // any PCR is extended meanwhile.
    Result<SecretBytes> unseal(const SealedObject &object, const PcrSelection &pcrs, const Count &count);
    Result<SecretBytes> unseal(const SealedObject &object, const Approver &approver, const ApprovedBoot &boot,
                               const Count &count);
    // kRefused if the object is not of this TPM, or was changed.
    Result<> require_own(const SealedObject &object);
    // kRefused unless the PCRs are as `approver` approved them.
    Result<> require_approved(const Approver &approver, const ApprovedBoot &boot);

    // TPM2_GetRandom: at most 32 bytes, less than any TPM's largest digest.
    Result<SecretBytes> random(std::size_t size);

    // A key for ECDSA on P-256 with SHA-256 that never leaves this TPM, and signs for who knows `authorization`.
    Result<TpmKey> create_signing_key(ByteView authorization);
    // Of a SHA-256 digest, as a DER ECDSA-Sig-Value. kRefused: another authorization, or a key of another TPM.
    Result<Bytes> sign(const TpmKey &key, ByteView authorization, ByteView digest);

    // The same key, which signs for who knows `next`. `key` itself, where a copy of it lies, goes on to sign for who
    // knows `former`. kRefused: as sign().
    Result<TpmKey> change_authorization(const TpmKey &key, ByteView former, ByteView next);

    // Whose TPM it is: the endorsement key that its maker certified, and the attestation key. `wanted`: the endorsement
    // key of that template, where a certificate lies elsewhere.
    Result<HostIdentity> identity(std::optional<EkTemplate> wanted = std::nullopt);
    // TPM2_ActivateCredential: the secret, if the credential is for this TPM's two keys. kInvalid: it is no credential;
    // kRefused: it is for others.
    Result<SecretBytes> activate(const Credential &credential);
    // Signed by the attestation key: what `pcrs` are, and that `ca`, a key that create_signing_key() made, is in this
    // TPM. `data`, at most 64 bytes, goes into both.
    Result<HostEvidence> attest(const PcrSelection &pcrs, const TpmKey &ca, ByteView ca_authorization, ByteView data);

    // NV indices of the owner's, which who knows `authorization` reads and writes. kNotFound: there is none, or nothing
    // was written yet; kRefused: it has another authorization.
    Result<SecretBytes> nv_read(std::uint32_t index, ByteView authorization, std::size_t size);
    // Defines it if there is none.
    Result<> nv_write(std::uint32_t index, ByteView authorization, ByteView content);
    // Whoever's it is.
    Result<> nv_remove(std::uint32_t index);
    // By its public area, and the TPM's word: what nv_write() makes for a content of `size` bytes, one of our counters,
    // or something else, which is another's.
    Result<NvUse> nv_use(std::uint32_t index, std::size_t size);
    // All of an index that everyone may read. kNotFound as above.
    Result<Bytes> nv_read_public(std::uint32_t index);

    // NV counters of the owner's, which anybody may read and increment. One that was removed and is defined again goes
    // on above its former values, whoever defines it.
    // kNotFound: there is none, or it was never incremented; kRefused: something else is there.
    Result<std::uint64_t> counter(std::uint32_t index);
    // Makes it if there is none.
    Result<std::uint64_t> ensure_counter(std::uint32_t index);
    Result<> increment(std::uint32_t index);

    // NV indices that there are, whoever made them.
    Result<std::vector<std::uint32_t>> nv_indices(std::uint32_t first, std::uint32_t last);

private:
    struct LoadedKey {
        TpmKey key;
        EsysHandle handle;
    };

    HardwareTpm(Esys esys, StoragePrimary primary, std::string description)
        : esys_(std::move(esys)), primary_(std::move(primary)), description_(std::move(description)) {}
    Result<> require_allocated(const PcrSelection &pcrs, const EsysHandle &audit);
    Error why_refused(Error refusal, const SealedObject &object, const PcrSelection &pcrs, const Count &count);
    Result<ESYS_TR> command_session();
    Result<EsysHandle> policy_session() {
        return start_session(esys_.get(), primary_.handle.get(), SessionUse::kPolicy);
    }
    // For one use: a TPM has room for three sessions.
    Result<EsysHandle> audit_session() { return start_session(esys_.get(), primary_.handle.get(), SessionUse::kAudit); }
    Result<SealedObject> create(ByteView secret, const TPM2B_DIGEST &policy);
    Result<TpmKey> create(const TPM2B_SENSITIVE_CREATE &sensitive, const TPM2B_PUBLIC &in_public);
    Result<EsysHandle> load(ByteView public_bytes, ByteView private_bytes);
    Result<ESYS_TR> loaded(const TpmKey &key, ByteView authorization);
    // The first assertions of a policy session.
    using PolicyBegin = std::function<Result<>(ESYS_TR policy_session)>;
    Result<SecretBytes> unseal(const EsysHandle &sealed, const Count &count, const PolicyBegin &begin);
    Result<> assert_count(const EsysHandle &policy_session, const NvHandle &counter, const Count &count);
    Result<Primary> create_endorsement_key(EkTemplate kind);
    Result<Bytes> certificate_chain();
    Result<> quote(const PcrSelection &pcrs, const Primary &key, ByteView data, HostEvidence &evidence);
    Result<TpmStatement> certify(const TpmKey &ca, ByteView ca_authorization, const Primary &key, ByteView data);

    Esys esys_;
    StoragePrimary primary_;
    std::string description_;
    std::optional<EsysHandle> command_session_;  // one for all commands: a salted one is dear to begin
    std::optional<LoadedKey> loaded_;            // the last one stays for its next signature
};

// Whether the object says that it opens under this policy; who has the disk could have written that.
bool sealed_for(const SealedObject &object, const PcrSelection &pcrs, const Count &count);
bool sealed_for(const SealedObject &object, const Approver &approver, const Count &count);

// TPM2_GetCapability. Without an audit session anybody may have answered.
Result<EsysPtr<TPMS_CAPABILITY_DATA>> capability(ESYS_CONTEXT *context, TPM2_CAP what, std::uint32_t first,
                                                 std::uint32_t count, ESYS_TR session = ESYS_TR_NONE);

}  // namespace vtpm
