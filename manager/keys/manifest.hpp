// SPDX-License-Identifier: Apache-2.0
// What the store must say of a group's vTPMs, in one envelope under the group's key: a keyed sum over their rows of the
// inventory, moved along by each commit in the same transaction, and the epoch, which the hardware TPM remembers as
// well. A row that is put back, changed or removed is not in the sum; an older store is not of the epoch
// (docs/keys.md).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "manager/keys/cipher.hpp"
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

class Manifest {
public:
    using Sum = std::array<std::uint8_t, 32>;

    // The keys are derived from the group's. A manifest is good for the NV index of `group` only, where the epoch is
    // kept, and for its CA. `vtpms`: the store's rows, of this group.
    static Result<Manifest> over(const Key &group_key, const GroupRecord &group, const std::vector<VtpmRecord> &vtpms);

    // While the TPM moves from the one to the other, it may be at either. None: all zero.
    struct Epochs {
        Epoch present;
        Epoch next;
        Bytes audit_head;
    };
    // kRefused: the envelope is not this group's, or its sum is another one than that over the rows.
    Result<Epochs> verify(ByteView envelope) const;
    Result<Bytes> seal(const Epoch &present, const Epoch &next) const { return seal(present, next, sum_); }

    [[nodiscard]] const Epoch &epoch() const { return epoch_; }
    void set_epoch(Epoch epoch) { epoch_ = std::move(epoch); }
    // The audit log's end (audit.hpp), to be remembered from the next seal() on.
    void set_audit_head(Bytes head) { audit_head_ = std::move(head); }

    struct Row {
        VtpmRecord vtpm;
        Sum digest;
    };

    // What a commit will change. Nothing has happened until adopt().
    class Change {
    public:
        explicit Change(const Manifest &manifest) : manifest_(&manifest), sum_(manifest.sum_), ca_(manifest.ca_) {}
        Result<> put(const VtpmRecord &vtpm);
        // kNotFound: the group has no such vTPM.
        Result<> put(const StateWrite &state);
        Result<> end_volatile_state(const Uuid &uuid);
        Result<> remove(const Uuid &uuid);
        Result<> put(const CaRecord &ca);
        [[nodiscard]] Result<Bytes> seal() const;

    private:
        friend class Manifest;
        // As it is after what was put so far, until the next put() or remove(). Null: there is none.
        [[nodiscard]] const Row *find(const Uuid &uuid) const;
        [[nodiscard]] Result<const Row *> row(const Uuid &uuid) const;
        const Manifest *manifest_;
        Sum sum_;
        Sum ca_;
        std::map<Uuid, std::optional<Row>> rows_;  // none: removed
    };
    void adopt(Change &&change);

private:
    Manifest() = default;
    Result<Sum> digest(const VtpmRecord &vtpm) const;
    Result<Sum> digest(const CaRecord &ca) const;
    [[nodiscard]] Result<Bytes> seal(const Epoch &present, const Epoch &next, const Sum &sum) const;

    std::string associated_;
    Key rows_key_;
    Key ca_key_;
    Key envelope_key_;
    Epoch epoch_;
    Bytes audit_head_;
    Sum sum_{};
    Sum ca_{};  // what of it is the CA's
    std::map<Uuid, Row> rows_;
};

}  // namespace vtpm
