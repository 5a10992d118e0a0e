// SPDX-License-Identifier: Apache-2.0
// What this host has heard of the others: the session's record that each put last, and when that came. What comes late,
// or not at all, makes a host seem silent later, and never earlier.
#pragma once

#include <map>
#include <string>

#include "manager/pool/timing.hpp"
#include "manager/pool/transaction.hpp"

namespace vtpm::pool {

class Heard {
public:
    struct Sign {
        Value record;  // absent: it is fenced, or has never been there
        Time at{};     // when it was first heard
    };

    // `record` was read from the store, in whatever way, and came now. A former one that comes late again is a sign of
    // life more: only a waiting that is too long.
    void note(const std::string &host, const Value &record, Time now) {
        const auto [at, is_new] = signs_.try_emplace(host, Sign{record, now});
        if (!is_new && at->second.record != record) at->second = {record, now};
    }
    // Nothing: it has never been heard of, and is to be asked for.
    [[nodiscard]] const Sign *of(const std::string &host) const {
        const auto at = signs_.find(host);
        return at == signs_.end() ? nullptr : &at->second;
    }

private:
    std::map<std::string, Sign> signs_;
};

}  // namespace vtpm::pool
