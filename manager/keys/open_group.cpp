// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/open_group.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "manager/keys/audit.hpp"

namespace vtpm {
namespace {

// Before the TPM keeps one.
bool is_none(const Epoch &epoch) { return epoch == Epoch(); }

Result<OpenGroup> over_rows(Store &store, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(const auto rows, store.vtpms_of(record.name));
    VTPM_ASSIGN(Manifest manifest, Manifest::over(key, record, rows));
    VTPM_ASSIGN(Key authorization, epoch_authorization(key));
    return OpenGroup{record.name, std::move(key), std::move(manifest), record.nv_index, std::move(authorization)};
}

Result<> write(Store &store, OpenGroup &group, const Epoch &present, const Epoch &next) {
    VTPM_ASSIGN(Bytes head, Audit(store).head());
    group.manifest.set_audit_head(std::move(head));
    VTPM_ASSIGN(Bytes sealed, group.manifest.seal(present, next));
    return store.write_manifest({group.name, std::move(sealed)});
}

// Guests do without the log's past; who reads it must know.
Result<> check_audit_log(Store &store, const std::string &group, ByteView head) {
    Audit audit(store);
    VTPM_ASSIGN(const bool whole, audit.has(head));
    if (whole) return {};
    log::error("the audit log was cut or written anew since group '{}' was last used", group);
    return audit.record("audit-log-altered", group, "records that there were are missing");
}

// From the epoch that the store knows, or none, to a new one.
Result<> move_from(Store &store, Sealer &sealer, OpenGroup &group, const Epoch &present) {
    VTPM_ASSIGN(Epoch next, random_epoch());
    VTPM_TRY(write(store, group, present, next));
    VTPM_TRY(sealer.write_epoch(group.nv_index, group.epoch_authorization, next.view()));
    VTPM_TRY(write(store, group, next, next));
    group.manifest.set_epoch(std::move(next));
    return {};
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
                "xen-vtpm recover --accept-rollback {}",
                what, record.name);
}

}  // namespace

Result<std::uint32_t> new_index(Store &store, Sealer &sealer) {
    VTPM_ASSIGN(const auto groups, store.groups());
    std::vector<std::uint32_t> taken;
    for (const GroupRecord &group : groups) taken.push_back(group.nv_index);
    return sealer.free_index(taken);
}

Result<OpenGroup> new_group(Store &store, GroupRecord &record, Key key) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, record, std::move(key)));
    VTPM_ASSIGN(record.manifest, group.manifest.seal(Epoch(), Epoch()));
    return group;
}

Result<> verify_rows(Store &store, const GroupRecord &record, const Key &key) {
    VTPM_ASSIGN(const auto rows, store.vtpms_of(record.name));
    VTPM_ASSIGN(const Manifest manifest, Manifest::over(key, record, rows));
    const auto verified = manifest.verify(record.manifest);
    if (!verified) return rolled_back(record, verified.error().text);
    return check_audit_log(store, record.name, verified->audit_head);
}

Result<> begin_epoch(Store &store, Sealer &sealer, OpenGroup &group) {
    if (group.nv_index == 0) return {};
    return move_from(store, sealer, group, Epoch());
}

Result<OpenGroup> open_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, record, std::move(key)));
    const auto epochs = group.manifest.verify(record.manifest);
    if (!epochs) return rolled_back(record, epochs.error().text);
    VTPM_TRY(check_audit_log(store, record.name, epochs->audit_head));
    if (group.nv_index == 0) return group;
    const auto kept = kept_epoch(sealer, group);
    if (!kept && kept.error().code != ErrorCode::kRefused) return tl::make_unexpected(kept.error());
    if (!kept) return rolled_back(record, kept.error().text);
    const bool agreed = *kept == epochs->present || (*kept == epochs->next && !is_none(*kept));
    if (!agreed)
        return rolled_back(record,
                           "this is not the store that this host last used: the hardware TPM knows a later one");
    VTPM_TRY(move_from(store, sealer, group, *kept));
    return group;
}

Result<OpenGroup> accept_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key) {
    VTPM_ASSIGN(OpenGroup group, over_rows(store, record, std::move(key)));
    if (group.nv_index != 0) VTPM_TRY(sealer.remove_epoch(group.nv_index));
    if (group.nv_index != 0)
        VTPM_TRY(begin_epoch(store, sealer, group));
    else
        VTPM_TRY(write(store, group, Epoch(), Epoch()));
    return group;
}

Result<> move_epoch(Store &store, Sealer &sealer, OpenGroup &group) {
    if (group.nv_index == 0) return {};
    return move_from(store, sealer, group, epoch_of(group.manifest.epoch().view()));
}

}  // namespace vtpm
