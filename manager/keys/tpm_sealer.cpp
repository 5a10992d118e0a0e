// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/tpm_sealer.hpp"

#include <algorithm>
#include <ctime>

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/policy/event_record.hpp"
#include "manager/policy/measured_boot.hpp"
#include "manager/policy/present_boot.hpp"

namespace vtpm {
namespace {

// Of those that are left to the owner (TCG Registry of Reserved TPM 2.0 Handles, 2.2.2).
constexpr std::uint32_t kFirstIndex = 0x0180a700;
constexpr std::uint32_t kLastIndex = 0x0180a7ff;
constexpr std::size_t kEpochSize = 32;

class TpmSealer final : public Sealer {
public:
    TpmSealer(HardwareTpm tpm, std::string event_log) : tpm_(std::move(tpm)), event_log_(std::move(event_log)) {}

    [[nodiscard]] ByteView identity() const override { return tpm_.storage_key_name(); }
    [[nodiscard]] std::string description() const override { return tpm_.description(); }

    Result<SealedObject> seal(const Key &key, const KeyPolicy &policy) override {
        if (policy.approver) return tpm_.seal(key.view(), approver_of(policy));
        VTPM_ASSIGN(SealedObject object, tpm_.seal(key.view(), policy.pcrs));
        object.pcr_events = event_record(events(policy.pcrs));
        return object;
    }

    Result<Key> unseal(const SealedObject &object, const KeyPolicy &policy,
                       const std::vector<BootPolicy> &approvals) override {
        const auto plaintext =
            policy.approver ? unseal_approved(object, policy, approvals) : tpm_.unseal(object, policy.pcrs);
        if (!plaintext) return tl::make_unexpected(explained(plaintext.error(), object, policy));
        return key_from(plaintext->view());
    }

    Result<PcrValues> read(const PcrSelection &pcrs) override { return tpm_.read(pcrs); }

    Result<SecretBytes> random(std::size_t size) override { return tpm_.random(size); }
    [[nodiscard]] bool has_signing_keys() const override { return true; }
    Result<TpmKey> create_signing_key(const Key &authorization) override {
        return tpm_.create_signing_key(authorization.view());
    }
    Result<Bytes> sign(const TpmKey &key, const Key &authorization, ByteView digest) override {
        return tpm_.sign(key, authorization.view(), digest);
    }
    Result<HostIdentity> host() override { return tpm_.identity(); }
    Result<SecretBytes> activate(const Credential &credential) override { return tpm_.activate(credential); }
    Result<HostEvidence> attest(const PcrSelection &pcrs, const TpmKey &ca, const Key &ca_authorization,
                                ByteView data) override {
        return tpm_.attest(pcrs, ca, ca_authorization.view(), data);
    }

    Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &taken) override {
        VTPM_ASSIGN(const auto used, used_indices());
        const auto is_in = [](const std::vector<std::uint32_t> &list, std::uint32_t index) {
            return std::ranges::find(list, index) != list.end();
        };
        for (std::uint32_t index = kFirstIndex; index <= kLastIndex; ++index)
            if (!is_in(used, index) && !is_in(taken, index)) return index;
        return fail(ErrorCode::kRefused, "the hardware TPM's NV indices {:#x} to {:#x} are all in use", kFirstIndex,
                    kLastIndex);
    }
    Result<std::vector<std::uint32_t>> used_indices() override { return tpm_.nv_indices(kFirstIndex, kLastIndex); }
    Result<SecretBytes> read_epoch(std::uint32_t index, const Key &authorization) override {
        return tpm_.nv_read(index, authorization.view(), kEpochSize);
    }
    Result<> write_epoch(std::uint32_t index, const Key &authorization, ByteView epoch) override {
        return tpm_.nv_write(index, authorization.view(), epoch);
    }
    Result<> remove_epoch(std::uint32_t index) override { return tpm_.nv_remove(index); }

private:
    static Approver approver_of(const KeyPolicy &policy) {
        return policy.approver->for_tpm(policy_ref(policy.group, policy.generation));
    }

    Result<SecretBytes> unseal_approved(const SealedObject &object, const KeyPolicy &policy,
                                        const std::vector<BootPolicy> &approvals) {
        const auto read_pcrs = [this](const PcrSelection &pcrs) { return tpm_.read(pcrs); };
        const auto read_events = [this](const PcrSelection &pcrs) { return events(pcrs); };
        VTPM_ASSIGN(const BootPolicy *boot,
                    approval_of_present_boot(approvals, *policy.approver, read_pcrs, std::time(nullptr), read_events));
        VTPM_ASSIGN(const ApprovedBoot approved, boot->for_tpm(*policy.approver));
        return tpm_.unseal(object, approver_of(policy), approved);
    }

    [[nodiscard]] std::vector<BootEvent> events(const PcrSelection &pcrs) const {
        return pcrs.empty() ? std::vector<BootEvent>() : read_event_log(pcrs, event_log_);
    }

    // With the events behind the PCRs that differ, if they do.
    Error explained(Error error, const SealedObject &object, const KeyPolicy &policy) {
        if (error.code != ErrorCode::kRefused) return error;
        const auto now = tpm_.read(policy.pcrs);
        if (!now) return error;
        const PcrValues before = split(policy.pcrs, object.pcr_values);
        const std::string why = explain(before, *now, object.pcr_events, events(policy.pcrs));
        if (!why.empty()) error.text += "; " + why;
        return error;
    }

    HardwareTpm tpm_;
    std::string event_log_;
};

}  // namespace

Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned,
                                                const std::string &event_log) {
    VTPM_ASSIGN(HardwareTpm tpm, HardwareTpm::open(tcti, pinned));
    return std::make_unique<TpmSealer>(std::move(tpm), event_log);
}

}  // namespace vtpm
