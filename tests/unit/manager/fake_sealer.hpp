// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <ctime>
#include <functional>
#include <map>

#include "fake_attestation.hpp"
#include "fake_signing_keys.hpp"
#include "manager/boot/present_boot.hpp"
#include "manager/groups/sealer.hpp"

// By index: the authorization, and what is kept.
using FakeEpochs = std::map<std::uint32_t, std::pair<vtpm::Bytes, vtpm::Bytes>>;

// Hides nothing: for what is above the sealer. What it seals opens at one value of its group's counter. Its members are
// what the test makes of it.
struct FakeTpm {
    vtpm::Bytes identity{'o', 'n', 'e'};
    bool away = false;
    bool lists = true;      // the indices that it has
    std::string refused{};  // what is sealed to these PCRs does not open
    std::uint8_t boot = 1;  // every byte of every PCR
    unsigned readings = 0;  // of PCRs
    FakeEpochs epochs{};
    std::map<std::uint32_t, std::uint64_t> counters{};
    std::uint64_t highest = 0;  // that any of them ever was at
    bool signs = false;         // whether new vTPMs get certificates
    FakeSigningKeys keys{};
    FakeAttestation attestation{};
    // Where the manager ends when it moves an epoch, or a counter: before the TPM has it, or before it hears so.
    enum class Crash { kNone, kBeforeEpoch, kAfterEpoch, kBeforeCount, kAfterCount };
    Crash crash = Crash::kNone;
    std::function<void()> meanwhile{};  // while it is asked whether the present boot is approved
    std::function<void()> at_epoch{};   // while it is told an epoch

    [[nodiscard]] vtpm::OpenSealer opener();
    // From one index of a group's epoch to its other one; the counter is the first one's.
    static constexpr std::uint32_t kToOther = 0x1000;
    static std::uint32_t counter_of(std::uint32_t index) { return index & ~kToOther; }
    // A new one begins above all that there ever were.
    std::uint64_t count(std::uint32_t index) {
        const std::uint32_t counter = counter_of(index);
        if (!counters.contains(counter)) counters[counter] = ++highest;
        return counters[counter];
    }
    void increment(std::uint32_t index) { highest = std::max(highest, ++counters[counter_of(index)]); }
};

