// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/pool/simulation.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/big_endian.hpp"
#include "tests/unit/pool/fake_store.hpp"

namespace vtpm::pool::simulation {
namespace {

using namespace std::chrono_literals;

constexpr Time kFaults = 60s;         // how long things go wrong
constexpr Timing kTiming{.ttl = 5s};  // most of a schedule is about leases that end
constexpr Time kCalm = 30s;           // then everything opens
constexpr Time kAnswerLimit = 1s;     // of a connection

Met g_met;

struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void check(bool holds, const std::string &what) {
    if (!holds) throw Wrong(what);
}

// A permanent state is its sequence; what a vTPM knew is the number of its giving, and the sequence that it goes with.
Bytes number(std::uint64_t value) { return BigEndian().number(value, 8).bytes(); }
std::uint64_t number_of(const Value &value, std::size_t at = 0) {
    return value ? big_endian(ByteView(*value).subspan(at, 8)) : 0;
}

class World {
public:
    World(std::uint64_t schedule, Mutant with) : mutant(with), random(schedule) {}

    std::uint64_t below(std::uint64_t limit) { return random() % limit; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }
    Time some(Time most) { return Time(static_cast<Time::rep>(below(static_cast<std::uint64_t>(most.count()) + 1))); }
    Nonce nonce() {
        Nonce nonce{};
        for (std::size_t i = 0; i < nonce.size(); i += 8) {
            const std::uint64_t value = random();
            for (std::size_t j = 0; j < 8; ++j) nonce[i + j] = static_cast<std::uint8_t>(value >> (8 * j));
        }
        return nonce;
    }
    void at(Time time, std::function<void()> action) { events.push({time, ++last, std::move(action)}); }
    void run(Time until) {
        while (!events.empty() && events.top().time <= until) {
            now = events.top().time;
            const auto action = std::move(const_cast<Event &>(events.top()).action);
            events.pop();
            action();
        }
        now = until;
    }

    struct Event {
        Time time;
        std::uint64_t number;
        std::function<void()> action;
        bool operator<(const Event &other) const { return std::tie(other.time, other.number) < std::tie(time, number); }
    };
    Mutant mutant;
    std::mt19937_64 random;
    Time now{};
    std::uint64_t last = 0;
    std::priority_queue<Event> events;
    bool calm = false;
};

// What of a vTPM must be so, whoever serves it.
struct Truth {
    std::uint64_t acknowledged = 0;  // the sequence that a guest was told is durable
    std::set<std::uint64_t> given;   // what it knew
};

// etcd: one transaction after another.
class Store {
public:
    explicit Store(World &world) : world_(world) {}

    Answer apply(const std::string &host, const Transaction &transaction) {
        const Transaction mutated = mutate(host, transaction);
        if (holds(data_, mutated.compares))
            for (const auto &[key, value] : mutated.edits)
                if (key.starts_with("states/")) check_write(host, key, value);
        Answer answer = pool::apply(data_, mutated);
        if (answer.outcome == Outcome::kRefused) {
            ++g_met.refusals;
            for (const auto &[key, value] : transaction.compares) answer.values[key] = of(key);
            return answer;
        }
        ++g_met.commits;
        for (const auto &[key, value] : mutated.edits) on_change(key);
        for (const auto &[key, value] : transaction.edits)
            if (key.starts_with("sessions/") && key != session_key(host)) ++g_met.fences;
        return answer;
    }
    Value of(const std::string &key) const { return value_of(data_, key); }
    std::function<void(const std::string &key)> on_change = [](const std::string &) {};

private:
    Transaction mutate(const std::string &host, Transaction transaction) const {
        const auto is_foreign_session = [&](const auto &of_key) {
            return of_key.first.starts_with("sessions/") && of_key.first != session_key(host);
        };
        const auto is_of_state = [](const auto &edit) { return edit.first.starts_with("states/"); };
        if (world_.mutant == Mutant::kSeizesWithoutFence) {
            std::erase_if(transaction.compares, is_foreign_session);
            std::erase_if(transaction.edits, is_foreign_session);
        }
        if (world_.mutant == Mutant::kWritesWithoutSession && std::ranges::any_of(transaction.edits, is_of_state))
            transaction.compares.erase(session_key(host));
        if (world_.mutant == Mutant::kKeepsWhatItKnew)
            std::erase_if(transaction.edits,
                          [](const auto &edit) { return edit.first.ends_with("/v") && !edit.second; });
        return transaction;
    }
    void check_write(const std::string &host, const std::string &key, const Value &value) {
        const Value owner = of("owners/" + key.substr(7, 36));
        check(owner && OwnerRecord::decode(*owner)->host == host, host + " writes " + key + ", which it does not have");
        check(of(session_key(host)).has_value(), host + " writes " + key + " after it was fenced");
        if (key.ends_with("/p")) check(number_of(value) >= number_of(of(key)), key + " goes back");
    }

