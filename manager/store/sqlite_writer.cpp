// SPDX-License-Identifier: Apache-2.0
#include "manager/store/sqlite_writer.hpp"

namespace vtpm {
namespace {

// One edit after the other, in the transaction that is open.
class Writer {
public:
    Writer(Database &database, bool has_staged) : database_(database), has_staged_(has_staged) {}

    // Something went that is to be found in no file.
    [[nodiscard]] bool removes() const { return removes_; }

    Result<> operator()(const SetPin &edit) {
        return database_.execute(
            "INSERT INTO meta (name, value) VALUES ('sealing', CAST(? AS BLOB)), ('identity', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            edit.pin.sealing, ByteView(edit.pin.identity));
    }

    Result<> operator()(const InsertGroup &edit) {
        const GroupRecord &group = edit.group;
        return database_.execute(
            "INSERT INTO groups (name, pcrs, approver, generation, pcr_values, pcr_events, public_area, private_area, "
            "nv_index, manifest, recovery, ca_public, ca_private, ca_certificate, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            group.name, group.pcrs, ByteView(group.approver), std::int64_t{group.generation},
            ByteView(group.key.pcr_values), ByteView(group.key.pcr_events), ByteView(group.key.public_area),
            ByteView(group.key.private_area), std::int64_t{group.nv_index}, ByteView(group.manifest),
            ByteView(group.recovery), ByteView(group.ca.key.public_area), ByteView(group.ca.key.private_area),
            ByteView(group.ca.certificates), group.created);
    }

    Result<> operator()(const SealGroup &edit) {
        const GroupRecord &group = edit.group;
        removes_ = true;
        return change_one(
            "UPDATE groups SET pcrs = ?, approver = ?, generation = ?, pcr_values = ?, pcr_events = ?, "
            "public_area = ?, private_area = ? WHERE name = ?",
            group.pcrs, ByteView(group.approver), std::int64_t{group.generation}, ByteView(group.key.pcr_values),
            ByteView(group.key.pcr_events), ByteView(group.key.public_area), ByteView(group.key.private_area),
            group.name);
    }

    Result<> operator()(const ReplaceGroup &edit) {
        const GroupRecord &group = edit.group;
        VTPM_TRY((*this)(SealGroup{group}));
        VTPM_TRY((*this)(SetRecovery{group.name, group.recovery}));
        VTPM_TRY((*this)(SetCa{group.name, group.ca}));
        return change_one("UPDATE groups SET nv_index = ? WHERE name = ?", std::int64_t{group.nv_index}, group.name);
    }

    Result<> operator()(const SetRecovery &edit) {
        removes_ = true;
        return change_one("UPDATE groups SET recovery = ? WHERE name = ?", ByteView(edit.recovery), edit.group);
    }

    Result<> operator()(const SetCa &edit) {
        return change_one("UPDATE groups SET ca_public = ?, ca_private = ?, ca_certificate = ? WHERE name = ?",
                          ByteView(edit.ca.key.public_area), ByteView(edit.ca.key.private_area),
                          ByteView(edit.ca.certificates), edit.group);
    }

    Result<> operator()(const DeleteGroup &edit) {
        VTPM_ASSIGN(const auto count, count_vtpms(edit.name));
        if (count != 0)
            return fail(ErrorCode::kInUse, "group '{}' has {} vTPMs: delete them first: xen-vtpm delete UUID",
                        edit.name, count);
        VTPM_TRY(database_.execute("DELETE FROM policies WHERE group_name = ?", edit.name));
        VTPM_TRY(database_.execute("DELETE FROM launch_approvals WHERE group_name = ?", edit.name));
        removes_ = true;
        return change_one("DELETE FROM groups WHERE name = ?", edit.name);
    }

    Result<> operator()(const DeleteVtpmsOf &edit) {
        for (const char *const table : {"staged_states", "staged_vtpms", "states"})
            VTPM_TRY(database_.execute(
                fmt::format("DELETE FROM {} WHERE uuid IN (SELECT uuid FROM vtpms WHERE group_name = ?)", table),
                edit.group));
        removes_ = true;
        return database_.execute("DELETE FROM vtpms WHERE group_name = ?", edit.group);
    }

    Result<> operator()(const ManifestWrite &edit) {
        return change_one("UPDATE groups SET manifest = ? WHERE name = ?", ByteView(edit.manifest), edit.group);
    }

    Result<> operator()(const InsertPolicy &edit) {
        const PolicyRecord &policy = edit.policy;
        return database_.execute(
            "INSERT OR IGNORE INTO policies (id, group_name, document, installed) VALUES (?, ?, ?, ?)", policy.id,
            policy.group, policy.document, policy.installed);
    }

    Result<> operator()(const DeletePolicy &edit) {
        VTPM_TRY(database_.execute("DELETE FROM policies WHERE id = ?", edit.id));
        if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "there is no boot policy {}", edit.id);
        removes_ = true;
        return {};
    }

