// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/open_group.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "manager/groups/audit.hpp"

namespace vtpm {
namespace {

Terms terms_in(Store &store, const Sealer &sealer, const GroupRecord &record) {
    return terms_of(record, sealer.sealing(), sealer.identity(), store.id());
}

Result<Manifest> manifest_of(Store &store, const Sealer &sealer, const GroupRecord &record, const Key &key) {
    return Manifest::over(key, record, store, terms_in(store, sealer, record));
}

// What no column has goes from one manifest to the next, if there is one that can be read. A group that has no id yet
// gets one.
Result<> carry_over(const GroupRecord &record, Manifest &manifest) {
    const auto content = manifest.read(record.manifest);
    Terms former = content && content->terms ? *content->terms : Terms();
    if (former.id.empty()) {
        VTPM_ASSIGN(former.id, random_group_id());
    }
    manifest.remember(std::move(former.id), std::move(former.groups));
    return {};
}

Result<OpenGroup> over_rows(Store &store, const Sealer &sealer, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(Manifest manifest, manifest_of(store, sealer, record, key));
    VTPM_TRY(carry_over(record, manifest));
    VTPM_ASSIGN(Key authorization, epoch_authorization(key));
    return OpenGroup{record.name, std::move(key), std::move(manifest), record.nv_index, std::move(authorization)};
}

// `more` is a part of the same change.
Result<> write_epochs(Store &store, OpenGroup &group, const Epoch &present, const Epoch &next,
                      const Store::Edits &more = {}) {
    return store.commit([&](Change &change) -> Result<> {
        if (more) VTPM_TRY(more(change));
        VTPM_ASSIGN(Bytes head, Audit(store).head(change));
        group.manifest.set_audit_head(std::move(head));
        VTPM_ASSIGN(Bytes sealed, group.manifest.seal(present, next));
        change.add(ManifestWrite{group.name, std::move(sealed)});
        return {};
    });
}

// Guests do without the log's past; who reads it must know.
Result<> check_audit_log(Store &store, const std::string &group, ByteView head) {
    Audit audit(store);
    VTPM_ASSIGN(const bool whole, audit.has(head));
    if (whole) return {};
    log::error("the audit log was cut or written anew since group '{}' was last used", group);
    return audit.record("audit-log-altered", group, "records that there were are missing");
}

// From the epoch that the store knows to a new one.
Result<> move_from(Store &store, Sealer &sealer, OpenGroup &group, const Epoch &present,
                   const Store::Edits &more = {}) {
    if (group.nv_index == 0) return write_epochs(store, group, Epoch(), Epoch(), more);
    VTPM_ASSIGN(Epoch next, random_epoch());
    VTPM_TRY(write_epochs(store, group, present, next, more));
    VTPM_TRY(sealer.write_epoch(group.nv_index, group.epoch_authorization, next.view()));
    VTPM_TRY(write_epochs(store, group, next, next));
    group.manifest.set_epoch(std::move(next));
    return {};
}

// A manifest without an epoch is good with one object, which opens until the counter moves: then the group has an
// epoch. No copy of the store from before can be taken for such a beginning afterwards.
bool is_beginning(const GroupRecord &record, const Manifest::Content &content) {
    return record.nv_index != 0 && is_none(content.present) && content.terms &&
           content.terms->beginning == digest_of(record.key.public_area);
}

Result<Epoch> kept_epoch(Sealer &sealer, const OpenGroup &group) {
    const auto kept = sealer.read_epoch(group.nv_index, group.epoch_authorization);
    if (!kept && kept.error().code == ErrorCode::kNotFound) return Epoch();
    if (!kept) return tl::make_unexpected(kept.error());
    if (kept->view().size() != Epoch().view().size())
        return fail(ErrorCode::kRefused, "NV index {:#x} of the hardware TPM holds something else", group.nv_index);
    return epoch_of(kept->view());
}

tl::unexpected<Error> rolled_back(const GroupRecord &record, std::string_view what) {
    return fail(ErrorCode::kRefused,
                "{}: restore the present store, or take this one as it is, older vTPM states included: "
                "xen-vtpm group accept-rollback {}",
                what, record.name);
}

// Whether `content` is of the epoch that the TPM keeps, which is had back.
Result<Epoch> present_epoch(Sealer &sealer, const GroupRecord &record, const OpenGroup &group,
                            const Manifest::Content &content) {
    if (group.nv_index == 0) return Epoch();
    auto kept = kept_epoch(sealer, group);
    if (!kept && kept.error().code == ErrorCode::kRefused) return rolled_back(record, kept.error().text);
    if (!kept) return kept;
    if (is_none(*kept))
        return rolled_back(record,
                           fmt::format("the hardware TPM knows of no store of this group: its NV index {:#x} is "
                                       "gone, or the store is from before it was there",
                                       group.nv_index));
    if (*kept == content.present || *kept == content.next) return kept;
    return rolled_back(record, "this is not the store that this host last used: the hardware TPM knows a later one");
}

// What the group's own row says, but for what its key is sealed under, as it was last written.
Result<> verify_row(const GroupRecord &record, const Terms &row, const Manifest::Content &content) {
    if (!content.terms) return {};
    const Terms &last = *content.terms;
    if (row.recovery != last.recovery)
        return rolled_back(record, "its recovery key is not the last one: it was put back, changed or removed");
    if (row.store_id != last.store_id || row.created != last.created)
        return rolled_back(record, "the store's id, or when the group was created, was changed");
    return {};
}

Result<> verify(Store &store, const GroupRecord &record, const Manifest &manifest, const Manifest::Content &content) {
    if (const auto rows = manifest.verify_rows(content); !rows) return rolled_back(record, rows.error().text);
    VTPM_TRY(verify_row(record, manifest.terms(), content));
    return check_audit_log(store, record.name, content.audit_head);
}

Result<Manifest::Content> read(const GroupRecord &record, const Manifest &manifest) {
    auto content = manifest.read(record.manifest);
    if (!content) return rolled_back(record, content.error().text);
    return content;
}

// A TPM unsealed the key under what `row` says: then that is no question of trust, but of what else was changed.
Result<> verify_seal(const GroupRecord &record, const Terms &row, const Manifest::Content &content) {
    if (!content.terms) return {};
    const Terms &last = *content.terms;
    if (row.pcrs == last.pcrs && row.approver == last.approver && row.generation == last.generation &&
        row.sealing == last.sealing && row.identity == last.identity)
        return {};
    return rolled_back(record, "what its key is sealed to is not what it was last sealed to");
}

}  // namespace

Result<std::uint32_t> new_index(Store &store, Sealer &sealer) {
    VTPM_ASSIGN(const auto groups, store.groups());
    std::vector<std::uint32_t> taken;
    for (const GroupRecord &group : groups) taken.push_back(group.nv_index);
    return sealer.free_index(taken);
}

Result<> seal_into(Sealer &sealer, const Key &key, const KeyPolicy &policy, Sealer::Opens opens, GroupRecord &record) {
    VTPM_ASSIGN(record.key, sealer.seal(key, policy, opens));
    record.pcrs = policy.pcrs.to_string();
    record.approver = policy.approver ? policy.approver->public_area() : Bytes();
    record.generation = policy.generation;
    record.nv_index = policy.nv_index;
    return {};
}

Result<OpenGroup> new_group(Store &store, const Sealer &sealer, GroupRecord &record, Key key, Bytes id,
                            GroupList groups) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, sealer, record, std::move(key)));
    group.manifest.remember(std::move(id), std::move(groups));
    group.begun = group.nv_index == 0;
    if (!group.begun) group.manifest.set_beginning(digest_of(record.key.public_area));
    VTPM_ASSIGN(record.manifest, group.manifest.seal(Epoch(), Epoch()));
    return group;
}