    World &world_;
    Values data_;
};

class Host;

struct Pool {
    World world;
    Store store;
    std::vector<Uuid> vtpms;
    std::map<Uuid, Truth> truths;
    std::map<Uuid, std::size_t> wanted;  // on which host
    std::uint64_t last_given = 0;
    std::vector<std::unique_ptr<Host>> hosts;

    Pool(std::uint64_t schedule, Mutant mutant) : world(schedule, mutant), store(world) {}
};

// The page that lets engines of a session serve.
struct LeasePage {
    Time deadline{-1};
};

struct Engine {
    Uuid vtpm;
    std::shared_ptr<LeasePage> page;
    Nonce opening{};
    std::uint64_t sequence = 0;
    bool is_busy = false;
};

class Host {
public:
    Host(Pool &pool, std::size_t index)
        : pool_(pool), world_(pool.world), index_(index), name_("xen" + std::to_string(index)) {
        const double most = world_.mutant == Mutant::kClockTenPercentWrong ? 0.1 : kClockError;
        // The ends of what is allowed, most of the time.
        rate_ = 1 + most * (world_.one_in(4) ? 0.0 : world_.one_in(2) ? 1.0 : -1.0);
        offset_ = world_.some(1000s);
        boot();
    }

    Time now() const { return offset_ + Time(static_cast<Time::rep>(static_cast<double>(world_.now.count()) * rate_)); }
    const std::string &name() const { return name_; }

    void crash() {
        ++g_met.crashes;
        ++boots_;
        stop_manager();
        engines_.clear();
        page_ = nullptr;
        former_.reset();
        is_up_ = false;
    }
    void boot() {
        is_up_ = true;
        start_manager();
        look();
    }
    bool is_up() const { return is_up_; }
    void restart_manager() {
        if (!is_up_) return;
        ++g_met.restarts;
        stop_manager();
        start_manager();
    }
    void freeze(Time until) {
        ++g_met.freezes;
        frozen_ = std::max(frozen_, until);
    }
    void cut(bool requests, bool answers, Time until) {
        ++g_met.cuts;
        cut_requests_ = requests ? until : cut_requests_;
        cut_answers_ = answers ? until : cut_answers_;
    }
    void recover() { frozen_ = cut_requests_ = cut_answers_ = Time(0); }

    // Another host's record changed, and the watch says so. The watch may be late, and it may have been lost for a
    // while.
    void watched(const std::string &host, const Value &record) {
        here(world_.some(world_.calm         ? 10ms
                         : world_.one_in(20) ? 8s
                                             : 200ms),
             [this, host, record] {
                 if (heard_) heard_->note(host, record, now());
             });
    }
    bool serves(const Uuid &vtpm) const { return engines_.contains(vtpm); }
    std::string state_of(const Uuid &vtpm) const {
        return fmt::format("{}: up {}, session ended {}, opening {}, serves {}", name_, is_up_,
                           session_ && session_->has_ended(), opening_.contains(vtpm), serves(vtpm));
    }

private:
    friend class Wire;

    // Whatever a host does, it does when it is not frozen, and not after a crash.
    void here(Time after, std::function<void()> action) {
        world_.at(world_.now + after, [this, boots = boots_, action = std::move(action)] {
            if (boots != boots_) return;
            if (frozen_ > world_.now) return here(frozen_ - world_.now + world_.some(1ms), action);
            action();
        });
    }

