// SPDX-License-Identifier: Apache-2.0
// The inventory: groups, vTPMs and their sealed states. Knows no key. kStoreFailed: nothing of the call is durable;
// later calls may succeed. kRefused: what is there is damaged or not ours.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "manager/store/change.hpp"
#include "manager/store/records.hpp"

namespace vtpm {

class Store {
public:
    Store() = default;
    Store(const Store &) = delete;
    Store &operator=(const Store &) = delete;
    virtual ~Store() = default;

    // `edits` collects what is to become durable, all of it or nothing. It is called when all that was to be committed
    // before is settled, so what it reads is what its edits are made upon; what it adds is not read before it is
    // committed. An error of it ends it. `done` hears what became of it, before the next one collects.
    using Edits = std::function<Result<>(Change &)>;
    using Done = std::function<void(const Result<> &)>;
    virtual void commit(const Edits &edits, const Done &done) = 0;
    // The same, and returns when it is settled.
    Result<> commit(const Edits &edits);

    [[nodiscard]] virtual const std::string &id() const = 0;
    // Where it is, for who administers it.
    [[nodiscard]] virtual std::string path() const = 0;
    // A copy of all of it in a file of this host, to be taken away by who asked for it. `between` its steps others may
    // commit: what they do is in the copy. Those that nobody took are gone with the next start.
    virtual Result<std::string> back_up(const std::function<void()> &between) = 0;

    // For who is to write all of it anew, and would leave no room for what guests store meanwhile. kUnavailable: there
    // is not as much room again.
    virtual Result<> require_room() = 0;

    // Nothing before the first start is complete.
    virtual Result<std::optional<Pin>> pin() = 0;
    virtual Result<std::vector<GroupRecord>> groups() = 0;
    virtual Result<std::vector<PolicyRecord>> policies() = 0;
    virtual Result<std::vector<PolicyRecord>> launch_approvals() = 0;
    virtual Result<std::int64_t> count_launch_approvals(const std::string &group) = 0;
    // VtpmRecord::launch_approver, each once.
    virtual Result<std::vector<Bytes>> launch_approvers_of(const std::string &group) = 0;

    virtual Result<std::vector<AuditRecord>> audit_records() = 0;
    // The last one whose number is not above this.
    virtual Result<std::optional<AuditRecord>> last_audit_record(
        std::int64_t most = std::numeric_limits<std::int64_t>::max()) = 0;
    virtual Result<bool> has_audit_record(ByteView chain) = 0;

    virtual Result<std::optional<VtpmRecord>> find_vtpm(const Uuid &uuid) = 0;
    // Rows that can be read, and what the others call their vTPM: one that is damaged hides no other. At most so many
    // at once, in the order of their names, from behind `after` on.
    static constexpr std::int64_t kListedAtOnce = 500;
    struct Listed {
        std::vector<VtpmRecord> vtpms;
        std::vector<std::string> damaged;
        std::string last;  // for the next call, as it lies in the store; empty: there are no more
    };
    virtual Result<Listed> vtpms(std::string_view after = {}) = 0;
    // Whose alias or guest's name this is.
    virtual Result<std::vector<VtpmRecord>> vtpms_named(const std::string &name) = 0;
    virtual Result<std::int64_t> count_vtpms(const std::string &group) = 0;
    virtual Result<std::vector<VtpmRecord>> vtpms_of(const std::string &group) = 0;
    // One after the other: all of them at once would be large.
    virtual Result<> each_vtpm_of(const std::string &group,
                                  const std::function<Result<>(const VtpmRecord &)> &take) = 0;
    virtual Result<std::optional<StateRecord>> find_state(const Uuid &uuid, StateKind kind) = 0;
    // MergeStaged has something to do.
    virtual Result<bool> has_staged(const std::string &group) = 0;

protected:
    Store(Store &&) = default;
    Store &operator=(Store &&) = default;
};

}  // namespace vtpm
