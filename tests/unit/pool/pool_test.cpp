// SPDX-License-Identifier: Apache-2.0
// One host of a pool at a time, step by step; all together are in simulation_test.cpp.
#include <deque>
#include <memory>

#include "manager/pool/ownership.hpp"
#include "tests/catch.hpp"
#include "tests/unit/pool/fake_store.hpp"

namespace vtpm::pool {
namespace {

using namespace std::chrono_literals;

// Answers when it is told to.
class Etcd : public Connection {
public:
    void submit(const Transaction &transaction, std::function<void(const Answer &)> done) override {
        calls.push_back({transaction, std::move(done)});
    }
    Answer apply(const Transaction &transaction) { return pool::apply(data, transaction); }
    Value of(const std::string &key) const { return value_of(data, key); }
    void answer() {
        const Call call = next();
        call.done(apply(call.transaction));
    }
    // The request or the answer is lost.
    void lose(bool applied) {
        const Call call = next();
        if (applied) (void)apply(call.transaction);
        call.done({});
    }
    void answer_all() {
        while (!calls.empty()) answer();
    }

    struct Call {
        Transaction transaction;
        std::function<void(const Answer &)> done;
    };
    std::deque<Call> calls;
    Values data;

private:
    Call next() {
        REQUIRE_FALSE(calls.empty());
        Call call = std::move(calls.front());
        calls.pop_front();
        return call;
    }
};

struct Host {
    explicit Host(Etcd &etcd, const std::string &name = "a")
        : session({etcd, [this] { return now; }, make, timing, [this](Time until) { serves_until = until; }}, name) {}

    void begin(Etcd &etcd, std::optional<Nonce> former = {}) {
        session.begin(former, [this](const Result<> &result) { begun = result; });
        etcd.answer_all();
        REQUIRE(begun);
    }