    class Wire : public Connection {
    public:
        explicit Wire(Host &host) : host_(host), world_(host.world_) {}
        void submit(const Transaction &transaction, std::function<void(const Answer &)> done) override {
            struct Call {
                std::function<void(const Answer &)> done;
                bool answer(const Answer &answer) {
                    const auto once = std::exchange(done, nullptr);
                    if (once) once(answer);
                    return once != nullptr;
                }
            };
            const auto call = std::make_shared<Call>(Call{std::move(done)});
            const int copies = !world_.calm && world_.one_in(10) ? 2 : 1;
            for (int i = 0; i < copies; ++i) {
                if (host_.cut_requests_ > world_.now || loses()) continue;
                world_.at(world_.now + delay(), [transaction, call, life = std::weak_ptr(host_.life_), host = &host_] {
                    const Answer answer = host->pool_.store.apply(host->name_, transaction);
                    if (life.expired() || host->cut_answers_ > host->world_.now || loses(host->world_)) return;
                    host->here(delay(host->world_), [call, answer] { (void)call->answer(answer); });
                });
            }
            host_.here(kAnswerLimit, [call, reads = transaction.reads, &world = world_] {
                Answer answer;
                if (world.mutant == Mutant::kUnknownIsCommitted) {
                    answer.outcome = Outcome::kCommitted;
                    for (const std::string &key : reads) answer.values[key] = std::nullopt;
                }
                if (call->answer(answer)) ++g_met.unknown;
            });
        }

    private:
        static bool loses(World &world) { return !world.calm && world.one_in(20); }
        static Time delay(World &world) {
            if (world.calm) return world.some(5ms);
            return world.one_in(30) ? world.some(20s) : world.some(60ms);
        }
        bool loses() { return loses(world_); }
        Time delay() { return delay(world_); }
        Host &host_;
        World &world_;
    };

    void stop_manager() {
        if (session_ && session_has_begun_) former_ = session_->id();
        session_.reset();
        ownership_.reset();
        heard_.reset();
        opening_.clear();
        life_.reset();
        for (const auto &[vtpm, engine] : engines_) engine->is_busy = false;
    }

    void start_manager() {
        life_ = std::make_shared<int>(0);
        wire_ = std::make_unique<Wire>(*this);
        heard_ = std::make_unique<Heard>();
        begin();
    }

    // Another session, in which engines of the former one may go on.
    void begin() {
        session_.reset();
        session_has_begun_ = false;
        opening_.clear();
        const auto page = std::make_shared<LeasePage>();
        session_ = std::make_unique<Session>(
            Session::Parts{.connection = *wire_,
                           .now = [this] { return now(); },
                           .nonce = [this] { return world_.nonce(); },
                           .timing = kTiming,
                           .serve_until =
                               [this, page](Time until) {
                                   page->deadline =
                                       world_.mutant == Mutant::kLeaseFromAnswer ? now() + kTiming.lease() : until;
                               }},
            name_);
        Timing patience = kTiming;
        if (world_.mutant == Mutant::kHalfTheSilence) patience.ttl = kTiming.ttl / 2;
        ownership_ = std::make_unique<Ownership>(
            *session_, *heard_, [this] { return now(); }, [this] { return world_.nonce(); }, patience);
        session_->begin(former_, [this, page](const Result<> &begun) {
            if (!begun) return;
            session_has_begun_ = true;
            page_ = page;
            for (const Uuid &vtpm : pool_.vtpms)
                if (serves(vtpm))
                    keep(engines_.at(vtpm));
                else
                    abandon(vtpm);
        });
    }

    void keep(std::shared_ptr<Engine> engine) {
        if (world_.mutant == Mutant::kServesOnWhenTakenOver) {
            engine->page = page_;
            return;
        }
        opening_.insert(engine->vtpm);
        ownership_->keep(engine->vtpm, engine->opening, [this, engine, page = page_](const Result<> &kept) {
            opening_.erase(engine->vtpm);
            if (kept) {
                ++g_met.kept;
                engine->page = page;
            } else if (session_ && !session_->has_ended()) {
                ++g_met.taken_over;
                engines_.erase(engine->vtpm);
            }
        });
    }

