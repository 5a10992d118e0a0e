// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/tpm_sealer.hpp"

#include <algorithm>
#include <ctime>
#include <optional>
#include <type_traits>

#include "manager/boot/event_record.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/boot/present_boot.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

// Of those that are left to the owner (TCG Registry of Reserved TPM 2.0 Handles, 2.2.2). A group has two indices for
// its epoch, of which it uses one, and one for its counter.
constexpr std::uint32_t kFirstIndex = 0x0180a700;
constexpr std::uint32_t kFirstCounter = 0x0180a800;
constexpr std::uint32_t kFirstOther = 0x0180a900;
constexpr std::uint32_t kGroups = 0x100;

bool is_in(const std::vector<std::uint32_t> &list, std::uint32_t index) {
    return std::ranges::find(list, index) != list.end();
}

bool is_epoch(std::uint32_t index) {
    const std::uint32_t first = index - index % kGroups;
    return first == kFirstIndex || first == kFirstOther;
}

class TpmSealer final : public Sealer {
public:
    TpmSealer(std::string tcti, std::string event_log, GivePasswords passwords, std::shared_ptr<TpmReuse> reuse)
        : tcti_(std::move(tcti)),
          event_log_(std::move(event_log)),
          passwords_(std::move(passwords)),
          reuse_(std::move(reuse)) {}
    ~TpmSealer() override {
        if (!tpm_ || !sound_) return;
        reuse_->tcti = tcti_;
        reuse_->tpm.emplace(std::move(*tpm_));
    }
    TpmSealer(const TpmSealer &) = delete;
    TpmSealer &operator=(const TpmSealer &) = delete;

    // Before anything else. `pinned` as HardwareTpm::open() has it.
    Result<> open(ByteView pinned) {
        identity_.assign(pinned.begin(), pinned.end());
        return ask([this](HardwareTpm &tpm) -> Result<> {
            identity_.assign(tpm.storage_key_name().begin(), tpm.storage_key_name().end());
            description_ = tpm.description();
            return {};
        });
    }

    [[nodiscard]] ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string_view sealing() const override { return "tpm"; }
    [[nodiscard]] std::string description() const override { return description_; }

    // For the counter's present value, or its next one. A counter that an attempt to create the group left is as good
    // as a new one.
    Result<SealedObject> seal(const Key &key, const KeyPolicy &policy, Opens opens) override {
        VTPM_ASSIGN(const std::uint32_t index, counter_of(policy.nv_index));
        return ask([&](HardwareTpm &tpm) -> Result<SealedObject> {
            VTPM_ASSIGN(const std::uint64_t present, tpm.ensure_counter(index));
            const Count count{index, opens == Opens::kUntilAdvance ? present : present + 1};
            if (policy.approver) return tpm.seal(key.view(), approver_of(policy), count);
            VTPM_ASSIGN(SealedObject object, tpm.seal(key.view(), policy.pcrs, count));
            object.pcr_events = event_record(events(policy.pcrs));
            return object;
        });
    }

    Result<> advance(const SealedObject &object, const KeyPolicy &policy) override {
        return ask([&](HardwareTpm &tpm) -> Result<> {
            VTPM_ASSIGN(const Count after, advanced(tpm, object, policy));
            if (!is_sealed_for(object, policy, after)) return another_count(after);
            return {};
        });
    }

    Result<Key> unseal(const SealedObject &object, const KeyPolicy &policy,
                       const std::vector<BootPolicy> &approvals) override {
        return ask([&](HardwareTpm &tpm) -> Result<Key> {
            VTPM_ASSIGN(const Count count, advanced(tpm, object, policy));
            const auto plaintext = policy.approver ? unseal_approved(tpm, object, policy, approvals, count)
                                                   : tpm.unseal(object, policy.pcrs, count);
            if (plaintext) return key_from(plaintext->view());
            // What the object says of itself decides nothing, but tells why the TPM refused it.
            if (plaintext.error().code == ErrorCode::kRefused && !is_sealed_for(object, policy, count))
                return another_count(count);
            return tl::make_unexpected(explained(tpm, plaintext.error(), object, policy));
        });
    }