Result<std::optional<Manifest::Content>> remembered(Store &store, const Sealer &sealer, const GroupRecord &record,
                                                    const Key &key) {
    VTPM_ASSIGN(const Manifest manifest, manifest_of(store, sealer, record, key));
    auto content = manifest.read(record.manifest);
    return content ? std::optional(std::move(*content)) : std::nullopt;
}

Result<> verify_rows(Store &store, const Sealer &sealer, const GroupRecord &record, const Key &key) {
    VTPM_ASSIGN(const Manifest manifest, manifest_of(store, sealer, record, key));
    VTPM_ASSIGN(const Manifest::Content content, read(record, manifest));
    return verify(store, record, manifest, content);
}

// A first epoch, in the TPM before the store knows it: no manifest that is good without one is written any more.
Result<> begin_epoch(Store &store, Sealer &sealer, OpenGroup &group, const Store::Edits &more) {
    if (group.nv_index == 0) return write_epochs(store, group, Epoch(), Epoch(), more);
    VTPM_ASSIGN(Epoch first, random_epoch());
    VTPM_TRY(sealer.write_epoch(group.nv_index, group.epoch_authorization, first.view()));
    group.manifest.set_beginning({});
    VTPM_TRY(write_epochs(store, group, first, first, more));
    group.manifest.set_epoch(std::move(first));
    group.begun = true;
    return {};
}