    Result<> operator()(const InsertLaunchApproval &edit) {
        const PolicyRecord &approval = edit.approval;
        return database_.execute(
            "INSERT OR REPLACE INTO launch_approvals (id, group_name, document, installed) VALUES (?, ?, ?, ?)",
            approval.id, approval.group, approval.document, approval.installed);
    }

    Result<> operator()(const DeleteLaunchApproval &edit) {
        VTPM_TRY(database_.execute("DELETE FROM launch_approvals WHERE id = ?", edit.id));
        if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "there is no launch approval {}", edit.id);
        return {};
    }

    Result<> operator()(const AuditRecord &record) {
        return database_.execute(
            "INSERT INTO audit (number, time, event, subject, detail, chain) VALUES (?, ?, ?, ?, ?, ?)", record.number,
            record.time, record.event, record.subject, record.detail, ByteView(record.chain));
    }

    Result<> operator()(const DropAuditRecords &edit) {
        return database_.execute("DELETE FROM audit WHERE number <= ?", edit.last);
    }

    Result<> operator()(const InsertVtpm &edit) {
        const VtpmRecord &vtpm = edit.vtpm;
        VTPM_TRY(require_stateless(vtpm.uuid));
        return database_.execute(
            "INSERT INTO vtpms (uuid, tpm_version, pcr_banks, algorithms, group_name, wrapped_key, created, launch, "
            "launch_approver, launch_binding, alias, guest, last_used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            vtpm.uuid.to_string(), to_string(vtpm.version), vtpm.profile.pcr_banks.to_string(), vtpm.profile.algorithms,
            vtpm.group, ByteView(vtpm.wrapped_key), vtpm.created, to_string(vtpm.launch),
            ByteView(vtpm.launch_approver), ByteView(vtpm.launch_binding), vtpm.alias, vtpm.guest, vtpm.last_used);
    }

    Result<> operator()(const UpdateVtpm &edit) {
        const VtpmRecord &vtpm = edit.vtpm;
        removes_ = true;
        VTPM_TRY(merge(vtpm.uuid.to_string()));
        return change_one(
            "UPDATE vtpms SET wrapped_key = ?, tag = ?, volatile_tag = ?, endorsement = ?, launch = ?, "
            "launch_approver = ?, launch_binding = ?, alias = ? WHERE uuid = ?",
            ByteView(vtpm.wrapped_key), ByteView(vtpm.tag), ByteView(vtpm.volatile_tag), ByteView(vtpm.endorsement),
            to_string(vtpm.launch), ByteView(vtpm.launch_approver), ByteView(vtpm.launch_binding), vtpm.alias,
            vtpm.uuid.to_string());
    }

    Result<> operator()(const DeleteVtpm &edit) {
        const std::string uuid = edit.uuid.to_string();
        VTPM_TRY(merge(uuid));
        VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ?", uuid));
        removes_ = true;
        return change_one("DELETE FROM vtpms WHERE uuid = ?", uuid);
    }

