// SPDX-License-Identifier: Apache-2.0
#include "manager/store/store.hpp"

namespace vtpm {

Result<> Store::commit(const Edits &edits) {
    std::optional<Result<>> settled;
    commit(edits, [&](const Result<> &result) { settled = result; });
    require(settled.has_value(), "a store of this host settles at once");
    return std::move(*settled);
}

}  // namespace vtpm
