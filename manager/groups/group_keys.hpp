// SPDX-License-Identifier: Apache-2.0
// The keys of the groups: created here, unsealed when the manager starts, held in memory while it runs. Each group is
// opened or refused for itself. A group without a key has a reason instead, which is the answer to everyone who asks.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "manager/groups/audit.hpp"
#include "manager/groups/open_group.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

constexpr std::string_view kDefaultGroup = "default";

struct GroupInfo {
    std::string name;
    std::string pcrs;                  // that it is sealed to; with no approver either: this TPM only
    std::string approver;              // the fingerprint of his key
    std::uint32_t generation = 1;      // of his approvals
    std::size_t policies = 0;          // that are installed, of this generation
    std::size_t next_policies = 0;     // of the next one: for renew()
    std::size_t launch_approvals = 0;  // that are installed
    bool has_recovery_key = false;
    std::int64_t created = 0;
    std::size_t vtpms = 0;
    std::string refusal;  // why it is not open; empty if it is
    bool waits = false;   // if it is not: it may be later, without anybody doing anything
};

// What a recovery key is good for.
struct RecoveryCheck {
    bool open = false;  // the group is open, and this is its recovery key; what follows is of one that is not
    // What its key was last sealed under, as its manifest remembers it; if that does not, what the store says, for
    // which nobody vouches. None: that is damaged.
    std::optional<KeyPolicy> policy;
    bool remembered = false;
    std::string difference;  // what the store says otherwise; empty: nothing
    std::string new_tpm;     // that something else sealed it; empty: the TPM that is here did
    std::string sealer;      // Sealer::description()
    bool manifest = false;   // it has one that is its own
};

// What has to do with the vTPMs of a group that gets another key: each gets another one as well.
class VtpmKeys {
public:
    VtpmKeys() = default;
    VtpmKeys(const VtpmKeys &) = delete;
    VtpmKeys &operator=(const VtpmKeys &) = delete;
    virtual ~VtpmKeys() = default;
    // Some of those that do not run are staged, and put into the manifest that the group will have. False: few are
    // left.
    virtual Result<bool> stage(const OpenGroup &former, OpenGroup &next) = 0;
    // A part of the change that has the group's new key: those that are left, and what is staged is adopted.
    virtual Result<> rotate(const OpenGroup &former, const OpenGroup &next, Change &change, Manifest::Draft &rows) = 0;
    // It is committed, and nobody had a turn since. `another_ca`: what is being certified just now is so by one that
    // the group has no more.
    virtual void rotated(bool another_ca) = 0;
};

class GroupKeys {
public:
    // `sealing` is the configuration's word for what `open_sealer` opens: "tpm" or "file". `default_pcrs`: what the
    // default group is sealed to when the first start makes it.
    // `give_way`: guests, and other jobs, have a turn in what takes long. An error ends it.
    GroupKeys(
        Store &store, std::string sealing, OpenSealer open_sealer, PcrSelection default_pcrs = {},
        std::function<Result<>()> give_way = [] { return Result<>(); })
        : store_(store),
          sealing_(std::move(sealing)),
          open_sealer_(std::move(open_sealer)),
          default_pcrs_(std::move(default_pcrs)),
          give_way_(std::move(give_way)) {}

    // Opens every group that is not open. Fails if none is then; what is open stays so. To be called again while some
    // waits().
    Result<> unlock();
    // Some group is not open, and may be without anybody doing anything: the TPM was away, or busy for too long.
    [[nodiscard]] bool waits() const;
    // The first start of a store on a TPM that remembers another, which is lost.
    Result<> start_anew();
    // At the end, when nothing is written any more: from now on, older copies of the store are former ones.
    void close();
    // One more attempt at all that is not open. Fails if this group is not open then.
    Result<> open(const std::string &name);

    // Some group is open, or why none is.
    [[nodiscard]] const Result<> &state() const { return state_; }
    [[nodiscard]] bool has(const std::string &group) const { return groups_.contains(group); }
    // kRefused, or kUnavailable for one that waits or was not tried yet, names one that is not; or tells of one that
    // the store has lost.
    [[nodiscard]] Result<> all_open() const;
    // A group of which the hardware TPM knows, or another group, and the store does not, or the other way around;
    // empty: none.
    [[nodiscard]] std::string lost() const;
    // kRefused, with the reason, if it is not open.
    Result<const Key *> key(const std::string &group) const;
    Result<Manifest *> manifest(const std::string &group);

