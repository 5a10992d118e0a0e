// SPDX-License-Identifier: Apache-2.0
// A change of what the store says of groups and their vTPMs, with the manifests that hold after it.
#pragma once

#include <map>
#include <utility>

#include "manager/groups/manifest.hpp"

namespace vtpm {

// Those of one change.
class Drafts {
public:
    // The one of `group`, which has `manifest`; the same each time.
    Manifest::Draft &of(const std::string &group, Manifest &manifest);
    // All of them become a part of the change.
    Result<> seal(Change &change) const;
    // It is durable.
    void adopt();

private:
    std::map<std::string, std::pair<Manifest *, Manifest::Draft>> drafts_;
};

// As Store::commit(), with the manifests of the drafts, which hold when `done` hears of it.
using EditsWithDrafts = std::function<Result<>(Change &, Drafts &)>;
void commit(Store &store, const EditsWithDrafts &edits, const Store::Done &done);
Result<> commit(Store &store, const EditsWithDrafts &edits);

}  // namespace vtpm