    static inline std::uint8_t g_last = 0;
    MakeNonce make = [] {
        Nonce nonce{};
        nonce[0] = ++g_last;
        return nonce;
    };
    Time now = 100s, serves_until{};
    Timing timing;
    Result<> begun = fail(ErrorCode::kUnavailable, "not yet");
    Heard heard;
    Ownership ownership{session, heard, [this] { return now; }, make, timing};
    Session session;
};

struct Outcomes {
    std::vector<std::string> told;
    Settled settled() {
        return [this](const Result<Answer> &answer) {
            told.push_back(!answer                                  ? answer.error().text
                           : answer->outcome == Outcome::kCommitted ? "committed"
                                                                    : "refused");
        };
    }
};

Transaction put(const std::string &key, std::uint8_t value) {
    Transaction transaction;
    transaction.edits[key] = Bytes{value};
    return transaction;
}

TEST_CASE("a host may serve for a lease from when it sent what was committed") {
    Etcd etcd;
    Host host(etcd);
    host.begin(etcd);
    CHECK(host.serves_until == 100s + host.timing.lease());
    host.now = 102s;
    host.session.tick();
    host.now = 103s;
    CHECK(host.serves_until == 100s + host.timing.lease());
    etcd.answer();
    CHECK(host.serves_until == 102s + host.timing.lease());
}

TEST_CASE("whatever two hosts' clocks do, a host serves no more when another takes it for dead") {
    for (const Time ttl : {Time(4s), Time(10s), Time(60s)}) {
        const Timing timing{ttl};
        // Its clock is late, that of the other one is early: by the true time, this long each.
        const double serves = static_cast<double>(timing.lease().count()) * (1 + kClockError);
        const double waits = static_cast<double>(timing.silence().count()) / (1 + kClockError);
        CHECK(serves < waits);
    }
    CHECK(Timing{}.silence() <= 10700ms);
}

TEST_CASE("an answer that does not come is found out, and the next transactions wait for that") {
    Etcd etcd;
    Host host(etcd);
    host.begin(etcd);
    Outcomes outcomes;
    const bool applied = GENERATE(true, false);
    host.session.submit(put("x", 1), outcomes.settled());
    host.session.submit(put("x", 2), outcomes.settled());
    etcd.lose(applied);
    CHECK(etcd.calls.empty());
    CHECK(outcomes.told.empty());
    host.now += host.timing.pause();
    host.session.tick();
    etcd.answer_all();
    CHECK(outcomes.told == std::vector<std::string>{"committed", "committed"});
    CHECK(etcd.of("x") == Bytes{2});
}

TEST_CASE("a transaction that was found not committed does not come late") {
    Etcd etcd;
    Host host(etcd);
    host.begin(etcd);
    Outcomes outcomes;
    Transaction transaction = put("x", 1);
    transaction.compares["y"] = Bytes{1};
    host.session.submit(transaction, outcomes.settled());
    const Transaction late = etcd.calls.front().transaction;
    etcd.lose(false);
    host.now += host.timing.pause();
    host.session.tick();
    etcd.answer_all();
    CHECK(outcomes.told == std::vector<std::string>{"refused"});
    etcd.data["y"] = Bytes{1};
    CHECK(etcd.apply(late).outcome == Outcome::kRefused);
}

// Both have begun.
struct TwoHosts {
    TwoHosts() {
        a.begin(etcd);
        b.begin(etcd);
    }
    Etcd etcd;
    Host a{etcd, "a"}, b{etcd, "b"};
    Outcomes outcomes;
};

TEST_CASE_METHOD(TwoHosts, "a host that was fenced commits nothing more, and says why") {
    b.heard.note("a", etcd.of(session_key("a")), b.now);
    b.ownership.fence("a", outcomes.settled());
    CHECK(outcomes.told == std::vector<std::string>{"host a may still serve its vTPMs"});
    b.now += b.timing.silence();
    b.ownership.fence("a", outcomes.settled());
    etcd.answer_all();
    CHECK(outcomes.told.back() == "committed");
    a.session.submit(put("x", 1), outcomes.settled());
    etcd.answer_all();
    CHECK(outcomes.told.back() == "another host of the pool has fenced a");
    CHECK(a.session.has_ended());
    CHECK(etcd.of("x") == Value());
}

TEST_CASE_METHOD(TwoHosts, "a host that gave a sign of life meanwhile is not fenced") {
    b.heard.note("a", etcd.of(session_key("a")), b.now);
    a.session.submit(put("x", 1), outcomes.settled());
    etcd.answer_all();
    b.now += b.timing.silence();
    b.ownership.fence("a", outcomes.settled());
    etcd.answer_all();
    CHECK(outcomes.told.back() == "refused");
    CHECK_FALSE(a.session.has_ended());
    b.ownership.fence("a", outcomes.settled());
    CHECK(outcomes.told.back() == "host a may still serve its vTPMs");
}

TEST_CASE("a store that went back in time ends the session at its next transaction") {
    Etcd etcd;
    Host host(etcd);
    host.begin(etcd);
    const Values before = etcd.data;
    Outcomes outcomes;
    host.session.submit(put("x", 1), outcomes.settled());
    etcd.answer_all();
    etcd.data = before;
    host.now += host.timing.beat();
    host.session.tick();
    etcd.answer_all();
    CHECK(host.session.has_ended());
    host.session.submit(put("x", 2), outcomes.settled());
    CHECK_THAT(outcomes.told.back(), Contains("went back in time"));
}

TEST_CASE("a session goes on after the process was started anew, not after it was fenced") {
    Etcd etcd;
    Host first(etcd), second(etcd), third(etcd);
    first.begin(etcd);
    second.begin(etcd, first.session.id());
    CHECK(second.session.id() == first.session.id());
    etcd.data[session_key("a")] = std::nullopt;
    third.begin(etcd, first.session.id());
    CHECK(third.session.id() != first.session.id());
}

TEST_CASE("a host whose name another one has gives up") {
    Etcd etcd;
    Host host(etcd);
    host.session.begin({}, [&](const Result<> &result) { host.begun = result; });
    for (std::uint8_t i = 0; !etcd.calls.empty() && i < 100; ++i) {
        etcd.data[session_key("a")] = SessionRecord{{i}, 1, {i}}.encode();
        etcd.answer();
    }
    REQUIRE_FALSE(host.begun);
    CHECK(host.begun.error().text == "another host of the pool calls itself a");
}

TEST_CASE_METHOD(TwoHosts, "a vTPM that another host has is refused with that host's name and how long to wait") {
    const Uuid vtpm{};
    std::vector<std::string> told;
    const auto note = [&](const Result<Opened> &opened) { told.push_back(opened ? "open" : opened.error().text); };
    a.ownership.open(vtpm, note);
    etcd.answer_all();
    b.ownership.open(vtpm, note);
    etcd.answer_all();
    b.now += 4s;
    b.ownership.open(vtpm, note);
    etcd.answer_all();
    CHECK(told == std::vector<std::string>{"open",
                                           "vTPM 00000000-0000-0000-0000-000000000000 runs on host a, last heard of "
                                           "0.0 s ago; if that host is dead, its lease ends in 10.6 s",
                                           "vTPM 00000000-0000-0000-0000-000000000000 runs on host a, last heard of "
                                           "4.0 s ago; if that host is dead, its lease ends in 6.6 s"});
    b.now += 7s;
    b.ownership.open(vtpm, note);
    etcd.answer_all();
    CHECK(told.back() == "open");
    CHECK(etcd.of(session_key("a")) == Value());
}

TEST_CASE_METHOD(TwoHosts,
                 "what a vTPM knew is given when it is out of the store, and stays there if its taker dies before") {
    const Uuid vtpm{};
    a.ownership.open(vtpm, [](const Result<Opened> &opened) { REQUIRE(opened); });
    etcd.answer_all();
    a.ownership.close(vtpm, Bytes{1}, Bytes{2}, outcomes.settled());
    etcd.answer_all();
    Value given;
    b.ownership.open(vtpm, [&](const Result<Opened> &opened) { given = opened->what_it_knew; });
    etcd.answer();
    CHECK(given == Value());
    CHECK(etcd.of(volatile_key(vtpm)) == Bytes{2});
    etcd.answer();
    CHECK(given == Bytes{2});
    CHECK(etcd.of(volatile_key(vtpm)) == Value());
}

TEST_CASE("who wants a vTPM waits, fences or takes by what is known of who has it") {
    const Nonce mine{1}, other{2};
    const Timing timing;
    const OwnerRecord here{"a", mine, {}}, before{"a", other, {}}, there{"b", other, {}};
    const Heard::Sign alive{Bytes{1}, 100s}, fenced{std::nullopt, 100s};
    const auto claim = [&](const OwnerRecord *owner, const Heard::Sign *sign, Time now) {
        return next_claim(owner, "a", mine, sign, timing, now);
    };
    const Time late = 100s + timing.silence();
    CHECK(claim(nullptr, nullptr, 100s) == Claim::kTake);
    CHECK(claim(&here, nullptr, 100s) == Claim::kMine);
    CHECK(claim(&before, nullptr, 100s) == Claim::kTake);
    CHECK(claim(&there, nullptr, late) == Claim::kAsk);
    CHECK(claim(&there, &alive, 100s) == Claim::kWait);
    CHECK(claim(&there, &alive, late - Time(1)) == Claim::kWait);
    CHECK(claim(&there, &alive, late) == Claim::kFence);
    CHECK(claim(&there, &fenced, 100s) == Claim::kSeize);
}

TEST_CASE("records have one form, and a malformed one is none") {
    const SessionRecord session{{1}, 0x0102030405060708, {2}};
    CHECK(SessionRecord::decode(session.encode()) == session);
    const OwnerRecord owner{"xen1.example", {1}, {2}};
    CHECK(OwnerRecord::decode(owner.encode()) == owner);
    for (const Bytes &bytes : {session.encode(), owner.encode()})
        for (std::size_t size = 0; size < 34; ++size) {
            CHECK_FALSE(SessionRecord::decode(ByteView(bytes).first(size)));
            CHECK_FALSE(OwnerRecord::decode(ByteView(bytes).first(std::min<std::size_t>(size, 33))));
        }
    for (const char *name : {"", "a/b", "A", "a\n"})
        CHECK_FALSE(OwnerRecord::decode(OwnerRecord{name, {1}, {2}}.encode()));
    CHECK_FALSE(OwnerRecord::decode(OwnerRecord{std::string(65, 'a'), {1}, {2}}.encode()));
    Bytes other = owner.encode();
    other[0] = 2;
    CHECK_FALSE(OwnerRecord::decode(other));
}

}  // namespace
}  // namespace vtpm::pool