class FakeSealer final : public vtpm::Sealer {
public:
    explicit FakeSealer(FakeTpm *tpm) : identity_(tpm->identity), tpm_(tpm) {}
    [[nodiscard]] vtpm::ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string_view sealing() const override { return "tpm"; }
    [[nodiscard]] std::string description() const override { return "a fake"; }
    vtpm::Result<vtpm::SealedObject> seal(const vtpm::Key &key, const vtpm::KeyPolicy &policy, Opens opens) override {
        if (policy.nv_index == 0) return no_index();
        return vtpm::SealedObject{
            {},
            sealed_for(policy, tpm_->count(policy.nv_index) + (opens == Opens::kFromAdvance ? 1 : 0)),
            vtpm::Bytes(key.view().begin(), key.view().end())};
    }
    vtpm::Result<> advance(const vtpm::SealedObject &object, const vtpm::KeyPolicy &policy) override {
        const auto counter = tpm_->counters.find(FakeTpm::counter_of(policy.nv_index));
        if (counter == tpm_->counters.end()) return no_index();
        if (object.public_area == sealed_for(policy, counter->second)) return {};
        if (object.public_area != sealed_for(policy, counter->second + 1))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "sealed for another count");
        if (tpm_->crash == FakeTpm::Crash::kBeforeCount) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "crash");
        tpm_->increment(policy.nv_index);
        if (tpm_->crash == FakeTpm::Crash::kAfterCount) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "crash");
        return {};
    }
    vtpm::Result<vtpm::Key> unseal(const vtpm::SealedObject &object, const vtpm::KeyPolicy &policy,
                                   const std::vector<vtpm::BootPolicy> &approvals) override {
        VTPM_TRY(advance(object, policy));
        if (policy.approver) VTPM_TRY(require_approved(policy, approvals));
        if (!policy.pcrs.empty() && policy.pcrs.to_string() == tpm_->refused)
            return vtpm::fail(vtpm::ErrorCode::kRefused, "other PCRs");
        return vtpm::key_from(object.private_area);
    }
    vtpm::Result<vtpm::PcrValues> read(const vtpm::PcrSelection &pcrs) override {
        ++tpm_->readings;
        if (pcrs.to_string().starts_with("sha512"))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "hardware TPM: it has not all of the PCRs");
        vtpm::PcrValues values;
        for (const unsigned pcr : pcrs.numbers()) values[pcr] = vtpm::Bytes(32, tpm_->boot);
        return values;
    }

    vtpm::Result<vtpm::SecretBytes> random(std::size_t size) override { return vtpm::SecretBytes(size); }
    [[nodiscard]] bool has_signing_keys() const override { return tpm_->signs; }
    vtpm::Result<vtpm::TpmKey> create_signing_key(const vtpm::Key &authorization) override {
        return tpm_->keys.create(authorization.view());
    }
    vtpm::Result<vtpm::TpmKey> change_authorization(const vtpm::TpmKey &key, const vtpm::Key &former,
                                                    const vtpm::Key &next) override {
        return tpm_->keys.change(key, former.view(), next.view());
    }
    vtpm::Result<vtpm::Bytes> sign(const vtpm::TpmKey &key, const vtpm::Key &authorization,
                                   vtpm::ByteView digest) override {
        return tpm_->keys.sign(key, authorization.view(), digest);
    }

    vtpm::Result<vtpm::HostIdentity> host(std::optional<vtpm::EkTemplate> /*wanted*/) override {
        return tpm_->attestation.identity();
    }
    vtpm::Result<vtpm::SecretBytes> activate(const vtpm::Credential &) override {
        return vtpm::fail(vtpm::ErrorCode::kRefused, "a fake activates nothing");
    }
    vtpm::Result<vtpm::HostEvidence> attest(const vtpm::PcrSelection &pcrs, const vtpm::TpmKey &ca, const vtpm::Key &,
                                            vtpm::ByteView data) override {
        VTPM_ASSIGN(vtpm::PcrValues values, read(pcrs));
        return tpm_->attestation.attest(pcrs, std::move(values), ca, data);
    }

    vtpm::Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &taken) override {
        const auto is_taken = [&](std::uint32_t index) {
            return tpm_->epochs.contains(index) || std::ranges::find(taken, index) != taken.end();
        };
        std::uint32_t index = 1;
        while (is_taken(index) || is_taken(other_index(index))) ++index;
        return index;
    }
    [[nodiscard]] std::uint32_t other_index(std::uint32_t index) const override {
        return index == 0 ? 0 : index ^ FakeTpm::kToOther;
    }
    vtpm::Result<std::vector<std::uint32_t>> used_indices() override {
        if (!tpm_->lists) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "busy");
        std::vector<std::uint32_t> indices;
        for (const auto &[index, epoch] : tpm_->epochs) indices.push_back(index);
        return indices;
    }
    vtpm::Result<vtpm::SecretBytes> read_epoch(std::uint32_t index, const vtpm::Key &authorization) override {
        const auto found = tpm_->epochs.find(index);
        if (found == tpm_->epochs.end()) return vtpm::fail(vtpm::ErrorCode::kNotFound, "no index");
        if (!std::ranges::equal(found->second.first, authorization.view()))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "another authorization");
        return vtpm::SecretBytes(vtpm::ByteView(found->second.second));
    }
    vtpm::Result<> write_epoch(std::uint32_t index, const vtpm::Key &authorization, vtpm::ByteView epoch) override {
        const vtpm::ByteView key = authorization.view();
        if (tpm_->at_epoch) tpm_->at_epoch();
        if (tpm_->crash == FakeTpm::Crash::kBeforeEpoch) return vtpm::fail(vtpm::ErrorCode::kSystem, "crash");
        tpm_->epochs.insert_or_assign(
            index, std::pair(vtpm::Bytes(key.begin(), key.end()), vtpm::Bytes(epoch.begin(), epoch.end())));
        if (tpm_->crash == FakeTpm::Crash::kAfterEpoch) return vtpm::fail(vtpm::ErrorCode::kSystem, "crash");
        return {};
    }
    vtpm::Result<> remove_epoch(std::uint32_t index) override {
        tpm_->epochs.erase(index);
        return {};
    }
    vtpm::Result<> remove_counter(std::uint32_t index) override {
        tpm_->counters.erase(FakeTpm::counter_of(index));
        return {};
    }

    // As a TPM does it: an approval for another group, or for another generation of its key, counts for nothing.
    vtpm::Result<> require_approved(const vtpm::KeyPolicy &policy,
                                    const std::vector<vtpm::BootPolicy> &approvals) override {
        const auto read_pcrs = [this](const vtpm::PcrSelection &pcrs) { return read(pcrs); };
        if (tpm_->meanwhile) tpm_->meanwhile();
        VTPM_ASSIGN(const vtpm::BootPolicy *boot,
                    vtpm::approval_of_present_boot(approvals, *policy.approver, read_pcrs, std::time(nullptr)));
        if (boot->approval().group == policy.group && boot->approval().generation == policy.generation) return {};
        return vtpm::fail(vtpm::ErrorCode::kRefused, "for something else");
    }

private:
    static vtpm::Bytes sealed_for(const vtpm::KeyPolicy &policy, std::uint64_t count) {
        const std::string text = fmt::format("{} at {}", FakeTpm::counter_of(policy.nv_index), count);
        return {text.begin(), text.end()};
    }
    static tl::unexpected<vtpm::Error> no_index() {
        return vtpm::fail(vtpm::ErrorCode::kRefused, "the group has no counter");
    }

    vtpm::Bytes identity_;
    FakeTpm *tpm_;
};

inline vtpm::OpenSealer FakeTpm::opener() {
    return [this](vtpm::ByteView pinned) -> vtpm::Result<std::unique_ptr<vtpm::Sealer>> {
        if (away) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "no TPM");
        if (!pinned.empty() && !std::ranges::equal(pinned, identity))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "this is not the hardware TPM that sealed this store");
        return std::make_unique<FakeSealer>(this);
    };
}
