// SPDX-License-Identifier: Apache-2.0
// A group whose key is unsealed: and whether its rows in the store are those that this host last wrote. What the store
// says must add up to the group's manifest, and the manifest's epoch must be the one that the hardware TPM keeps. The
// epoch moves when a group is opened and when the manager ends: then every older copy of the store is a former one.
#pragma once

#include "manager/keys/manifest.hpp"
#include "manager/keys/sealer.hpp"

namespace vtpm {

struct OpenGroup {
    std::string name;
    Key key;
    Manifest manifest;
    std::uint32_t nv_index = 0;  // 0: no epoch is kept
    Key epoch_authorization;
};

// For a group that this TPM does not know yet; 0: nowhere.
Result<std::uint32_t> new_index(Store &store, Sealer &sealer);
// Such a group, with its index: `record` gets its manifest. Write it, then begin_epoch().
Result<OpenGroup> new_group(Store &store, GroupRecord &record, Key key);
Result<> begin_epoch(Store &store, Sealer &sealer, OpenGroup &group);

// Whether the group's rows are those of its manifest; not which epoch that is of. kRefused: they are not.
Result<> verify_rows(Store &store, const GroupRecord &record, const Key &key);

// kRefused: the store, or a row of it, was put back. kStoreFailed: the epoch cannot move now; try again later.
Result<OpenGroup> open_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key);
// The same, whatever the store says: the administrator takes it as it is.
Result<OpenGroup> accept_group(Store &store, Sealer &sealer, const GroupRecord &record, Key key);

// A new epoch. Crash at any point: the store and the TPM agree on the one or on the other.
Result<> move_epoch(Store &store, Sealer &sealer, OpenGroup &group);

}  // namespace vtpm
