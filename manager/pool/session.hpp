// SPDX-License-Identifier: Apache-2.0
// A host in the pool, from its begin until another host fences it. Every transaction of the host compares its session's
// record with what the host put there last, and puts another: so none of them is committed after the fence, none twice,
// and none upon a store that went back in time. Each that is committed is a sign of life, and lets the host serve for
// one lease more; where nobody has anything to store, an empty one does.
//
// One transaction is in flight. If its answer does not come, what the store holds tells: see settle().
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "manager/pool/records.hpp"
#include "manager/pool/timing.hpp"
#include "manager/pool/transaction.hpp"

namespace vtpm::pool {

// Of a host's transaction. kCommitted or kRefused; an error, kRefused, if the session has ended: whether it was
// committed before is then not known.
using Settled = std::function<void(const Result<Answer> &)>;

class Session {
public:
    struct Parts {
        Connection &connection;
        Now now;
        MakeNonce nonce;
        Timing timing;
        std::function<void(Time)> serve_until;  // moved forward only; by now()'s clock
    };

    Session(Parts parts, std::string host);

    // `done`: the session has begun, or the reason why not. `former`: this host's session that a former process began,
    // if the machine has not been booted since: it goes on, if nobody has fenced it. Any other one of this host's is
    // replaced at once: what served under it is not there any more.
    void begin(std::optional<Nonce> former, std::function<void(const Result<> &)> done);

    // In the order of the calls. `transaction` names no session of this host.
    void submit(Transaction transaction, Settled done);

    // Sends what is due. To be called at next_due(), and may be called at any time.
    void tick();
    [[nodiscard]] std::optional<Time> next_due() const;

    [[nodiscard]] const std::string &host() const { return host_; }
    [[nodiscard]] const Nonce &id() const { return record_.session; }
    [[nodiscard]] bool has_ended() const { return phase_ == Phase::kEnded; }

private:
    enum class Phase : std::uint8_t {
        kBeginning,
        kIdle,
        kInFlight,
        kUnsettled,  // no answer came: whether the first of jobs_ was committed is not known
        kEnded,
    };
    struct Job {
        Transaction transaction;
        Settled done;
    };

    void try_begin();
    void answered_begin(const Answer &answer);
    void begun();
    void send_next();
    void send(const Transaction &transaction, void (Session::*then)(const Answer &));
    void answered(const Answer &answer);
    void begin_to_settle();
    void settle();
    void settled(const Answer &answer);
    void committed();
    void finish(const Answer &answer);
    void end(const std::string &why);
    void end_by(const Value &present);

    Parts parts_;
    std::string host_, key_;
    Phase phase_ = Phase::kBeginning;
    std::string ended_;     // why
    SessionRecord record_;  // what the store holds, unless a transaction is under way
    SessionRecord next_;    // what it puts there
    Time sent_{};           // the last one
    bool asking_ = false;   // its answer is awaited
    std::deque<Job> jobs_;  // the first one is under way, unless idle

    // While beginning.
    std::optional<Nonce> former_;
    Value present_;
    unsigned tries_ = 0;
    std::function<void(const Result<> &)> begun_;

    // While unsettled: each record that the store may hold, and whether the transaction was committed then.
    std::map<Bytes, bool> possible_;
    Bytes guess_;

    // Answers come to a session that is still there only.
    std::shared_ptr<Session *> alive_ = std::make_shared<Session *>(this);
};

}  // namespace vtpm::pool
