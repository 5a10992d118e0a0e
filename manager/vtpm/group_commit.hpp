// SPDX-License-Identifier: Apache-2.0
// The stores of many vTPMs that are ready in one turn of the loop become one transaction: one fsync for all of them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.hpp"
#include "manager/groups/inventory.hpp"

namespace vtpm {

// Owned by who waits for it. If he goes before the commit, his state is not stored: nobody was told that it was.
struct PendingStore {
    StateWrite write;
    std::function<void(const Result<> &)> done;  // durable, or kStoreFailed; may destroy the PendingStore
};

class GroupCommit {
public:
    GroupCommit(EventLoop &loop, Inventory &inventory) : loop_(loop), inventory_(inventory) {}

    // Commits it, with all others, before the loop next waits.
    Result<> add(const std::shared_ptr<PendingStore> &pending);

private:
    void commit();

    EventLoop &loop_;
    Inventory &inventory_;
    std::vector<std::weak_ptr<PendingStore>> waiting_;
    EventSource when_idle_;
    EventSource deadline_;
};

}  // namespace vtpm