    Result<> operator()(const EndVolatileState &edit) {
        const std::string uuid = edit.uuid.to_string();
        VTPM_TRY(merge(uuid));
        VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ? AND kind = 2", uuid));
        return change_one("UPDATE vtpms SET volatile_tag = x'' WHERE uuid = ?", uuid);
    }

    Result<> operator()(const ReplaceEnvelope &edit) {
        removes_ = true;
        return change_one("UPDATE states SET envelope = ? WHERE uuid = ? AND kind = ?", ByteView(edit.envelope),
                          edit.uuid.to_string(), number(edit.kind));
    }

    Result<> operator()(const DeleteOrphanedStates &edit) {
        const std::string uuid = edit.uuid.to_string();
        VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ? AND uuid NOT IN (SELECT uuid FROM vtpms)", uuid));
        if (database_.changes() == 0) return fail(ErrorCode::kNotFound, "vTPM {} is unknown", uuid);
        removes_ = true;
        return {};
    }

    Result<> operator()(const std::shared_ptr<const StateWrite> &edit) {
        const StateWrite &state = *edit;
        const std::string uuid = state.uuid.to_string();
        const auto sequence = static_cast<std::int64_t>(state.sequence);
        const Bytes tag = envelope_tag(state.envelope);
        VTPM_TRY(merge(uuid));
        if (state.kind == StateKind::kPermanent) {
            VTPM_TRY(change_one("UPDATE vtpms SET sequence = ?, tag = ?, volatile_tag = x'' WHERE uuid = ?", sequence,
                                ByteView(tag), uuid));
            VTPM_TRY(database_.execute("DELETE FROM states WHERE uuid = ? AND kind = 2", uuid));
        } else {
            VTPM_TRY(change_one("UPDATE vtpms SET volatile_sequence = ?, volatile_tag = ? WHERE uuid = ?", sequence,
                                ByteView(tag), uuid));
        }
        if (!state.endorsement.empty())
            VTPM_TRY(database_.execute("UPDATE vtpms SET endorsement = ? WHERE uuid = ?", ByteView(state.endorsement),
                                       uuid));
        if (state.power_on)
            VTPM_TRY(database_.execute("UPDATE vtpms SET event_log_digest = ?, guest = ?, last_used = ? WHERE uuid = ?",
                                       ByteView(state.power_on->event_log_digest), state.power_on->guest,
                                       state.power_on->time, uuid));
        return database_.execute(
            "INSERT INTO states (uuid, kind, sequence, envelope) VALUES (?1, ?2, ?3, ?4) "
            "ON CONFLICT (uuid, kind) DO UPDATE SET sequence = ?3, envelope = ?4",
            uuid, number(state.kind), sequence, ByteView(state.envelope));
    }

    Result<> operator()(const StageVtpm &edit) {
        const VtpmRecord &vtpm = edit.vtpm;
        const std::string uuid = vtpm.uuid.to_string();
        VTPM_TRY(forget_staged(uuid));
        VTPM_TRY(
            database_.execute("INSERT INTO staged_vtpms (uuid, wrapped_key, tag, volatile_tag) VALUES (?, ?, ?, ?)",
                              uuid, ByteView(vtpm.wrapped_key), ByteView(vtpm.tag), ByteView(vtpm.volatile_tag)));
        for (const auto &[kind, envelope] : edit.envelopes)
            VTPM_TRY(database_.execute("INSERT INTO staged_states (uuid, kind, envelope) VALUES (?, ?, ?)", uuid,
                                       number(kind), ByteView(envelope)));
        return {};
    }

    Result<> operator()(const AdoptStaged &edit) {
        return change_one("UPDATE groups SET adopted = 1 WHERE name = ?", edit.group);
    }