    Result<> require_approved(const KeyPolicy &policy, const std::vector<BootPolicy> &approvals) override {
        return ask([&](HardwareTpm &tpm) -> Result<> {
            VTPM_ASSIGN(const ApprovedBoot boot, present_boot(tpm, policy, approvals));
            return tpm.require_approved(approver_of(policy), boot);
        });
    }

    Result<PcrValues> read(const PcrSelection &pcrs) override {
        return ask([&](HardwareTpm &tpm) { return tpm.read(pcrs); });
    }

    Result<SecretBytes> random(std::size_t size) override {
        return ask([&](HardwareTpm &tpm) { return tpm.random(size); });
    }
    [[nodiscard]] bool has_signing_keys() const override { return true; }
    Result<TpmKey> create_signing_key(const Key &authorization) override {
        return ask([&](HardwareTpm &tpm) { return tpm.create_signing_key(authorization.view()); });
    }
    Result<TpmKey> change_authorization(const TpmKey &key, const Key &former, const Key &next) override {
        return ask([&](HardwareTpm &tpm) { return tpm.change_authorization(key, former.view(), next.view()); });
    }
    Result<Bytes> sign(const TpmKey &key, const Key &authorization, ByteView digest) override {
        return ask([&](HardwareTpm &tpm) { return tpm.sign(key, authorization.view(), digest); });
    }
    Result<HostIdentity> host(std::optional<EkTemplate> wanted) override {
        return ask([&](HardwareTpm &tpm) { return tpm.identity(wanted); });
    }
    Result<SecretBytes> activate(const Credential &credential) override {
        return ask([&](HardwareTpm &tpm) { return tpm.activate(credential); });
    }
    Result<HostEvidence> attest(const PcrSelection &pcrs, const TpmKey &ca, const Key &ca_authorization,
                                ByteView data) override {
        return ask([&](HardwareTpm &tpm) { return tpm.attest(pcrs, ca, ca_authorization.view(), data); });
    }

    Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &taken) override {
        return ask([&](HardwareTpm &tpm) -> Result<std::uint32_t> {
            VTPM_ASSIGN(const auto there, all_indices(tpm));
            const auto is_taken = [&](std::uint32_t index) { return is_in(there, index) || is_in(taken, index); };
            for (std::uint32_t index = kFirstIndex; index < kFirstIndex + kGroups; ++index) {
                if (is_taken(index) || is_taken(other_index(index))) continue;
                VTPM_ASSIGN(const NvUse counter, tpm.nv_use(kFirstCounter + index % kGroups, kEpochSize));
                if (counter == NvUse::kNone || counter == NvUse::kCounter) return index;
            }
            return fail(ErrorCode::kRefused, "the hardware TPM's NV indices {:#x} to {:#x} are all in use", kFirstIndex,
                        kFirstIndex + kGroups - 1);
        });
    }
    // Those of another owner are none of ours.
    Result<std::vector<std::uint32_t>> used_indices() override {
        return ask([](HardwareTpm &tpm) -> Result<std::vector<std::uint32_t>> {
            VTPM_ASSIGN(const auto there, all_indices(tpm));
            std::vector<std::uint32_t> used;
            for (const std::uint32_t index : there) {
                VTPM_ASSIGN(const NvUse use, tpm.nv_use(index, kEpochSize));
                if (use == NvUse::kSecret) used.push_back(index);
            }
            return used;
        });
    }
    [[nodiscard]] std::uint32_t other_index(std::uint32_t index) const override {
        return is_epoch(index) ? index ^ kFirstIndex ^ kFirstOther : 0;
    }
    Result<SecretBytes> read_epoch(std::uint32_t index, const Key &authorization) override {
        return ask([&](HardwareTpm &tpm) { return tpm.nv_read(index, authorization.view(), kEpochSize); });
    }
    Result<> write_epoch(std::uint32_t index, const Key &authorization, ByteView epoch) override {
        return ask([&](HardwareTpm &tpm) { return tpm.nv_write(index, authorization.view(), epoch); });
    }
    Result<> remove_epoch(std::uint32_t index) override {
        return ask([&](HardwareTpm &tpm) { return remove(tpm, index, NvUse::kSecret); });
    }
    Result<> remove_counter(std::uint32_t index) override {
        VTPM_ASSIGN(const std::uint32_t counter, counter_of(index));
        return ask([&](HardwareTpm &tpm) { return remove(tpm, counter, NvUse::kCounter); });
    }

