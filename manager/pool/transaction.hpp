// SPDX-License-Identifier: Apache-2.0
// What a host asks of the pool's store: one round of compares, and edits that happen all or not at all. The store
// (etcd's Txn) is trusted to be strict serializable, and with nothing else: an answer may be lost, a request may arrive
// late.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace vtpm::pool {

// Nothing: the key is not there.
using Value = std::optional<Bytes>;
using Values = std::map<std::string, Value>;

// By value and not by revision: a restored etcd counts its revisions again, for other contents. So a value that decides
// something has a nonce in it.
struct Transaction {
    Values compares;              // each key holds exactly this
    Values edits;                 // then each key holds this
    std::set<std::string> reads;  // what each key held before the edits
};

enum class Outcome : std::uint8_t {
    kCommitted,  // durable; `values` has the reads
    kRefused,    // a compare failed, nothing was edited; `values` has what each compared key held
    kUnknown,    // no answer: it was committed, or will be, or never
};

struct Answer {
    Outcome outcome = Outcome::kUnknown;
    Values values;
};

class Connection {
public:
    Connection() = default;
    Connection(const Connection &) = delete;
    Connection &operator=(const Connection &) = delete;
    Connection(Connection &&) = delete;
    Connection &operator=(Connection &&) = delete;
    virtual ~Connection() = default;
    // Calls `done` exactly once, later: an answer that comes after kUnknown is dropped.
    virtual void submit(const Transaction &transaction, std::function<void(const Answer &)> done) = 0;
};

}  // namespace vtpm::pool