    void abandon(const Uuid &vtpm) {
        opening_.insert(vtpm);
        ownership_->abandon(vtpm, [this, vtpm](const Result<> &) { opening_.erase(vtpm); });
    }

    // The loop of the host: what is due, and what is wanted.
    void look() {
        here(50ms + world_.some(50ms), [this] { look(); });
        if (session_->has_ended()) {
            if (session_has_begun_) former_ = session_->id();
            return begin();
        }
        session_->tick();
        if (!session_has_begun_) return;
        for (const Uuid &vtpm : pool_.vtpms) {
            const bool wanted = pool_.wanted[vtpm] == index_;
            if (opening_.contains(vtpm)) continue;
            if (wanted && !serves(vtpm))
                open(vtpm);
            else if (!wanted && serves(vtpm) && ownership_->has(vtpm))
                close(engines_.at(vtpm));
            else if (serves(vtpm) && world_.one_in(8))
                command(engines_.at(vtpm));
        }
    }

    void open(const Uuid &vtpm) {
        opening_.insert(vtpm);
        ownership_->open(vtpm, [this, vtpm, page = page_](const Result<Opened> &opened) {
            opening_.erase(vtpm);
            if (!opened) return;
            ++g_met.opens;
            Truth &truth = pool_.truths[vtpm];
            const std::uint64_t sequence = number_of(opened->permanent);
            // An answer may come after the lease: nothing is served then.
            check(sequence >= truth.acknowledged || now() >= page->deadline,
                  fmt::format("{} opens a vTPM at {}, {} was acknowledged", name_, sequence, truth.acknowledged));
            if (opened->what_it_knew) {
                ++g_met.given;
                check(truth.given.insert(number_of(opened->what_it_knew)).second, "what a vTPM knew is given twice");
                check(number_of(opened->what_it_knew, 8) == sequence, "what a vTPM knew goes with another state");
            }
            engines_[vtpm] = std::make_shared<Engine>(Engine{vtpm, page, opened->opening, sequence});
        });
    }

    // As at a migration: the engine has stopped before.
    void close(std::shared_ptr<Engine> engine) {
        if (engine->is_busy) return;
        ++g_met.closes;
        engines_.erase(engine->vtpm);
        const Bytes knew = BigEndian().number(++pool_.last_given, 8).number(engine->sequence, 8).bytes();
        opening_.insert(engine->vtpm);
        ownership_->close(engine->vtpm, number(engine->sequence), knew,
                          [this, engine](const Result<Answer> &) { opening_.erase(engine->vtpm); });
    }

    // And was not killed.
    bool runs(const Engine &engine) const {
        const auto at = engines_.find(engine.vtpm);
        return at != engines_.end() && at->second.get() == &engine;
    }
    bool may_serve(const Engine &engine) const { return now() < engine.page->deadline; }

    // A guest's command, which reads, or writes and is answered when that is durable. Between any two steps the engine
    // may have to wait for a processor.
    void command(std::shared_ptr<Engine> engine) {
        if (engine->is_busy || !may_serve(*engine)) return;
        engine->is_busy = true;
        here(world_.some(world_.one_in(6) ? 12s : 2ms), [this, engine] {
            if (!runs(*engine) || !ownership_->has(engine->vtpm) || world_.one_in(2)) return publish(engine);
            const std::uint64_t sequence = ++engine->sequence;
            ownership_->store(engine->vtpm, number(sequence),
                              [this, engine, sequence, weak = std::weak_ptr(life_)](const Result<Answer> &stored) {
                                  if (weak.expired() || !stored || stored->outcome != Outcome::kCommitted) {
                                      engine->is_busy = false;
                                      return;
                                  }
                                  auto &acknowledged = pool_.truths[engine->vtpm].acknowledged;
                                  acknowledged = std::max(acknowledged, sequence);
                                  publish(engine);
                              });
        });
    }