    // kInvalid: no name for a group. kInUse: there is one of that name. kRefused: it cannot be sealed so.
    // Its NV index is chosen here.
    Result<> create(KeyPolicy policy);
    // A group that was refused because the store is an older one, or not all of one time: taken as it is.
    Result<> accept_rollback(const std::string &name);
    // A key that opens the group without this TPM, as text: it is told once. kInUse: there is one already, and it is
    // not to be replaced, which makes it worthless.
    enum class Replace { kNo, kYes };
    Result<std::string> export_recovery_key(const std::string &name, Replace replace);
    // kInvalid: mistyped. kRefused: it is not the group's recovery key.
    Result<RecoveryCheck> check_recovery(const std::string &name, std::string_view text);
    // A group that does not open, by the text of its recovery key: sealed to the present TPM and boot under `policy`,
    // which somebody chose who saw check_recovery(). Its generation 0: the present one. The store then belongs to this
    // TPM. kRefused: another key; or another TPM, without NewTpm::kYes; or the store is an older one, which
    // AcceptRollback::kYes takes as it is.
    enum class AcceptRollback { kNo, kYes };
    enum class NewTpm { kNo, kYes };
    struct RecoveryOrder {
        KeyPolicy policy;
        AcceptRollback accept = AcceptRollback::kNo;
        NewTpm new_tpm = NewTpm::kNo;
    };
    Result<> recover(std::string_view text, RecoveryOrder order);
    // An open group's key, from now on under `policy`, in the present generation, whatever that says of it. What it was
    // sealed under before opens nothing any more, wherever a copy of it lies. An error that says so: until that is said
    // again, or the manager starts again, it may.
    Result<> reseal(KeyPolicy policy);
    // The same under its approver's next generation: his approvals of this one are void for good. kRefused unless one
    // of the next approves the present boot. kInvalid: the group has no approver.
    Result<> renew(const std::string &name);
    // An open group gets another key, and so does each of its vTPMs: the former ones open nothing that is stored then.
    // Its recovery key is void. Its CA stays, of which a copy signs for who knows the former key; NewCa::kYes: another
    // is made when it is needed. An error that does not say otherwise: nothing was changed.
    enum class NewCa { kNo, kYes };
    Result<> rekey(const std::string &name, NewCa new_ca, VtpmKeys &vtpms);
    // Of an open group: a rekey that was cut left something to be done.
    [[nodiscard]] Result<bool> has_staged() const;
    Result<> merge_staged();
    // kInUse while it has vTPMs. The default group stays.
    Result<> remove(const std::string &name);
    // A group that will not open again, or that lost() tells of: with all its vTPMs, for good.
    Result<> discard(const std::string &name);
    Result<std::vector<GroupInfo>> list() const;
    // kNotFound: there is no such group.
    Result<KeyPolicy> policy(const std::string &group) const;
    // What `pcrs` of the hardware TPM are now.
    Result<PcrValues> read(const PcrSelection &pcrs) const;

    // As the store has it. kNotFound: there is none.
    Result<GroupRecord> record(const std::string &name) const;
    // Reached again: it is not held while it is not used.
    Result<std::unique_ptr<Sealer>> sealer() const;

