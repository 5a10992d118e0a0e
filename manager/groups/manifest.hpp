// SPDX-License-Identifier: Apache-2.0
// What the store must say of a group, in one envelope under the group's key: the group's own row, a keyed sum over its
// vTPMs' rows of the inventory, moved along by each commit in the same transaction, and the epoch, which the hardware
// TPM remembers as well. A row that is put back, changed or removed is not in the sum; an older store is not of the
// epoch (docs/keys.md).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/crypto/cipher.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

// Random, and known to nobody but the hardware TPM and who has the group's key.
using Epoch = Secret<kEpochSize>;
Result<Epoch> random_epoch();
// `bytes` are of an epoch's size.
Epoch epoch_of(ByteView bytes);
bool operator==(const Epoch &left, const Epoch &right);
// What the TPM asks of who reads or writes it.
Result<Key> epoch_authorization(const Key &group_key);
// Of who signs with the group's CA.
Result<Key> ca_authorization(const Key &group_key);
// Before the TPM keeps one: all zero.
bool is_none(const Epoch &epoch);

// Which groups the store has: each group's manifest remembers all of them, so that one is missed that was removed from
// the store with all its rows.
struct GroupList {
    std::uint64_t number = 0;          // of its changes: where two manifests differ, the higher holds; 0: not known yet
    std::map<std::string, Bytes> ids;  // Terms::id, by the group's name
    std::set<Bytes> gone{};            // ids of those that were deleted, until each group knows

    void erase(const std::string &name);
    // Two that were changed apart from each other have another past: what `other` has and this one never had, or has
    // still, is taken over. Where both have the name, this one's holds.
    void join(const GroupList &other);
    bool operator==(const GroupList &) const = default;
};
// As it is after one more change; one that is not known yet stays so.
GroupList next_of(GroupList groups);
// Random: one that was deleted is not the next of its name.
Result<Bytes> random_group_id();

// What a group's row says that nobody else vouches for before the group's key is there, or when a recovery key brought
// it.
struct Terms {
    std::string pcrs;  // as in GroupRecord, like the next two
    Bytes approver;
    std::uint32_t generation = 1;
    std::string sealing;  // Sealer::sealing() and identity() of what the key is sealed by
    Bytes identity;
    std::string store_id;
    std::int64_t created = 0;
    Bytes recovery;  // SHA-256 of GroupRecord::recovery; empty: there is none
    // Of a group that has no epoch yet: SHA-256 of the public area of the one sealed object that it goes with.
    Bytes beginning{};
    // No column has these.
    Bytes id{};
    GroupList groups{};

    bool operator==(const Terms &) const = default;
};
// The group's row, with what its key is sealed under as its manifest has that.
GroupRecord as_remembered(GroupRecord group, const Terms &terms);
Terms terms_of(const GroupRecord &group, std::string_view sealing, ByteView identity, std::string_view store_id);
Bytes digest_of(ByteView bytes);

class Manifest {
public:
    using Sum = std::array<std::uint8_t, 32>;

    // The keys are derived from the group's. A manifest is good for the NV index of `group` only, where the epoch is
    // kept, and for its CA. `store` has the rows, of which the digests stay here. `terms`: what seal() writes.
    static Result<Manifest> over(const Key &group_key, const GroupRecord &group, Store &store, Terms terms);
    // The same before any row is put into it.
    static Result<Manifest> without_rows(const Key &group_key, const GroupRecord &group, Store &store, Terms terms);
    [[nodiscard]] std::size_t count_vtpms() const { return digests_.size(); }
    // Of the rows as they were last written.
    [[nodiscard]] const std::map<Uuid, Sum> &digests() const { return digests_; }

    // What an envelope says.
    struct Content {
        // While the TPM moves from the one to the other, it may be at either.
        Epoch present;
        Epoch next;
        Sum sum{};
        Bytes audit_head;
        std::optional<Terms> terms;  // none: it is of a version that did not know them (docs/keys.md)
    };
    // kRefused: it is damaged, or not this group's.
    Result<Content> read(ByteView envelope) const;
    // kRefused: the rows of the vTPMs, or the CA, are others.
    Result<> verify_rows(const Content &content) const;
    // The same of one row, while the group is open; one that is verified is about to be used.
    [[nodiscard]] Result<> require_present(const VtpmRecord &vtpm) const;
    Result<> verify(const VtpmRecord &vtpm);
    Result<Bytes> seal(const Epoch &present, const Epoch &next) const { return seal(present, next, sum_, terms_); }

    [[nodiscard]] const Epoch &epoch() const { return epoch_; }
    void set_epoch(Epoch epoch) { epoch_ = std::move(epoch); }
    [[nodiscard]] const Terms &terms() const { return terms_; }
    void set_beginning(Bytes object) { terms_.beginning = std::move(object); }
    void remember(Bytes id, GroupList groups) {
        terms_.id = std::move(id);
        terms_.groups = std::move(groups);
    }
    // The audit log's end (audit.hpp), to be remembered from the next seal() on.
    void set_audit_head(Bytes head) { audit_head_ = std::move(head); }

    struct Row {
        VtpmRecord vtpm;
        Sum digest;
    };

    // As it will be after a commit. Nothing has happened until adopt().
    class Draft {
    public:
        explicit Draft(const Manifest &manifest)
            : manifest_(&manifest), sum_(manifest.sum_), ca_(manifest.ca_), terms_(manifest.terms_) {}
        Result<> put(const VtpmRecord &vtpm);
        // kNotFound: the group has no such vTPM.
        Result<> put(const StateWrite &state);
        Result<> end_volatile_state(const Uuid &uuid);
        Result<> remove(const Uuid &uuid);
        Result<> put(const CaRecord &ca);
        void put(Terms terms) { terms_ = std::move(terms); }
        [[nodiscard]] Result<Bytes> seal() const;

    private:
        friend class Manifest;
        // As it is after what was put so far, until the next put() or remove(). Null: there is none.
        [[nodiscard]] const Sum *find(const Uuid &uuid) const;
        [[nodiscard]] Result<VtpmRecord> row(const Uuid &uuid) const;
        const Manifest *manifest_;
        Sum sum_;
        Sum ca_;
        Terms terms_;
        std::map<Uuid, std::optional<Row>> rows_;  // none: removed
    };
    void adopt(Draft &&draft);

private:
    // As many of the rows that were last used as there is room for: those of vTPMs that run.
    static constexpr std::size_t kMostRecent = 4096;
    explicit Manifest(Store &store) : store_(&store) {}
    void remember(VtpmRecord vtpm);
    Result<Sum> digest(const VtpmRecord &vtpm) const;
    Result<Sum> digest(const CaRecord &ca) const;
    [[nodiscard]] Result<Bytes> seal(const Epoch &present, const Epoch &next, const Sum &sum, const Terms &terms) const;

    std::string place_;  // that it is good for
    Key rows_key_;
    Key ca_key_;
    Key envelope_key_;
    Epoch epoch_;
    Bytes audit_head_;
    Terms terms_;
    Sum sum_{};
    Sum ca_{};  // what of it is the CA's
    Store *store_;
    std::map<Uuid, Sum> digests_;  // of the rows as they were last written
    std::map<Uuid, VtpmRecord> recent_;
};

}  // namespace vtpm
