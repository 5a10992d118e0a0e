// SPDX-License-Identifier: Apache-2.0
// What can be done with the machine's vTPMs, for the backend (prepare, open) and the administrator (the rest).
// Errors are sentences for the administrator: they end up in the journal and in `xen-vtpm show`.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "manager/groups/group_keys.hpp"
#include "manager/vtpm/backup.hpp"
#include "manager/vtpm/state_channel.hpp"

namespace vtpm {

constexpr std::size_t kMaxAlias = 64;  // characters

struct CreationPolicy {
    bool auto_create = true;
    TpmVersion default_tpm = TpmVersion::k20;
    TpmProfile profile{};  // of a TPM 2.0
    LaunchPolicy launch = LaunchPolicy::kMeasure;
};

struct VtpmInfo {
    VtpmRecord record;
    bool in_use = false;
    std::string refusal;  // why it was last refused; empty if it was not
};

struct VtpmList {
    std::vector<VtpmInfo> vtpms;
    std::vector<std::string> damaged;  // what the rows call themselves that cannot be read
    std::string last;                  // as Store::Listed has it
};

// What an administrator says of a backup when he puts it back.
struct ImportOrder {
    std::string group{};            // empty: that of which it was made
    std::string recovery_key{};     // of that group; empty: the group is here, and open
    bool replace = false;           // the vTPM that is here goes back to the backup's time
    bool original_is_gone = false;  // it is of another store: no guest will ever use it there again
    // UUIDs of vTPMs that have an engine, says the backend: after our start their channels come one by one.
    std::string in_use{};
};

struct OpenedVtpm {
    TpmVersion version = TpmVersion::k20;
    UniqueFd channel;
};

class Vtpms {
public:
    Vtpms(StateServices &services, const GroupKeys &keys, CreationPolicy creation)
        : services_(services), keys_(keys), creation_(std::move(creation)) {}

    // Whether it could be opened now. One that is in use is fine: in a migration the new device comes before the old
    // one goes. kPowerOn: creates it if it is unknown and auto_create is on, and ends a volatile state; kRefused if
    // `launch`, as in OpenVtpm, is not what it asks for; kInvalid: it cannot be powered on with that.
    Result<TpmVersion> prepare(const Uuid &uuid, Beginning beginning = Beginning::kPowerOn, ByteView launch = {});
    // kInUse while its state channel is open elsewhere. `launch`, `guest`: as in OpenVtpm.
    Result<OpenedVtpm> open(const Uuid &uuid, ByteView launch = {}, std::string_view guest = {});

    // `wanted` absent: a random UUID. `version`, `pcr_banks`, `launch` absent: the default.
    Result<Uuid> create(std::optional<Uuid> wanted, std::optional<TpmVersion> version,
                        const std::string &group = std::string(kDefaultGroup),
                        const std::optional<PcrBanks> &pcr_banks = std::nullopt,
                        std::optional<LaunchPolicy> launch = std::nullopt);
    // From its next power-on. kRequireApproved binds it to its group's approver. One that is bound stays so, kRefused,
    // without a release (launch_release.hpp) that he signed for it.
    Result<> set_launch(const Uuid &uuid, LaunchPolicy launch, std::string_view release = {});
    // Another name for it; empty: none any more. kInUse: another vTPM has it; kInvalid: it is none.
    Result<> set_alias(const Uuid &uuid, const std::string &alias);
    // The one that has this alias; else the one whose guest was called so last. kNotFound; kInvalid: several guests'.
    Result<Uuid> find(const std::string &name);
    Result<> destroy(const Uuid &uuid);
    // Its endorsement certificates are issued again at its next power-on; or not, if they still were to be. kInvalid:
    // it has none.
    enum class Order { kGive, kWithdraw };
    Result<> reissue(const Uuid &uuid, Order order = Order::kGive);
    // Those of all of the group that have any. How many orders were given, or taken back.
    Result<std::size_t> reissue_group(const std::string &group, Order order);
    // For GroupKeys::rekey(), once.
    std::unique_ptr<VtpmKeys> rotation();
    // Its permanent state as last stored, sealed (backup.hpp). kInvalid: it has none yet.
    Result<std::string> export_vtpm(const Uuid &uuid);
    // A vTPM from a backup. kInUse: it would be there twice. The group of the backup, or `order.group`, must be open.
    Result<Uuid> import_vtpm(std::string_view text, const ImportOrder &order);
    Result<VtpmInfo> show(const Uuid &uuid);
    Result<VtpmList> list(std::string_view after = {});
    [[nodiscard]] std::size_t in_use() const { return channels_.size(); }

private:
    struct Verified {
        VtpmRecord record;
        Key key;
    };
    [[nodiscard]] Result<TpmProfile> profile_of(TpmVersion version, const std::optional<PcrBanks> &pcr_banks) const;
    Result<> create_unknown(const Uuid &uuid);
    Result<> admit(const VtpmRecord &vtpm, ByteView launch);
    void remember_refusal(const Uuid &uuid, const std::string &reason);
    [[nodiscard]] Result<> bind_launch(VtpmRecord &vtpm, LaunchPolicy launch) const;
    Result<> end_volatile_state(const VtpmRecord &vtpm);
    Result<> destroy_remains(const Uuid &uuid);
    Result<std::optional<VtpmRecord>> replaced_by(const Backup &backup, const std::string &group,
                                                  const ImportOrder &order);
    // Its key and its stored state open.
    Result<Verified> verify(const Uuid &uuid);
    Result<Verified> verify(VtpmRecord record);
    Result<VtpmRecord> find(const Uuid &uuid);
    VtpmInfo info(VtpmRecord record) const;

    StateServices &services_;
    const GroupKeys &keys_;
    CreationPolicy creation_;
    std::map<Uuid, std::unique_ptr<StateChannel>> channels_;
    std::map<Uuid, std::string> refusals_;          // of vTPMs of the inventory
    std::map<Uuid, std::string> refused_launches_;  // since the last one that was not, as in the audit log
};

}  // namespace vtpm
