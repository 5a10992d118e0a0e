// SPDX-License-Identifier: Apache-2.0
// A group whose key is unsealed: and whether its rows in the store are those that this host last wrote. What the store
// says must add up to the group's manifest, and the manifest's epoch must be the one that the hardware TPM keeps. The
// epoch moves when a group is opened and when the manager ends: then every older copy of the store is a former one.
#pragma once

#include <functional>
#include <optional>

#include "manager/groups/manifest.hpp"
#include "manager/groups/sealer.hpp"

namespace vtpm {

struct OpenGroup {
    std::string name;
    Key key;
    Manifest manifest;
    std::uint32_t nv_index = 0;  // 0: no epoch is kept
    Key epoch_authorization;
    bool begun = true;  // false: no epoch is kept yet, which must be before anything else: begin_epoch()
};

// For a group that this TPM does not know yet; 0: nowhere.
Result<std::uint32_t> new_index(Store &store, Sealer &sealer);
// What the store is to say of a group whose key is sealed under `policy` from now on.
Result<> seal_into(Sealer &sealer, const Key &key, const KeyPolicy &policy, Sealer::Opens opens, GroupRecord &record);
// A group that this TPM does not know yet, with its index: `record`, whose key opens until advance(), gets its
// manifest, which remembers `id` and `groups`. Write it, then begin_epoch().
Result<OpenGroup> new_group(Store &store, const Sealer &sealer, GroupRecord &record, Key key, Bytes id,
                            GroupList groups);
// `more` has the key, as it is sealed to be opened from advance() on; advance() must follow. Then
// what the store was before opens nothing any more. Crash at any point: the group opens, not begun or begun.
Result<> begin_epoch(Store &store, Sealer &sealer, OpenGroup &group, const Store::Edits &more);

// What the group's manifest says, as far as its key vouches for that: not which epoch it is of. Nothing: it is damaged,
// or not its own. An error is the store's.
Result<std::optional<Manifest::Content>> remembered(Store &store, const Sealer &sealer, const GroupRecord &record,
                                                    const Key &key);
// Whether the group's rows are those of its manifest; not which epoch that is of. kRefused: they are not.
Result<> verify_rows(Store &store, const Sealer &sealer, const GroupRecord &record, const Key &key);

// kRefused: the store, or a row of it, was put back. kStoreFailed: the epoch cannot move now; try again later.
Result<OpenGroup> open_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key);
// The same for a group whose key a recovery key brought. What it was sealed under is what `record` says from now on:
// `more` has that, in the change that has the manifest.
Result<OpenGroup> open_recovered_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key,
                                       const Store::Edits &more);
// The same, whatever the store says: the administrator takes it as it is.
Result<OpenGroup> accept_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key,
                               const Store::Edits &more = {});

// `former`, which is open, as `record` has it under another key, before any vTPM is put into its manifest.
Result<OpenGroup> next_group(Store &store, const Sealer &sealer, const OpenGroup &former, const GroupRecord &record,
                             Key key);
// It takes the place of the former. `epoch`: what the TPM keeps at its index. `edits` has its record, and the rows of
// its vTPMs that are not in the manifest yet.
using EditsOfRows = std::function<Result<>(Change &change, Manifest::Draft &rows)>;
Result<> adopt_group(Store &store, OpenGroup &group, Epoch epoch, const EditsOfRows &edits);

// A new epoch. Crash at any point: the store and the TPM agree on the one or on the other.
Result<> move_epoch(Store &store, Sealer &sealer, OpenGroup &group);

}  // namespace vtpm
