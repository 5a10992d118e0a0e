// SPDX-License-Identifier: Apache-2.0
// What a transaction does to the pool's store, as etcd does it.
#pragma once

#include <algorithm>
#include <string>

#include "manager/pool/transaction.hpp"

namespace vtpm::pool {

inline Value value_of(const Values &data, const std::string &key) {
    const auto at = data.find(key);
    return at == data.end() ? Value() : at->second;
}

inline bool holds(const Values &data, const Values &compares) {
    return std::ranges::all_of(compares,
                               [&](const auto &compare) { return value_of(data, compare.first) == compare.second; });
}

inline Answer apply(Values &data, const Transaction &transaction) {
    if (!holds(data, transaction.compares)) {
        Answer refused{Outcome::kRefused, {}};
        for (const auto &[key, value] : transaction.compares) refused.values[key] = value_of(data, key);
        return refused;
    }
    Answer answer{Outcome::kCommitted, {}};
    for (const std::string &key : transaction.reads) answer.values[key] = value_of(data, key);
    for (const auto &[key, value] : transaction.edits) data[key] = value;
    return answer;
}

}  // namespace vtpm::pool
