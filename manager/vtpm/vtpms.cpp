// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/vtpms.hpp"

#include <ctime>

#include "base/log.hpp"
#include "manager/vtpm/stored_state.hpp"

namespace vtpm {

Result<TpmVersion> Vtpms::prepare(const Uuid &uuid) {
    VTPM_TRY(keys_.state());
    VTPM_ASSIGN(const auto known, services_.store.find_vtpm(uuid));
    if (!known && creation_.auto_create) VTPM_TRY(create(uuid, std::nullopt));
    VTPM_ASSIGN(const Verified verified, verify(uuid));
    return verified.record.version;
}

Result<OpenedVtpm> Vtpms::open(const Uuid &uuid) {
    if (channels_.contains(uuid)) return fail(ErrorCode::kInUse, "vTPM {} runs already", uuid.to_string());
    VTPM_ASSIGN(Verified verified, verify(uuid));
    const TpmVersion version = verified.record.version;
    auto channel = std::make_unique<StateChannel>(services_, std::move(verified.record), std::move(verified.key),
                                                  [this, uuid] { channels_.erase(uuid); });
    VTPM_ASSIGN(UniqueFd engine_end, channel->start());
    channels_.emplace(uuid, std::move(channel));
    return OpenedVtpm{version, std::move(engine_end)};
}

Result<Uuid> Vtpms::create(std::optional<Uuid> wanted, std::optional<TpmVersion> version, const std::string &group) {
    VtpmRecord record;
    record.uuid = wanted.value_or(Uuid::random());
    record.version = version.value_or(creation_.default_tpm);
    record.group = group;
    record.created = std::time(nullptr);
    VTPM_TRY(keys_.state());
    if (!keys_.has(group)) return fail(ErrorCode::kNotFound, "there is no group '{}'", group);
    VTPM_ASSIGN(const Key *group_key, keys_.key(group));
    VTPM_ASSIGN(const auto existing, services_.store.find_vtpm(record.uuid));
    if (existing) return fail(ErrorCode::kInUse, "vTPM {} exists already", record.uuid.to_string());
    VTPM_ASSIGN(const Key key, random_key());
    VTPM_ASSIGN(record.wrapped_key, wrap_key(*group_key, {record.uuid, record.version, record.group}, key));
    VTPM_TRY(services_.inventory.insert(record));
    log::info("vTPM {} created: TPM {}, group '{}'", record.uuid.to_string(), to_string(record.version), group);
    return record.uuid;
}

Result<> Vtpms::destroy(const Uuid &uuid) {
    VTPM_ASSIGN(const VtpmRecord record, find(uuid));
    if (channels_.contains(uuid))
        return fail(ErrorCode::kInUse, "vTPM {} is in use: shut its guest down first", uuid.to_string());
    VTPM_TRY(services_.inventory.remove(record));
    refusals_.erase(uuid);
    log::info("vTPM {} destroyed", uuid.to_string());
    return {};
}

Result<VtpmInfo> Vtpms::show(const Uuid &uuid) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    return info(std::move(record));
}

Result<std::vector<VtpmInfo>> Vtpms::list() {
    VTPM_ASSIGN(auto records, services_.store.vtpms());
    std::vector<VtpmInfo> infos;
    infos.reserve(records.size());
    for (VtpmRecord &record : records) infos.push_back(info(std::move(record)));
    return infos;
}

Result<Vtpms::Verified> Vtpms::verify(const Uuid &uuid) {
    VTPM_ASSIGN(VtpmRecord record, find(uuid));
    auto verified = verify(std::move(record));
    if (verified)
        refusals_.erase(uuid);
    else
        refusals_.insert_or_assign(uuid, verified.error().text);
    return verified;
}

Result<Vtpms::Verified> Vtpms::verify(VtpmRecord record) {
    VTPM_ASSIGN(const Key *group_key, keys_.key(record.group));
    VTPM_ASSIGN(Key key, key_of(*group_key, record));
    const auto state = open_stored_state(services_.store, record, key, StateKind::kPermanent);
    if (!state && state.error().code != ErrorCode::kNotFound) return tl::make_unexpected(state.error());
    return Verified{std::move(record), std::move(key)};
}

Result<VtpmRecord> Vtpms::find(const Uuid &uuid) {
    VTPM_ASSIGN(auto record, services_.store.find_vtpm(uuid));
    if (record) return std::move(*record);
    return fail(ErrorCode::kNotFound, "vTPM {} is unknown: xen-vtpm create {}", uuid.to_string(), uuid.to_string());
}

VtpmInfo Vtpms::info(VtpmRecord record) const {
    const auto refusal = refusals_.find(record.uuid);
    const bool in_use = channels_.contains(record.uuid);
    return {std::move(record), in_use, refusal == refusals_.end() ? std::string() : refusal->second};
}

}  // namespace vtpm
