// SPDX-License-Identifier: Apache-2.0
// GroupKeys on the day on which no TPM opens a group: its recovery key has the group's key, and with that whatever the
// group's manifest vouches for. What the store alone says may have been written by anyone who had the disk.
#include <openssl/crypto.h>

#include <algorithm>

#include "base/log.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/groups/recovery_key.hpp"

namespace vtpm {
namespace {

std::string with_generation(const KeyPolicy &policy) {
    return policy.approver ? fmt::format("{}, generation {}", describe(policy), policy.generation) : describe(policy);
}

std::string another_sealer(const std::string &name, const Sealer &sealer, std::string_view former) {
    if (sealer.sealing() == "file" && former != "file")
        return fmt::format(
            "group '{}' was sealed to a hardware TPM, and the configuration says sealing = \"file\": its key would lie "
            "on this disk, and no TPM protect it. If that is what you want: --new-tpm",
            name);
    return fmt::format(
        "this is not the hardware TPM that group '{}' was last sealed to, but {}. If you replaced the mainboard or the "
        "TPM, or cleared it: --new-tpm seals the group to this one, and the store is this one's from then on. If you "
        "did not, somebody exchanged it",
        name, sealer.description());
}

}  // namespace

struct GroupKeys::Recovered {
    GroupRecord group;
    Key key;
};

Result<std::string> GroupKeys::export_recovery_key(const std::string &name, Replace replace) {
    VTPM_ASSIGN(const Key *group_key, key(name));
    VTPM_ASSIGN(GroupRecord group, record(name));
    const bool another = !group.recovery.empty();
    if (another && replace == Replace::kNo)
        return fail(ErrorCode::kInUse,
                    "group '{0}' has a recovery key, which was told once; --rotate makes another. The former still "
                    "opens older copies of the store and older backups, since the group's key stays. If somebody else "
                    "has it: xen-vtpm group rekey {0}",
                    name);
    VTPM_ASSIGN(const Key recovery_key, random_key());
    VTPM_ASSIGN(group.recovery, wrap_for_recovery(recovery_key, name, *group_key));
    const auto edit = [&](Terms &terms) { terms.recovery = digest_of(group.recovery); };
    VTPM_TRY(change_terms(name, edit, [&](Change &change) {
        change.add(SetRecovery{name, group.recovery});
        return audit_.record(change, "recovery-key-exported", name, another ? "in the place of another one" : "");
    }));
    return recovery_text(recovery_key);
}

Result<GroupKeys::Recovered> GroupKeys::unwrap(const std::string &name, std::string_view text) const {
    VTPM_ASSIGN(GroupRecord group, record(name));
    if (group.recovery.empty())
        return fail(ErrorCode::kRefused, "group '{}' has no recovery key: {}", name,
                    key(name) ? "xen-vtpm group recovery-key makes one" : "none was exported while it was open");
    VTPM_ASSIGN(const Key recovery_key, recovery_key_from(text));
    VTPM_ASSIGN(Key group_key, unwrap_for_recovery(recovery_key, name, group.recovery));
    return Recovered{std::move(group), std::move(group_key)};
}

Result<RecoveryCheck> GroupKeys::check_recovery(const std::string &name, std::string_view text) {
    VTPM_ASSIGN(const Recovered recovered, unwrap(name, text));
    if (const auto open = key(name)) {
        if (CRYPTO_memcmp((*open)->view().data(), recovered.key.view().data(), kKeySize) != 0)
            return fail(ErrorCode::kRefused, "this recovery key does not have the key of group '{}'", name);
        RecoveryCheck good;
        good.open = true;
        return good;
    }
    VTPM_ASSIGN(const auto present, open_sealer_({}));
    return check(*present, recovered);
}

Result<RecoveryCheck> GroupKeys::check(const Sealer &sealer, const Recovered &recovered) {
    const GroupRecord &group = recovered.group;
    RecoveryCheck check;
    check.sealer = sealer.description();
    VTPM_ASSIGN(const auto content, remembered(store_, sealer, group, recovered.key));
    check.manifest = content.has_value();
    const auto stored = policy_of(group);
    VTPM_ASSIGN(const auto pin, store_.pin());
    std::string sealing = pin ? pin->sealing : std::string();
    Bytes identity = pin ? pin->identity : Bytes();
    if (content && content->terms) {
        const Terms &terms = *content->terms;
        VTPM_ASSIGN(check.policy, policy_of(as_remembered(group, terms)));
        check.remembered = true;
        sealing = terms.sealing;
        identity = terms.identity;
        const std::string says = stored ? with_generation(*stored) : stored.error().text;
        if (says != with_generation(*check.policy))
            check.difference = fmt::format(
                "the store says that group '{}' is sealed to {}; its manifest, which nobody writes without the "
                "group's key, says {}: somebody changed the store",
                group.name, says, with_generation(*check.policy));
    } else if (stored) {
        check.policy = *stored;
    }
    if (!std::ranges::equal(identity, sealer.identity())) check.new_tpm = another_sealer(group.name, sealer, sealing);
    return check;
}

// No generation before the present one, whoever is to be the approver: launches that a former one took back would count
// again for the vTPMs that are bound to him.
Result<KeyPolicy> GroupKeys::chosen_policy(const RecoveryCheck &check, KeyPolicy policy) {
    const std::uint32_t last = check.policy ? check.policy->generation : 1;
    if (policy.generation == 0) policy.generation = last;
    if (check.remembered && policy.generation < last)
        return fail(ErrorCode::kRefused, "group '{}' is at generation {}: what was approved for {} is void",
                    policy.group, last, policy.generation);
    return policy;
}

Result<> GroupKeys::recover(std::string_view text, RecoveryOrder order) {
    const std::string name = order.policy.group;
    if (key(name)) return fail(ErrorCode::kWrongState, "group '{}' is open", name);
    VTPM_ASSIGN(Recovered recovered, unwrap(name, text));
    VTPM_ASSIGN(const auto present, open_sealer_({}));
    VTPM_ASSIGN(const RecoveryCheck checked, check(*present, recovered));
    if (!checked.new_tpm.empty() && order.new_tpm == NewTpm::kNo)
        return fail(ErrorCode::kRefused, "{}", checked.new_tpm);
    VTPM_ASSIGN(const KeyPolicy policy, chosen_policy(checked, std::move(order.policy)));
    if (!checked.difference.empty()) log::warning("{}", checked.difference);
    // Without its manifest nobody says which NV index is the group's: it may be another group's that stands there.
    const bool here = checked.new_tpm.empty() && checked.manifest;
    Result<OpenGroup> open = here ? recover_here(*present, std::move(recovered), policy, order.accept)
                                  : recover_elsewhere(*present, std::move(recovered), policy, order.accept);
    if (!open) return tl::make_unexpected(std::move(open).error());
    groups_.insert_or_assign(name, std::move(*open));
    sealer_description_ = present->description();
    state_ = Result<>();
    VTPM_TRY(accept_as(name));
    log::warning("group '{}' was opened by its recovery key, and is sealed to {} ({})", name, with_generation(policy),
                 sealer_description_);
    if (const auto others = unseal_groups(*present); !others)
        log::warning("the other groups were not tried: {}", others.error().text);
    return {};
}

// The same TPM and another boot: it still knows which store is the last one.
Result<OpenGroup> GroupKeys::recover_here(Sealer &sealer, Recovered recovered, KeyPolicy policy,
                                          AcceptRollback accept) {
    GroupRecord &group = recovered.group;
    policy.nv_index = group.nv_index;
    VTPM_TRY(seal_into(sealer, recovered.key, policy, Sealer::Opens::kFromAdvance, group));
    const auto edits = [&](Change &change) {
        change.add(SealGroup{group});
        return audit_.record(change, "group-recovered", group.name,
                             "on the TPM that sealed it, to " + with_generation(policy));
    };
    VTPM_ASSIGN(OpenGroup open, accept == AcceptRollback::kYes
                                    ? accept_group(store_, sealer, group, std::move(recovered.key), edits)
                                    : open_recovered_group(store_, sealer, group, std::move(recovered.key), edits));
    VTPM_TRY(sealer.advance(group.key, policy));
    return open;
}

// Another TPM knows of no epoch: what is left to ask is that the rows are those of one time.
Result<OpenGroup> GroupKeys::recover_elsewhere(Sealer &sealer, Recovered recovered, KeyPolicy policy,
                                               AcceptRollback accept) {
    GroupRecord &group = recovered.group;
    if (accept == AcceptRollback::kNo) VTPM_TRY(verify_rows(store_, sealer, group, recovered.key));
    VTPM_ASSIGN(const auto former, remembered(store_, sealer, group, recovered.key));
    Terms terms = former && former->terms ? *former->terms : Terms();
    if (terms.id.empty()) {
        VTPM_ASSIGN(terms.id, random_group_id());
    }
    VTPM_ASSIGN(policy.nv_index, new_index(store_, sealer));
    VTPM_TRY(seal_into(sealer, recovered.key, policy, Sealer::Opens::kUntilAdvance, group));
    group.ca = {};  // its key is in the TPM that is gone
    VTPM_ASSIGN(OpenGroup open, new_group(store_, sealer, group, std::move(recovered.key), std::move(terms.id),
                                          std::move(terms.groups)));
    const ByteView identity = sealer.identity();
    VTPM_TRY(store_.commit([&](Change &change) {
        change.add(SetPin{{sealing_, Bytes(identity.begin(), identity.end())}});
        change.add(ReplaceGroup{group});
        change.add(ManifestWrite{group.name, group.manifest});
        return audit_.record(change, "group-recovered", group.name,
                             fmt::format("on another TPM: {}, to {}", sealer.description(), with_generation(policy)));
    }));
    VTPM_TRY(begin(sealer, group, open));
    return open;
}

}  // namespace vtpm