    // For status: what the keys are sealed to.
    [[nodiscard]] const std::string &sealing() const { return sealing_; }
    [[nodiscard]] const std::string &sealer_description() const { return sealer_description_; }

private:
    Result<> require_sealing(const Pin &pin) const;
    // Of an open group: nobody changes its generation who has the disk.
    Result<GroupRecord> sealed_record(const std::string &name);
    // group_recovery.cpp
    struct Recovered;
    Result<Recovered> unwrap(const std::string &name, std::string_view text) const;
    Result<RecoveryCheck> check(const Sealer &sealer, const Recovered &recovered);
    static Result<KeyPolicy> chosen_policy(const RecoveryCheck &check, KeyPolicy policy);
    Result<OpenGroup> recover_here(Sealer &sealer, Recovered recovered, KeyPolicy policy, AcceptRollback accept);
    Result<OpenGroup> recover_elsewhere(Sealer &sealer, Recovered recovered, KeyPolicy policy, AcceptRollback accept);
    // group_list.cpp
    struct Stranger {
        std::string group;
        enum class Kind { kMissing, kUnknown } kind;  // the store does not have it, or has one that others do not know
        std::string others;                           // those others
    };
    static std::string text_of(const Stranger &stranger);
    [[nodiscard]] GroupList groups_as_known_to(const OpenGroup &group) const;
    [[nodiscard]] GroupList known_groups(std::string_view but = {}) const;
    [[nodiscard]] Result<GroupList> known_groups_with(const std::string &name, const Bytes &id);
    [[nodiscard]] GroupList known_groups_without(const std::string &name) const;
    [[nodiscard]] std::optional<Stranger> missing_from(const GroupList &groups) const;
    [[nodiscard]] std::optional<Stranger> unknown_to(const GroupList &groups) const;
    [[nodiscard]] std::optional<Stranger> stranger() const;
    Result<> tell_of_stranger();
    // `more` is a part of the same change.
    Result<> remember_groups(const GroupList &groups, const Store::Edits &more);
    Result<> settle_groups();
    Result<> accept_as(const std::string &name);
    Result<> forget(const std::string &name);
    // group_rekey.cpp
    struct NextKey;
    Result<GroupRecord> rekey_open(const std::string &name, NewCa new_ca, VtpmKeys &vtpms);
    Result<OpenGroup> group_to_be(const GroupRecord &present);
    Result<NextKey> prepare_key(Sealer &sealer, const GroupRecord &present, const Key &key, NewCa new_ca) const;
    static Result<> require_same_pcrs(Sealer &sealer, GroupRecord present, Bytes values);
    Result<CaRecord> next_ca(Sealer &sealer, const GroupRecord &present, const Key &next, NewCa new_ca) const;
    Result<GroupRecord> adopt_key(GroupRecord present, OpenGroup next, NextKey prepared, VtpmKeys &vtpms);
    Result<> advance_to(const GroupRecord &group) const;
    Result<> merge_staged(const std::string &group);
    void remove_former_epochs(Sealer &sealer, const std::vector<std::uint32_t> &used) const;
    // What a TPM that was away left undone when the group was last sealed: else that would be sealed for the same count
    // as what follows. False: the store's object opens nothing, since somebody changed the counter; the key is here
    // still.
    static Result<bool> complete(Sealer &sealer, const GroupRecord &group);
    // Of an attempt to create it that was not completed, nothing is left afterwards.
    Result<> require_free(const std::string &name);
    enum class WithVtpms { kNo, kYes };
    Result<> remove(const GroupRecord &group, WithVtpms with_vtpms);
    Result<> begin(Sealer &sealer, const GroupRecord &record, OpenGroup &group);
    Result<OpenGroup> open_or_begin(Sealer &sealer, const GroupRecord &record, Key key);
    // `more` is a part of the same change.
    Result<> seal_anew(Sealer &sealer, const KeyPolicy &policy, const Store::Edits &more);
    // What the store says of an open group, together with what its manifest says.
    Result<> change_terms(const std::string &name, const std::function<void(Terms &)> &edit, const Store::Edits &more);
    Result<> renew(Sealer &sealer, const KeyPolicy &policy);
    Result<> require_approved(Sealer &sealer, const KeyPolicy &policy, const std::vector<BootPolicy> &approvals);
    Result<> require_installed(const std::vector<BootPolicy> &approvals);
    Result<> remove_former_policies(const KeyPolicy &policy, Change &change);
    Result<> remove_former_launches(const KeyPolicy &policy, Change &change);
    Result<> forget_indices(const GroupRecord &group) const;
    Result<> attempt(bool may_start_anew);
    Result<> try_unlock(bool may_start_anew);
    Result<> settle(const std::string &name, Result<OpenGroup> group);
    Result<> first_start(Sealer &sealer, bool may_start_anew);
    Result<> unseal_groups(Sealer &sealer);
    Result<> look_for_lost(Sealer &sealer);
    Result<Key> unseal(Sealer &sealer, const GroupRecord &group);
    Result<std::size_t> count_vtpms(const std::string &group) const;
    Result<const OpenGroup *> open_group_named(const std::string &name) const;
    std::optional<Error> refusal_of(const std::string &group) const;

    Store &store_;
    Audit audit_{store_};
    std::string sealing_;
    OpenSealer open_sealer_;
    PcrSelection default_pcrs_;
    std::function<Result<>()> give_way_;
    std::string rekeyed_;  // that is being given another key; empty: none
    Result<> state_ = fail(ErrorCode::kUnavailable, "the group keys are not unsealed yet");
    std::map<std::string, Result<OpenGroup>, std::less<>> groups_;
    std::set<std::string> incomplete_;   // of those: they never began, so they have no vTPM
    std::optional<std::uint32_t> lost_;  // an NV index that keeps an epoch of no group of the store
    std::string told_of_;                // the last stranger()
    bool cut_short_ = false;             // the last attempt, by what passes: groups may be left that were not tried
    bool all_tried_ = false;             // once, and what the TPM and the others know was looked at
    // Of groups that are not open, which get none and lose none: the store counts slowly.
    mutable std::map<std::string, std::size_t> counts_;
    std::string sealer_description_;
    // By group: the generation that a renewal was to begin which failed, perhaps after the store had it.
    std::map<std::string, std::uint32_t> cut_renewals_;
};

}  // namespace vtpm
