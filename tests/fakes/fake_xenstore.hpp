// SPDX-License-Identifier: Apache-2.0
// xenstore in memory, as far as a backend can tell. What it pretends (a watch fires once when set and then for every
// write or removal at or below its path; a transaction sees its directory) is shown on a real xenstored by tests/lab.
#pragma once

#include <sys/eventfd.h>

#include <deque>
#include <functional>
#include <map>
#include <set>

#include "backend/xen/xenstore.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

class FakeXenstore final : public Xenstore {
public:
    FakeXenstore() : readable_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

    std::optional<std::string> read(const std::string &path) override {
        ++reads;
        const auto node = nodes_.find(path);
        return node == nodes_.end() ? std::nullopt : std::optional(node->second);
    }

    std::vector<std::string> list(const std::string &path) override {
        std::set<std::string> names;
        const std::string prefix = path + "/";
        for (const auto &[node, value] : nodes_)
            if (node.starts_with(prefix))
                names.insert(node.substr(prefix.size(), node.find('/', prefix.size()) - prefix.size()));
        return {names.begin(), names.end()};
    }

    Result<bool> update(const std::string &directory, const Seen &seen, const std::string &key,
                        const std::string &value) override {
        if (key == refused_key) return fail(ErrorCode::kSystem, "as the test wants it");
        for (const auto &[name, said] : seen) {
            const auto node = nodes_.find(directory + "/" + name);
            if (node == nodes_.end() || node->second != said) return false;
        }
        write(directory + "/" + key, value);
        if (on_update) on_update();
        return true;
    }

    Result<> remove(const std::string &path) override {
        std::erase_if(nodes_, [&](const auto &node) { return at_or_below(node.first, path); });
        fire(path);
        return {};
    }

    Result<> watch(const std::string &path, const std::string &token) override {
        watches_.insert({path, token});
        push({path, token});
        return {};
    }

    // What has fired already comes all the same.
    void unwatch(const std::string &path, const std::string &token) override { watches_.erase({path, token}); }
    [[nodiscard]] int fd() const override { return readable_.get(); }

    std::optional<WatchEvent> next_event() override {
        std::optional<WatchEvent> event;
        if (!events_.empty() && !late_) {
            event = events_.front();
            events_.pop_front();
        }
        eventfd_t count = 0;
        if (events_.empty()) (void)::eventfd_read(readable_.get(), &count);
        return event;
    }

    int reads = 0;
    std::string refused_key;          // cannot be written
    std::function<void()> on_update;  // after a write of the backend

    // What has changed is told when it is on time again.
    void be_late(bool late) {
        late_ = late;
        if (!late && !events_.empty()) (void)::eventfd_write(readable_.get(), 1);
    }
    void forget_watches() {
        watches_.clear();
        events_.clear();
    }

    // The other side's hand.
    void write(const std::string &path, const std::string &value) {
        nodes_[path] = value;
        fire(path);
    }

private:
    // Without an allocation: it is asked of every watch, and the benchmark has a thousand.
    static bool at_or_below(const std::string &path, const std::string &top) {
        return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
    }
    void fire(const std::string &path) {
        for (const auto &[watched, token] : watches_)
            if (at_or_below(path, watched) || at_or_below(watched, path)) push({path, token});
    }
    void push(WatchEvent event) {
        events_.push_back(std::move(event));
        if (!late_) (void)::eventfd_write(readable_.get(), 1);
    }

    std::map<std::string, std::string> nodes_{{"/local/domain/0/name", "Domain-0"}};
    std::set<std::pair<std::string, std::string>> watches_;
    std::deque<WatchEvent> events_;
    bool late_ = false;
    UniqueFd readable_;
};

}  // namespace vtpm
