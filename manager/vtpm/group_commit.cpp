// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/group_commit.hpp"

#include "base/log.hpp"

namespace vtpm {
namespace {

// An engine that floods its channel keeps the loop from ever being idle. It cannot hold up the others for longer.
constexpr std::chrono::milliseconds kLongestGathering(5);

}  // namespace

Result<> GroupCommit::add(const std::shared_ptr<PendingStore> &pending) {
    if (waiting_.empty()) {
        VTPM_ASSIGN(when_idle_, loop_.when_idle([this] { commit(); }));
        VTPM_ASSIGN(deadline_, loop_.after(kLongestGathering, [this] { commit(); }));
    }
    waiting_.push_back(pending);
    return {};
}

void GroupCommit::commit() {
    when_idle_.reset();
    deadline_.reset();
    std::vector<std::shared_ptr<PendingStore>> batch;
    for (const auto &waiting : std::exchange(waiting_, {}))
        if (auto pending = waiting.lock()) batch.push_back(std::move(pending));
    if (batch.empty()) return;
    std::vector<std::shared_ptr<const StateWrite>> states;
    states.reserve(batch.size());
    for (const auto &pending : batch) states.emplace_back(pending, &pending->write);
    inventory_.write(std::move(states), [batch = std::move(batch)](const Result<> &written) {
        if (!written) log::error("{} states were not stored: {}", batch.size(), written.error().text);
        for (const auto &pending : batch) pending->done(written);
    });
}

}  // namespace vtpm
