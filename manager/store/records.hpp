// SPDX-License-Identifier: Apache-2.0
// What a store keeps, whichever it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/uuid.hpp"
#include "manager/store/launch_policy.hpp"
#include "manager/tpm/sealed_object.hpp"
#include "manager/tpm/tpm_key.hpp"
#include "manager/tpm/tpm_profile.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// What a store is sealed to.
struct Pin {
    std::string sealing;  // Sealer::sealing() and identity()
    Bytes identity;
};

// What certifies a group's vTPMs. All empty: there is none yet.
struct CaRecord {
    TpmKey key;
    // DER, one after the other: its own, then those between it and a root; empty: there is none yet.
    Bytes certificates;
    bool operator==(const CaRecord &) const = default;
};

struct GroupRecord {
    std::string name;
    std::string pcrs;  // that its key is sealed to, such as "sha256:7"; empty: none
    Bytes approver;    // ApproverKey::public_area(); empty: none
    std::uint32_t generation = 1;
    SealedObject key;
    std::uint32_t nv_index = 0;  // where the hardware TPM keeps its epoch; 0: nowhere
    Bytes manifest;              // Manifest::seal()
    std::int64_t created = 0;    // seconds since 1970
    Bytes recovery;              // its key under its recovery key (recovery_key.hpp); empty: it has none
    CaRecord ca;
    bool operator==(const GroupRecord &) const = default;
};

// A group's manifest as it is after the change that it is written with.
struct ManifestWrite {
    std::string group;
    Bytes manifest;
};

// A boot policy of a group's approver, or an approval of launches.
struct PolicyRecord {
    std::string id;
    std::string group;
    std::string document;
    std::int64_t installed = 0;  // seconds since 1970
};

// One line of the audit log (manager/groups/audit.hpp).
struct AuditRecord {
    std::int64_t number = 0;  // without gaps
    std::int64_t time = 0;    // seconds since 1970
    std::string event;
    std::string subject;
    std::string detail;
    Bytes chain;
};

struct VtpmRecord {
    Uuid uuid;
    TpmVersion version = TpmVersion::k20;
    std::string group;
    Bytes wrapped_key;
    std::uint64_t sequence = 0;           // of the permanent state; 0: never stored
    std::uint64_t volatile_sequence = 0;  // of the volatile state
    Bytes tag;                            // the last 16 bytes of the permanent state's envelope, which authenticate it
    Bytes volatile_tag;                   // of the volatile one; empty: there is none
    std::int64_t created = 0;             // seconds since 1970
    Bytes endorsement{};                  // its certified endorsement keys (ca/endorsement.hpp); empty: it has none
    TpmProfile profile{};                 // what it was made with, or will be
    LaunchPolicy launch = LaunchPolicy::kOff;
    // SHA-256 of the event log of its last power-on; empty: it had none.
    Bytes event_log_digest{};
    // kRequireApproved: whose word counts, as ApproverKey::public_area(), and what his release must name
    // (launch_release.hpp). Otherwise both are empty.
    Bytes launch_approver{};
    Bytes launch_binding{};
    // What people call it: a name that an administrator gave it, of no other vTPM; and that of its guest, as Xen had it
    // at the last power-on, when that was. Empty, 0: none, never.
    std::string alias{};
    std::string guest{};
    std::int64_t last_used = 0;  // seconds since 1970

    [[nodiscard]] std::uint64_t sequence_of(StateKind kind) const {
        return kind == StateKind::kPermanent ? sequence : volatile_sequence;
    }
    [[nodiscard]] const Bytes &tag_of(StateKind kind) const {
        return kind == StateKind::kPermanent ? tag : volatile_tag;
    }
};

struct StateRecord {
    std::uint64_t sequence = 0;
    Bytes envelope;
};

// What is noted of a power-on.
struct PowerOnRecord {
    Bytes event_log_digest;  // as VtpmRecord has them
    std::string guest;
    std::int64_t time = 0;
};

// One state to be stored; `sequence` is one more than the present one.
struct StateWrite {
    Uuid uuid;
    std::string group;
    StateKind kind = StateKind::kPermanent;
    std::uint64_t sequence = 0;
    Bytes envelope;
    Bytes endorsement{};                      // with the first state of a new TPM; empty: what the inventory has stays
    std::optional<PowerOnRecord> power_on{};  // with the first state after one
};

Bytes envelope_tag(ByteView envelope);
// What the inventory says of the vTPM after the write: a permanent state ends the volatile one, which belonged to the
// former.
void apply(const StateWrite &write, VtpmRecord &vtpm);

}  // namespace vtpm
