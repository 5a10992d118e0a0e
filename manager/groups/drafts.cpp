// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/drafts.hpp"

namespace vtpm {

Manifest::Draft &Drafts::of(const std::string &group, Manifest &manifest) {
    return drafts_.try_emplace(group, &manifest, Manifest::Draft(manifest)).first->second.second;
}

Result<> Drafts::seal(Change &change) const {
    for (const auto &[group, draft] : drafts_) {
        VTPM_ASSIGN(Bytes sealed, draft.second.seal());
        change.add(ManifestWrite{group, std::move(sealed)});
    }
    return {};
}

void Drafts::adopt() {
    for (auto &[group, draft] : drafts_) draft.first->adopt(std::move(draft.second));
}

namespace {

Result<> collect(const EditsWithDrafts &edits, Change &change, Drafts &drafts) {
    VTPM_TRY(edits(change, drafts));
    return drafts.seal(change);
}

}  // namespace

void commit(Store &store, const EditsWithDrafts &edits, const Store::Done &done) {
    const auto drafts = std::make_shared<Drafts>();
    store.commit([edits, drafts](Change &change) { return collect(edits, change, *drafts); },
                 [done, drafts](const Result<> &settled) {
                     if (settled) drafts->adopt();
                     done(settled);
                 });
}

Result<> commit(Store &store, const EditsWithDrafts &edits) {
    Drafts drafts;
    VTPM_TRY(store.commit([&](Change &change) { return collect(edits, change, drafts); }));
    drafts.adopt();
    return {};
}

}  // namespace vtpm
