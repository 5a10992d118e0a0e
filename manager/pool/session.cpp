// SPDX-License-Identifier: Apache-2.0
#include "manager/pool/session.hpp"

#include <utility>

namespace vtpm::pool {
namespace {

// Who finds his own host's session replaced again and again is not alone with its name.
constexpr unsigned kBeginTriesMost = 8;

}  // namespace

Session::Session(Parts parts, std::string host)
    : parts_(std::move(parts)), host_(std::move(host)), key_(session_key(host_)) {
    require(is_host_name(host_), "a session of a host without a name");
}

void Session::begin(std::optional<Nonce> former, std::function<void(const Result<> &)> done) {
    require(phase_ == Phase::kBeginning && !begun_, "a session begins once");
    former_ = former;
    begun_ = std::move(done);
    record_ = {parts_.nonce(), 0, parts_.nonce()};
    try_begin();
}

void Session::try_begin() {
    Transaction transaction;
    transaction.compares[key_] = present_;
    transaction.edits[key_] = record_.encode();
    send(transaction, &Session::answered_begin);
}

// The record is there. Late copies of the transaction that put it may put it again, after somebody has fenced it: so
// nothing rests on it before a second one has taken its place, which none of them can put back.
void Session::begun() {
    phase_ = Phase::kIdle;
    submit({}, [this](const Result<Answer> &first) {
        const auto done = std::exchange(begun_, nullptr);
        if (first)
            done({});
        else
            done(tl::make_unexpected(first.error()));
    });
}

void Session::submit(Transaction transaction, Settled done) {
    require(!transaction.compares.contains(key_) && !transaction.edits.contains(key_),
            "only the session itself touches its record");
    if (phase_ == Phase::kEnded) {
        done(fail(ErrorCode::kRefused, "{}", ended_));
        return;
    }
    jobs_.push_back({std::move(transaction), std::move(done)});
    if (phase_ == Phase::kIdle) send_next();
}

std::optional<Time> Session::next_due() const {
    if (asking_ || phase_ == Phase::kEnded) return std::nullopt;
    return sent_ + (phase_ == Phase::kIdle ? parts_.timing.beat() : parts_.timing.pause());
}

void Session::tick() {
    const auto due = next_due();
    if (!due || parts_.now() < *due) return;
    switch (phase_) {
        case Phase::kBeginning:
            if (begun_) try_begin();
            return;
        case Phase::kIdle:
            return submit({}, [](const Result<Answer> &) {});
        case Phase::kUnsettled:
            return settle();
        case Phase::kInFlight:
        case Phase::kEnded:
            return;
    }
}

void Session::send(const Transaction &transaction, void (Session::*then)(const Answer &)) {
    asking_ = true;
    sent_ = parts_.now();
    parts_.connection.submit(transaction, [weak = std::weak_ptr(alive_), then](const Answer &answer) {
        const auto session = weak.lock();
        if (!session) return;
        (*session)->asking_ = false;
        ((*session)->*then)(answer);
    });
}

void Session::send_next() {
    phase_ = Phase::kInFlight;
    next_ = record_.next(parts_.nonce);
    Transaction transaction = jobs_.front().transaction;
    transaction.compares[key_] = record_.encode();
    transaction.edits[key_] = next_.encode();
    send(transaction, &Session::answered);
}

void Session::answered_begin(const Answer &answer) {
    if (answer.outcome == Outcome::kUnknown) return;  // the same once more, by tick()
    if (answer.outcome == Outcome::kCommitted) return begun();
    present_ = answer.values.at(key_);
    if (present_ == record_.encode()) return begun();
    if (++tries_ == kBeginTriesMost) return end(fmt::format("another host of the pool calls itself {}", host_));
    if (const auto found = present_ ? SessionRecord::decode(*present_) : fail(ErrorCode::kNotFound, "none");
        found && found->session == former_)
        record_ = found->next(parts_.nonce);
    else
        record_ = {parts_.nonce(), 0, parts_.nonce()};
    return try_begin();
}

void Session::answered(const Answer &answer) {
    switch (answer.outcome) {
        case Outcome::kCommitted:
            committed();
            return finish(answer);
        case Outcome::kRefused: {
            const Value &present = answer.values.at(key_);
            if (present == record_.encode()) return finish(answer);
            if (present != next_.encode()) return end_by(present);
            // A copy of it was committed before.
            begin_to_settle();
            return settle();
        }
        case Outcome::kUnknown:
            return begin_to_settle();
    }
}

void Session::begin_to_settle() {
    phase_ = Phase::kUnsettled;
    possible_ = {{record_.encode(), false}, {next_.encode(), true}};
    guess_ = next_.encode();
    next_ = next_.next(parts_.nonce);
}

// Puts another record in the place of the one that the store is taken to hold. If that is so, what the former record
// tells holds for good, for a copy of the transaction that comes later finds neither. If not, the answer tells which
// record is there instead.
void Session::settle() {
    possible_[next_.encode()] = possible_.at(guess_);
    Transaction transaction;
    transaction.compares[key_] = guess_;
    transaction.edits[key_] = next_.encode();
    transaction.reads = jobs_.front().transaction.reads;
    send(transaction, &Session::settled);
}

void Session::settled(const Answer &answer) {
    if (answer.outcome == Outcome::kUnknown) return;  // the same once more, by tick()
    if (answer.outcome == Outcome::kRefused) {
        const Value &present = answer.values.at(key_);
        if (!present || !possible_.contains(*present)) return end_by(present);
        guess_ = *present;
        next_ = next_.next(parts_.nonce);
        return settle();
    }
    const bool is_committed = possible_.at(guess_);
    possible_.clear();
    committed();
    if (is_committed) return finish(answer);
    send_next();
}

void Session::committed() {
    record_ = next_;
    parts_.serve_until(sent_ + parts_.timing.lease());
}

void Session::finish(const Answer &answer) {
    phase_ = Phase::kIdle;
    const Settled done = std::move(jobs_.front().done);
    jobs_.pop_front();
    const std::weak_ptr still = alive_;
    done(answer);
    if (!still.expired() && phase_ == Phase::kIdle && !jobs_.empty()) send_next();
}

void Session::end_by(const Value &present) {
    if (!present) return end(fmt::format("another host of the pool has fenced {}", host_));
    end(
        fmt::format("the pool's record of {} is not the one that it wrote last: the pool's store went back in time, or "
                    "another host has this name",
                    host_));
}

void Session::end(const std::string &why) {
    phase_ = Phase::kEnded;
    ended_ = why;
    const auto error = fail(ErrorCode::kRefused, "{}", why);
    // With jobs there, the first one says it (begun()).
    const auto jobs = std::exchange(jobs_, {});
    if (jobs.empty() && begun_) std::exchange(begun_, nullptr)(error);
    for (const Job &job : jobs) job.done(error);
}

}  // namespace vtpm::pool
