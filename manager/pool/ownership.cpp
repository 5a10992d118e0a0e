// SPDX-License-Identifier: Apache-2.0
#include "manager/pool/ownership.hpp"

#include <chrono>
#include <utility>

namespace vtpm::pool {
namespace {

// Each refusal tells what is there now. Who is refused so often has a rival who is quicker each time.
constexpr unsigned kClaimsMost = 16;

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

struct Ownership::Opening {
    Uuid vtpm;
    std::function<void(const Result<Opened> &)> done;
    Value owner{};  // the record, as it was last read; at first it is taken to be free
    unsigned claims = 0;
};

void Ownership::open(const Uuid &vtpm, std::function<void(const Result<Opened> &)> done) {
    claim(std::make_shared<Opening>(Opening{vtpm, std::move(done)}));
}

void Ownership::claim(const std::shared_ptr<Opening> &opening) {
    if (++opening->claims > kClaimsMost)
        return opening->done(fail(ErrorCode::kUnavailable,
                                  "other hosts took vTPM {} and gave it back all the time; try again",
                                  opening->vtpm.to_string()));
    std::optional<OwnerRecord> owner;
    if (opening->owner) {
        auto decoded = OwnerRecord::decode(*opening->owner);
        if (!decoded) return opening->done(tl::make_unexpected(decoded.error()));
        owner = std::move(*decoded);
    }
    const Heard::Sign *sign = owner ? heard_.of(owner->host) : nullptr;
    switch (next_claim(owner ? &*owner : nullptr, session_.host(), session_.id(), sign, timing_, now_())) {
        case Claim::kTake:
            return take(opening, {});
        case Claim::kSeize:
            return take(opening, owner->host);
        case Claim::kMine:
            return opening->done(fail(ErrorCode::kInUse, "vTPM {} is open on this host", opening->vtpm.to_string()));
        case Claim::kAsk:
            return ask(opening, owner->host);
        case Claim::kWait: {
            const Time silent = now_() - sign->at;
            return opening->done(fail(
                ErrorCode::kInUse,
                "vTPM {} runs on host {}, last heard of {:.1f} s ago; if that host is dead, its lease ends in {:.1f} s",
                opening->vtpm.to_string(), owner->host, seconds(silent), seconds(timing_.silence() - silent)));
        }
        case Claim::kFence:
            return fence(owner->host, [this, opening](const Result<Answer> &answer) {
                if (!answer) return opening->done(tl::make_unexpected(answer.error()));
                claim(opening);
            });
    }
}

// Without `fenced`, it is free or was this host's own.
void Ownership::take(const std::shared_ptr<Opening> &opening, const std::string &fenced) {
    const Uuid &vtpm = opening->vtpm;
    const OwnerRecord mine{session_.host(), session_.id(), nonce_()};
    Transaction transaction;
    transaction.compares[owner_key(vtpm)] = opening->owner;
    if (!fenced.empty()) transaction.compares[session_key(fenced)] = std::nullopt;
    transaction.edits[owner_key(vtpm)] = mine.encode();
    transaction.reads = {permanent_key(vtpm), volatile_key(vtpm)};
    session_.submit(std::move(transaction), [this, opening, mine](const Result<Answer> &answer) {
        if (!answer) return opening->done(tl::make_unexpected(answer.error()));
        if (answer->outcome == Outcome::kCommitted) return taken(opening, mine, *answer);
        learn(opening, answer->values);
        claim(opening);
    });
}

// What it knew is taken out of the store by a second transaction. By the first, which gives it, it would be lost with
// the answer; and before the second is committed, nobody has it, so whoever takes the vTPM from here finds it as it
// was.
void Ownership::taken(const std::shared_ptr<Opening> &opening, const OwnerRecord &mine, const Answer &answer) {
    const Opened opened{mine.opening, answer.values.at(permanent_key(opening->vtpm)),
                        answer.values.at(volatile_key(opening->vtpm))};
    if (!opened.what_it_knew) {
        owned_[opening->vtpm] = mine.encode();
        return opening->done(opened);
    }
    Transaction transaction;
    transaction.compares[owner_key(opening->vtpm)] = mine.encode();
    transaction.edits[volatile_key(opening->vtpm)] = std::nullopt;
    session_.submit(std::move(transaction), [this, opening, mine, opened](const Result<Answer> &gone) {
        if (!gone) return opening->done(tl::make_unexpected(gone.error()));
        if (gone->outcome != Outcome::kCommitted)
            return opening->done(
                fail(ErrorCode::kRefused, "vTPM {} was taken by another host", opening->vtpm.to_string()));
        owned_[opening->vtpm] = mine.encode();
        opening->done(opened);
    });
}

// An empty transaction with a compare that fails if anything is there: the answer says what.
void Ownership::ask(const std::shared_ptr<Opening> &opening, const std::string &host) {
    Transaction transaction;
    transaction.reads = {session_key(host), owner_key(opening->vtpm)};
    session_.submit(std::move(transaction), [this, opening](const Result<Answer> &answer) {
        if (!answer) return opening->done(tl::make_unexpected(answer.error()));
        learn(opening, answer->values);
        claim(opening);
    });
}

void Ownership::learn(const std::shared_ptr<Opening> &opening, const Values &values) {
    for (const auto &[key, value] : values) {
        if (key == owner_key(opening->vtpm)) opening->owner = value;
        if (const std::string_view prefix = "sessions/"; key.starts_with(prefix) && key != session_key(session_.host()))
            heard_.note(key.substr(prefix.size()), value, now_());
    }
}

void Ownership::close(const Uuid &vtpm, const Value &permanent, const Value &what_it_knew, Settled done) {
    const auto at = owned_.find(vtpm);
    if (at == owned_.end())
        return done(fail(ErrorCode::kRefused, "vTPM {} is not open on this host", vtpm.to_string()));
    Transaction transaction;
    transaction.compares[owner_key(vtpm)] = at->second;
    transaction.edits[owner_key(vtpm)] = std::nullopt;
    if (permanent) transaction.edits[permanent_key(vtpm)] = permanent;
    if (what_it_knew) transaction.edits[volatile_key(vtpm)] = what_it_knew;
    owned_.erase(at);
    session_.submit(std::move(transaction), std::move(done));
}

void Ownership::store(const Uuid &vtpm, const Bytes &permanent, Settled done) {
    if (!has(vtpm)) return done(fail(ErrorCode::kRefused, "vTPM {} is not open on this host", vtpm.to_string()));
    Transaction transaction;
    transaction.edits[permanent_key(vtpm)] = permanent;
    session_.submit(std::move(transaction), std::move(done));
}

void Ownership::look(const Uuid &vtpm, std::function<void(const Result<std::optional<OwnerRecord>> &)> done) {
    Transaction transaction;
    transaction.reads = {owner_key(vtpm)};
    session_.submit(std::move(transaction), [vtpm, done = std::move(done)](const Result<Answer> &answer) {
        if (!answer) return done(tl::make_unexpected(answer.error()));
        const Value &present = answer->values.at(owner_key(vtpm));
        if (!present) return done(std::nullopt);
        const auto owner = OwnerRecord::decode(*present);
        if (!owner) return done(tl::make_unexpected(owner.error()));
        done(*owner);
    });
}

void Ownership::keep(const Uuid &vtpm, const Nonce &opening, std::function<void(const Result<> &)> done) {
    look(vtpm, [this, vtpm, opening, done = std::move(done)](const Result<std::optional<OwnerRecord>> &owner) {
        if (!owner) return done(tl::make_unexpected(owner.error()));
        const auto taken_over = fail(ErrorCode::kRefused, "another host took vTPM {} over while {} was fenced",
                                     vtpm.to_string(), session_.host());
        if (!*owner || (*owner)->host != session_.host() || (*owner)->opening != opening) return done(taken_over);
        const Bytes mine = OwnerRecord{session_.host(), session_.id(), opening}.encode();
        Transaction transaction;
        transaction.compares[owner_key(vtpm)] = (*owner)->encode();
        transaction.edits[owner_key(vtpm)] = mine;
        session_.submit(std::move(transaction), [this, vtpm, mine, done, taken_over](const Result<Answer> &kept) {
            if (!kept) return done(tl::make_unexpected(kept.error()));
            if (kept->outcome == Outcome::kRefused) return done(taken_over);
            owned_[vtpm] = mine;
            done({});
        });
    });
}

void Ownership::abandon(const Uuid &vtpm, std::function<void(const Result<> &)> done) {
    look(vtpm, [this, vtpm, done = std::move(done)](const Result<std::optional<OwnerRecord>> &owner) {
        if (!owner) return done(tl::make_unexpected(owner.error()));
        if (!*owner || (*owner)->host != session_.host() || has(vtpm)) return done({});
        Transaction transaction;
        transaction.compares[owner_key(vtpm)] = (*owner)->encode();
        transaction.edits[owner_key(vtpm)] = std::nullopt;
        session_.submit(std::move(transaction), [done](const Result<Answer> &answer) {
            if (!answer) return done(tl::make_unexpected(answer.error()));
            done({});  // refused: somebody has taken it
        });
    });
}

void Ownership::fence(const std::string &host, Settled done) {
    const Heard::Sign *sign = heard_.of(host);
    if (sign == nullptr || now_() - sign->at < timing_.silence())
        return done(fail(ErrorCode::kInUse, "host {} may still serve its vTPMs", host));
    Transaction transaction;
    transaction.compares[session_key(host)] = sign->record;
    transaction.edits[session_key(host)] = std::nullopt;
    session_.submit(std::move(transaction), [this, host, done = std::move(done)](const Result<Answer> &answer) {
        if (!answer) return done(answer);
        heard_.note(host, answer->outcome == Outcome::kCommitted ? Value() : answer->values.at(session_key(host)),
                    now_());
        done(answer);
    });
}

}  // namespace vtpm::pool