private:
    // One question to the TPM, with its whole way to the answer: that way is gone from its beginning, with another
    // connection, if what was begun became void. All questions bear that: none adds to what an earlier attempt did.
    template <typename Question>
    auto ask(Question question) -> std::invoke_result_t<Question, HardwareTpm &> {
        auto last = from_the_beginning([&]() -> std::invoke_result_t<Question, HardwareTpm &> {
            if (take_over()) {
                // It may have died while nobody used it.
                auto answer = question(*tpm_);
                if (answer || answer.error().code != ErrorCode::kUnavailable) return answer;
                tpm_.reset();
            }
            VTPM_TRY(connect());
            auto answer = question(*tpm_);
            if (!answer && answer.error().code == ErrorCode::kUnavailable) tpm_.reset();
            return answer;
        });
        sound_ = last.has_value() || last.error().code == ErrorCode::kNotFound;
        return last;
    }

    // The connection of the sealer before us, if it left one to this TPM.
    bool take_over() {
        if (tpm_ || !reuse_->tpm) return false;
        if (reuse_->tcti == tcti_ &&
            (identity_.empty() || std::ranges::equal(identity_, reuse_->tpm->storage_key_name())))
            tpm_.emplace(std::move(*reuse_->tpm));
        reuse_->disconnect();
        return tpm_.has_value();
    }

    Result<> connect() {
        if (tpm_) return {};
        HierarchyPasswords passwords;
        if (passwords_) {
            VTPM_ASSIGN(passwords, passwords_());
        }
        VTPM_ASSIGN(HardwareTpm tpm, HardwareTpm::open(tcti_, identity_, passwords, reuse_->primary));
        tpm_.emplace(std::move(tpm));
        return {};
    }

    static Result<std::vector<std::uint32_t>> all_indices(HardwareTpm &tpm) {
        VTPM_ASSIGN(auto all, tpm.nv_indices(kFirstIndex, kFirstIndex + kGroups - 1));
        VTPM_ASSIGN(const auto others, tpm.nv_indices(kFirstOther, kFirstOther + kGroups - 1));
        all.insert(all.end(), others.begin(), others.end());
        return all;
    }

    // Only what is ours, if there is anything.
    static Result<> remove(HardwareTpm &tpm, std::uint32_t index, NvUse ours) {
        VTPM_ASSIGN(const NvUse use, tpm.nv_use(index, kEpochSize));
        if (use == NvUse::kNone) return {};
        if (use == ours) return tpm.nv_remove(index);
        return fail(
            ErrorCode::kRefused,
            "NV index {0:#x} of the hardware TPM, which xen-vtpm needs, holds something of another owner, and is "
            "left as it is: if nobody else needs it: tpm2_nvundefine -C o {0:#x}",
            index);
    }

    static Approver approver_of(const KeyPolicy &policy) {
        return policy.approver->for_tpm(policy_ref(policy.group, policy.generation));
    }

    static Result<std::uint32_t> counter_of(std::uint32_t index) {
        if (is_epoch(index)) return kFirstCounter + index % kGroups;
        return fail(ErrorCode::kRefused, "store: {:#x} is no NV index of a group: it is damaged; restore it", index);
    }

    static bool is_sealed_for(const SealedObject &object, const KeyPolicy &policy, const Count &count) {
        return policy.approver ? sealed_for(object, approver_of(policy), count)
                               : sealed_for(object, policy.pcrs, count);
    }

    static tl::unexpected<Error> another_count(const Count &count) {
        return fail(
            ErrorCode::kRefused,
            "the hardware TPM does not unseal the group key: it was not sealed for what NV counter {:#x} is at, "
            "{}: this is an older copy of the store, from before the key was sealed anew (restore the present "
            "one), or somebody changed the store or the counter (the recovery key opens the group: xen-vtpm "
            "group recover)",
            count.index, count.value);
    }

    static Result<Count> present_count(HardwareTpm &tpm, const KeyPolicy &policy) {
        VTPM_ASSIGN(const std::uint32_t index, counter_of(policy.nv_index));
        const auto value = tpm.counter(index);
        if (value) return Count{index, *value};
        if (value.error().code != ErrorCode::kNotFound) return tl::make_unexpected(value.error());
        return fail(
            ErrorCode::kRefused,
            "the hardware TPM has lost NV counter {:#x}, for which the group key is sealed: somebody removed it; "
            "the recovery key opens the group: xen-vtpm group recover",
            index);
    }

    // From the present count, for which what was sealed before is sealed, to that for which `object` is. Only for one
    // that this TPM sealed: no count is lost to who writes into the store.
    static Result<Count> advanced(HardwareTpm &tpm, const SealedObject &object, const KeyPolicy &policy) {
        VTPM_ASSIGN(const Count present, present_count(tpm, policy));
        const Count next{present.index, present.value + 1};
        if (!is_sealed_for(object, policy, next)) return present;
        VTPM_TRY(tpm.require_own(object));
        VTPM_TRY(tpm.increment(next.index));
        return next;
    }

    Result<ApprovedBoot> present_boot(HardwareTpm &tpm, const KeyPolicy &policy,
                                      const std::vector<BootPolicy> &approvals) const {
        const auto read_pcrs = [&tpm](const PcrSelection &pcrs) { return tpm.read(pcrs); };
        const auto read_events = [this](const PcrSelection &pcrs) { return events(pcrs); };
        VTPM_ASSIGN(const BootPolicy *boot,
                    approval_of_present_boot(approvals, *policy.approver, read_pcrs, std::time(nullptr), read_events));
        return boot->for_tpm(*policy.approver);
    }

    Result<SecretBytes> unseal_approved(HardwareTpm &tpm, const SealedObject &object, const KeyPolicy &policy,
                                        const std::vector<BootPolicy> &approvals, const Count &count) const {
        VTPM_ASSIGN(const ApprovedBoot boot, present_boot(tpm, policy, approvals));
        return tpm.unseal(object, approver_of(policy), boot, count);
    }

    [[nodiscard]] std::vector<BootEvent> events(const PcrSelection &pcrs) const {
        return pcrs.empty() ? std::vector<BootEvent>() : read_event_log(pcrs, event_log_);
    }

    // With the events behind the PCRs that differ, if they do.
    Error explained(HardwareTpm &tpm, Error error, const SealedObject &object, const KeyPolicy &policy) const {
        if (error.code != ErrorCode::kRefused) return error;
        const auto now = tpm.read(policy.pcrs);
        if (!now) return error;
        const PcrValues before = split(policy.pcrs, object.pcr_values);
        const std::string why = explain(before, *now, object.pcr_events, events(policy.pcrs));
        if (!why.empty()) error.text += "; " + why;
        return error;
    }

    std::string tcti_;
    std::string event_log_;
    GivePasswords passwords_;
    Bytes identity_;
    std::string description_;
    std::shared_ptr<TpmReuse> reuse_;
    std::optional<HardwareTpm> tpm_;  // none: to be opened again
    bool sound_ = false;              // the last answer says nothing against its sessions
};

}  // namespace

Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned, const std::string &event_log,
                                                GivePasswords passwords, std::shared_ptr<TpmReuse> reuse) {
    auto sealer = std::make_unique<TpmSealer>(tcti, event_log, std::move(passwords), std::move(reuse));
    VTPM_TRY(sealer->open(pinned));
    return sealer;
}

}  // namespace vtpm
