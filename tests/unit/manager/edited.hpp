// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "manager/groups/inventory.hpp"

namespace vtpm {

// What nobody vouches for, as who has the disk writes it.
template <typename... Edit>
Result<> edited(Store &store, const Edit &...edits) {
    return store.commit([&](Change &change) -> Result<> {
        (change.add(edits), ...);
        return {};
    });
}

inline std::shared_ptr<const StateWrite> shared(StateWrite write) {
    return std::make_shared<const StateWrite>(std::move(write));
}

// And returns when it is settled.
inline Result<> write(Inventory &inventory, StateWrite state) {
    Result<> settled;
    inventory.write({shared(std::move(state))}, [&](const Result<> &result) { settled = result; });
    return settled;
}

}  // namespace vtpm
