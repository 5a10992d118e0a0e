// SPDX-License-Identifier: Apache-2.0
// The store of one host: a database in its state directory. What is committed is settled when commit() returns.
#pragma once

#include "manager/store/database.hpp"
#include "manager/store/directory.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

class SqliteStore final : public Store {
public:
    // The directory exists. A first start creates the database; one that is gone, damaged or newer is kRefused.
    static Result<SqliteStore> open(const std::string &directory_path, const char *vfs = nullptr);
    // kRefused: its database is of a version that this program could not open; also while another process has it open.
    static Result<> require_known(const std::string &directory_path);

    using Store::commit;
    void commit(const Edits &edits, const Done &done) override;

    [[nodiscard]] const std::string &id() const override { return directory_.store_id(); }
    [[nodiscard]] std::string path() const override { return directory_.database(); }
    Result<> require_room() override;
    Result<std::string> back_up(const std::function<void()> &between) override;
    Result<std::optional<Pin>> pin() override;
    Result<std::vector<GroupRecord>> groups() override;
    Result<std::vector<PolicyRecord>> policies() override;
    Result<std::vector<PolicyRecord>> launch_approvals() override;
    Result<std::int64_t> count_launch_approvals(const std::string &group) override;
    Result<std::vector<Bytes>> launch_approvers_of(const std::string &group) override;
    Result<std::vector<AuditRecord>> audit_records() override;
    Result<std::optional<AuditRecord>> last_audit_record(
        std::int64_t most = std::numeric_limits<std::int64_t>::max()) override;
    Result<bool> has_audit_record(ByteView chain) override;
    Result<std::optional<VtpmRecord>> find_vtpm(const Uuid &uuid) override;
    Result<std::vector<VtpmRecord>> vtpms_named(const std::string &name) override;
    Result<Listed> vtpms(std::string_view after = {}) override;
    Result<std::int64_t> count_vtpms(const std::string &group) override;
    Result<std::vector<VtpmRecord>> vtpms_of(const std::string &group) override;
    Result<> each_vtpm_of(const std::string &group, const std::function<Result<>(const VtpmRecord &)> &take) override;
    Result<std::optional<StateRecord>> find_state(const Uuid &uuid, StateKind kind) override;
    Result<bool> has_staged(const std::string &group) override;

private:
    SqliteStore(StateDirectory directory, Database database)
        : directory_(std::move(directory)), database_(std::move(database)) {}
    Result<> adopt_id();
    Result<> write(const Edits &edits);
    Result<> look_for_staged();

    StateDirectory directory_;
    Database database_;
    bool collecting_ = false;
    bool has_staged_ = true;  // of any group; true: perhaps
};

}  // namespace vtpm