Result<OpenGroup> open_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, sealer, record, std::move(key)));
    VTPM_ASSIGN(const Manifest::Content content, read(record, group.manifest));
    VTPM_TRY(verify(store, record, group.manifest, content));
    VTPM_TRY(verify_seal(record, group.manifest.terms(), content));
    if (is_beginning(record, content)) {
        group.begun = false;
        return group;
    }
    VTPM_ASSIGN(const Epoch kept, present_epoch(sealer, record, group, content));
    if (group.nv_index != 0) VTPM_TRY(move_from(store, sealer, group, kept));
    return group;
}

Result<OpenGroup> open_recovered_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key,
                                       const Store::Edits &more) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, sealer, record, std::move(key)));
    VTPM_ASSIGN(const Manifest::Content content, read(record, group.manifest));
    VTPM_TRY(verify(store, record, group.manifest, content));
    VTPM_ASSIGN(const Epoch kept, present_epoch(sealer, record, group, content));
    VTPM_TRY(move_from(store, sealer, group, kept, more));
    return group;
}

Result<OpenGroup> accept_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key,
                               const Store::Edits &more) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, sealer, record, std::move(key)));
    if (group.nv_index != 0) VTPM_TRY(sealer.remove_epoch(group.nv_index));
    VTPM_TRY(begin_epoch(store, sealer, group, more));
    return group;
}

Result<OpenGroup> next_group(Store &store, const Sealer &sealer, const OpenGroup &former, const GroupRecord &record,
                             Key key) {
    VTPM_ASSIGN(Manifest manifest, Manifest::without_rows(key, record, store, terms_in(store, sealer, record)));
    manifest.remember(former.manifest.terms().id, former.manifest.terms().groups);
    VTPM_ASSIGN(Key authorization, epoch_authorization(key));
    return OpenGroup{record.name, std::move(key), std::move(manifest), record.nv_index, std::move(authorization)};
}

Result<> adopt_group(Store &store, OpenGroup &group, Epoch epoch, const EditsOfRows &edits) {
    VTPM_TRY(write_epochs(store, group, epoch, epoch, [&](Change &change) {
        Manifest::Draft rows(group.manifest);
        const auto collected = edits(change, rows);
        if (collected) group.manifest.adopt(std::move(rows));
        return collected;
    }));
    group.manifest.set_epoch(std::move(epoch));
    return {};
}

Result<> move_epoch(Store &store, Sealer &sealer, OpenGroup &group) {
    if (group.nv_index == 0) return {};
    return move_from(store, sealer, group, epoch_of(group.manifest.epoch().view()));
}

}  // namespace vtpm