    Result<> operator()(const MergeStaged &edit) {
        std::vector<std::string> staged;
        {
            // All vTPMs would be looked at first, if SQLite had its way.
            VTPM_ASSIGN(Statement row, database_.prepare("SELECT s.uuid FROM staged_vtpms s CROSS JOIN vtpms v ON "
                                                         "v.uuid = s.uuid WHERE v.group_name = ? LIMIT ?",
                                                         edit.group, edit.most));
            for (;;) {
                VTPM_ASSIGN(const bool found, row.step());
                if (!found) break;
                staged.push_back(row.document(0));
            }
        }
        for (const std::string &uuid : staged) VTPM_TRY(merge(uuid));
        if (std::ssize(staged) == edit.most) return {};
        removes_ = true;
        return change_one("UPDATE groups SET adopted = 0 WHERE name = ?", edit.group);
    }

private:
    // Before a vTPM changes: what is staged of it is what it is, if it was adopted, and otherwise void.
    Result<> merge(const std::string &uuid) {
        if (!has_staged_) return {};
        VTPM_ASSIGN(const bool staged, finds("SELECT 1 FROM staged_vtpms WHERE uuid = ?", uuid));
        if (!staged) return {};
        VTPM_ASSIGN(
            const bool adopted,
            finds("SELECT 1 FROM groups g JOIN vtpms v ON v.group_name = g.name WHERE v.uuid = ? AND adopted", uuid));
        if (adopted) {
            VTPM_TRY(
                change_one("UPDATE vtpms SET wrapped_key = s.wrapped_key, tag = s.tag, volatile_tag = s.volatile_tag "
                           "FROM staged_vtpms s WHERE vtpms.uuid = ?1 AND s.uuid = ?1",
                           uuid));
            VTPM_TRY(
                database_.execute("UPDATE states SET envelope = t.envelope FROM staged_states t WHERE "
                                  "states.uuid = ?1 AND t.uuid = ?1 AND t.kind = states.kind",
                                  uuid));
        }
        return forget_staged(uuid);
    }

    Result<> forget_staged(const std::string &uuid) {
        VTPM_TRY(database_.execute("DELETE FROM staged_states WHERE uuid = ?", uuid));
        return database_.execute("DELETE FROM staged_vtpms WHERE uuid = ?", uuid);
    }

    Result<bool> finds(std::string_view sql, const std::string &value) {
        VTPM_ASSIGN(Statement row, database_.prepare(sql, value));
        return row.step();
    }

    static std::int64_t number(StateKind kind) { return static_cast<std::int64_t>(kind); }

    // Of a row that is known to be there. An index that is damaged may hide it, and a change of nothing is no success.
    template <typename... Values>
    Result<> change_one(std::string_view sql, const Values &...values) {
        VTPM_TRY(database_.execute(sql, values...));
        if (database_.changes() == 1) return {};
        return fail(ErrorCode::kRefused, "store: the database is damaged: a row is there, and is not found");
    }

    Result<std::int64_t> count_vtpms(const std::string &group) {
        VTPM_ASSIGN(Statement row, database_.prepare("SELECT count(*) FROM vtpms WHERE group_name = ?", group));
        VTPM_TRY(row.step());
        return row.integer(0);
    }

    // The states go with the vTPM's row: one without it is of a vTPM whose row was damaged, and is not new.
    Result<> require_stateless(const Uuid &uuid) {
        VTPM_ASSIGN(const bool found, finds("SELECT 1 FROM states WHERE uuid = ? LIMIT 1", uuid.to_string()));
        if (!found) return {};
        return fail(
            ErrorCode::kRefused,
            "vTPM {} has a state, but the inventory has no such vTPM: it is damaged; restore the store, or give the "
            "state up: xen-vtpm delete {}",
            uuid.to_string(), uuid.to_string());
    }

    Database &database_;
    bool has_staged_;
    bool removes_ = false;
};

}  // namespace

Result<> write_change(Database &database, const Change &change, bool has_staged) {
    VTPM_ASSIGN(Transaction transaction, Transaction::begin(database));
    Writer writer(database, has_staged);
    for (const Change::Edit &edit : change.edits()) VTPM_TRY(std::visit(writer, edit));
    VTPM_TRY(transaction.commit());
    if (writer.removes()) database.wipe_log();
    return {};
}

}  // namespace vtpm
