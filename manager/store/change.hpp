// SPDX-License-Identifier: Apache-2.0
// What is to become durable together: edits of the inventory, in order. They are values, and nothing happens until
// Store::commit() has them: so no transaction is open while somebody decides what to write.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "manager/store/records.hpp"

namespace vtpm {

// What the store is sealed to, from now on.
struct SetPin {
    Pin pin;
};

struct InsertGroup {
    GroupRecord group;
};
// Its key as it is sealed now, and under what; nothing of the former stays in the files.
struct SealGroup {
    GroupRecord group;
};
// It has another key, or another TPM: all of it but its name, its manifest and when it was created.
struct ReplaceGroup {
    GroupRecord group;
};
struct SetRecovery {
    std::string group;
    Bytes recovery;
};
struct SetCa {
    std::string group;
    CaRecord ca;
};
// kInUse while it has vTPMs. Its policies and approvals go along.
struct DeleteGroup {
    std::string name;
};
// All of them, with keys and states.
struct DeleteVtpmsOf {
    std::string group;
};

// One that is there already is left as it is.
struct InsertPolicy {
    PolicyRecord policy;
};
// kNotFound: there is none.
struct DeletePolicy {
    std::string id;
};
// In the place of one of its id, which says the same.
struct InsertLaunchApproval {
    PolicyRecord approval;
};
// kNotFound: there is none.
struct DeleteLaunchApproval {
    std::string id;
};

struct DropAuditRecords {
    std::int64_t last;  // of those that go
};

// kRefused: it is not new, it has a state.
struct InsertVtpm {
    VtpmRecord vtpm;
};
// What changes of a vTPM without a state that is stored: its key, of which the former stays in no file, and the tags,
// its certificates, what it asks of launches, its alias.
struct UpdateVtpm {
    VtpmRecord vtpm;
};
// With its key and states; none of it stays in the files.
struct DeleteVtpm {
    Uuid uuid;
};
// The volatile state is used once.
struct EndVolatileState {
    Uuid uuid;
};
// The same state under another key; of the former nothing stays in the files. After its UpdateVtpm.
struct ReplaceEnvelope {
    Uuid uuid;
    StateKind kind;
    Bytes envelope;
};
// Of a vTPM that the inventory has not. kNotFound: there are none.
struct DeleteOrphanedStates {
    Uuid uuid;
};

// The vTPMs of a group that gets another key are staged, some in each change, and are adopted at once, however many
// they are. A vTPM as it will be: what UpdateVtpm has of its key, and its states under that. Without effect until it is
// adopted; void if the vTPM changes before.
struct StageVtpm {
    VtpmRecord vtpm;
    std::map<StateKind, Bytes> envelopes;
};
// From now on all vTPMs of the group that are staged are so. The last edit of its change.
struct AdoptStaged {
    std::string group;
};
// So many at once: those that were adopted take the place of the former, of which nothing stays in the files after the
// last one; those that were not are forgotten.
struct MergeStaged {
    std::string group;
    std::int64_t most;
};

class Change {
public:
    // A state that is stored is large: who waits for it shares it.
    using Edit =
        std::variant<SetPin, InsertGroup, SealGroup, ReplaceGroup, SetRecovery, SetCa, DeleteGroup, DeleteVtpmsOf,
                     ManifestWrite, InsertPolicy, DeletePolicy, InsertLaunchApproval, DeleteLaunchApproval, AuditRecord,
                     DropAuditRecords, InsertVtpm, UpdateVtpm, DeleteVtpm, EndVolatileState, ReplaceEnvelope,
                     DeleteOrphanedStates, StageVtpm, AdoptStaged, MergeStaged, std::shared_ptr<const StateWrite>>;

    void add(Edit edit) { edits_.push_back(std::move(edit)); }
    [[nodiscard]] const std::vector<Edit> &edits() const { return edits_; }
    // Of this kind; null: there is none.
    template <typename T>
    [[nodiscard]] const T *last() const {
        const auto found = std::find_if(edits_.rbegin(), edits_.rend(),
                                        [](const Edit &edit) { return std::holds_alternative<T>(edit); });
        return found == edits_.rend() ? nullptr : &std::get<T>(*found);
    }

private:
    std::vector<Edit> edits_;
};

}  // namespace vtpm