    void publish(std::shared_ptr<Engine> engine) {
        engine->is_busy = false;
        if (!runs(*engine)) return;
        if (world_.mutant != Mutant::kChecksBeforeOnly && !may_serve(*engine)) {
            ++g_met.held_answers;
            return;
        }
        ++g_met.answers;
        const Value owner = pool_.store.of(owner_key(engine->vtpm));
        check(owner && OwnerRecord::decode(*owner)->host == name_,
              name_ + " answers a guest whose vTPM another host has");
        const Value session = pool_.store.of(session_key(name_));
        check(session.has_value(), name_ + " answers a guest after it was fenced");
    }

    Pool &pool_;
    World &world_;
    std::size_t index_;
    std::string name_;
    double rate_ = 1;
    Time offset_{};
    std::uint64_t boots_ = 0;
    bool is_up_ = false;
    Time frozen_{}, cut_requests_{}, cut_answers_{};

    // The machine's.
    std::map<Uuid, std::shared_ptr<Engine>> engines_;
    std::optional<Nonce> former_;  // a file that a reboot removes
    std::shared_ptr<LeasePage> page_;

    // The manager's.
    std::shared_ptr<int> life_;
    std::unique_ptr<Wire> wire_;
    std::unique_ptr<Heard> heard_;
    std::unique_ptr<Ownership> ownership_;
    std::unique_ptr<Session> session_;  // goes first
    bool session_has_begun_ = false;
    std::set<Uuid> opening_;
};

Uuid vtpm_of(std::uint64_t i) {
    Uuid vtpm;
    vtpm.bytes.back() = static_cast<std::uint8_t>(i + 1);
    return vtpm;
}

void something_happens(Pool &pool) {
    World &world = pool.world;
    Host &host = *pool.hosts[world.below(pool.hosts.size())];
    const Time until = world.now + world.some(12s);
    switch (world.below(8)) {
        case 0:
            if (!host.is_up()) return host.boot();
            return host.crash();
        case 1:
            return host.restart_manager();
        case 2:
            return host.freeze(until);
        case 3:
            return host.cut(true, true, until);
        case 4:
            return world.one_in(2) ? host.cut(true, false, until) : host.cut(false, true, until);
        default:  // migrated, or started elsewhere
            pool.wanted[pool.vtpms[world.below(pool.vtpms.size())]] = world.below(pool.hosts.size());
    }
}

}  // namespace

std::string play(std::uint64_t schedule, Mutant mutant) {
    try {
        Pool pool(schedule, mutant);
        World &world = pool.world;
        for (std::uint64_t i = 0; i < 1 + world.below(2); ++i) pool.vtpms.push_back(vtpm_of(i));
        const std::size_t hosts = 2 + world.below(2);
        for (const Uuid &vtpm : pool.vtpms) pool.wanted[vtpm] = world.below(hosts);
        for (std::size_t i = 0; i < hosts; ++i) pool.hosts.push_back(std::make_unique<Host>(pool, i));
        pool.store.on_change = [&pool](const std::string &key) {
            if (!key.starts_with("sessions/")) return;
            for (const auto &host : pool.hosts)
                if (key != session_key(host->name())) host->watched(key.substr(9), pool.store.of(key));
        };
        const std::function<void()> next = [&] {
            if (world.calm) return;
            something_happens(pool);
            world.at(world.now + world.some(4s), next);
        };
        world.at(world.some(2s), next);
        world.run(kFaults);
        world.calm = true;
        for (const auto &host : pool.hosts) {
            host->recover();
            if (!host->is_up()) host->boot();
        }
        world.run(kFaults + kCalm);
        for (const Uuid &vtpm : pool.vtpms) {
            const auto &host = pool.hosts.at(pool.wanted.at(vtpm));
            check(host->serves(vtpm), "a vTPM does not open: " + host->state_of(vtpm));
        }
    } catch (const Wrong &wrong) {
        return wrong.what();
    }
    return {};
}

const Met &met() { return g_met; }

}  // namespace vtpm::pool::simulation
