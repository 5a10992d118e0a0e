// SPDX-License-Identifier: Apache-2.0
// From the inventory's row to the state in plain text, or to the reason why not.
#pragma once

#include "manager/groups/envelope.hpp"
#include "manager/store/store.hpp"

namespace vtpm {

// The vTPM's own key, by its group's, and as its row has it. It is bound to the approver of its launches, if it has
// one.
Result<Key> key_of(const Key &group_key, const VtpmRecord &vtpm);
Result<> wrap_key_of(VtpmRecord &vtpm, const Key &group_key, const Key &key);

// kNotFound: nothing was ever stored, says the inventory (volatile: nothing is there now). kRefused: what was stored
// is missing, changed or of another vTPM.
Result<SecretBytes> open_stored_state(Store &store, const VtpmRecord &vtpm, const Key &key, StateKind kind);

}  // namespace vtpm
