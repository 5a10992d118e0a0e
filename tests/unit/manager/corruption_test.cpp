// SPDX-License-Identifier: Apache-2.0
// A store whose disk gave back something else than what was written: one byte, or the end of the file.
#include <algorithm>
#include <fstream>
#include <map>

#include "engine_end.hpp"
#include "manager/groups/boot_policies.hpp"
#include "manager_in_process.hpp"
#include "openssl_keys.hpp"
#include "quiet_errors.hpp"
#include "temporary_directory.hpp"

namespace vtpm::corruption_test {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPutBack = 8;

Bytes read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string &path, ByteView content) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char *>(content.data()), static_cast<std::streamsize>(content.size()));
    if (!file.flush()) throw std::runtime_error(path);
}

Bytes marked(const char *mark) {
    Bytes state;
    while (state.size() < 64) state.insert(state.end(), mark, mark + 8);
    return state;
}

struct Guest {
    Uuid uuid;
    std::string group;
    Bytes permanent;
    Bytes volatile_state;  // empty: there is none
};

// Where something lies in the file of the database.
struct Region {
    std::string what;
    std::size_t begin;
    std::size_t size;
};

// A small store as a manager left it that ended cleanly.
struct Whole {
    // Hexadecimal letters: what reads them may not care for their case, and the database does.
    std::vector<Guest> guests{
        {*Uuid::parse("abcdefab-cdef-4abc-abcd-efabcdefabcd"), "default", marked("first..."), marked("volatile")},
        {*Uuid::parse("bcdefabc-defa-4bcd-bcde-fabcdefabcde"), "tenant", marked("second.."), {}},
        {*Uuid::parse("cdefabcd-efab-4cde-cdef-abcdefabcdef"), "default", marked("third..."), {}}};
    FakeTpm tpm;
    Bytes database;
    Bytes id;
    std::vector<Region> regions;    // that are authenticated or looked up: a flip there is a refusal
    std::vector<Region> envelopes;  // of the permanent states, as the guests are ordered

    Whole() {
        const TemporaryDirectory directory(TemporaryDirectory::fast());
        {
            ManagerInProcess manager(directory.path(), tpm);
            expect(manager.keys.unlock());
            found_tenant(manager);
            for (const Guest &guest : guests) {
                expect(manager.vtpms.create(guest.uuid, std::nullopt, guest.group));
                store(manager, guest);
            }
            manager.keys.close();
            note(manager);
        }
        REQUIRE_FALSE(std::filesystem::exists(directory / "store.db-wal"));
        database = read_file(directory / "store.db");
        id = read_file(directory / "store.id");
        for (auto *list : {&regions, &envelopes})
            for (Region &region : *list) locate(region, contents_.at(region.what));
    }

    // What is written at `position`, and so in no row of another page.
    [[nodiscard]] bool in_a_region(std::size_t position) const {
        return std::ranges::any_of(regions, [&](const Region &region) {
            return position >= region.begin && position < region.begin + region.size;
        });
    }

private:
    void found_tenant(ManagerInProcess &manager) const {
        expect(manager.keys.create({"tenant", {}, expect(ApproverKey::from_pem(public_pem(p256()))), 1}));
        const BootApproval approval{"tenant", expect(PcrSelection::parse("sha256:7")), {{7, Bytes(32, tpm.boot)}}};
        const BootPolicy policy = expect(BootPolicy::sign(view(private_pem(p256())), approval));
        expect(BootPolicies(manager.store, manager.keys).install(policy.to_json()));
    }

    static void store(ManagerInProcess &manager, const Guest &guest) {
        EngineEnd engine(std::move(expect(manager.vtpms.open(guest.uuid)).channel));
        engine.store(guest.permanent);
        manager.turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
        if (guest.volatile_state.empty()) return;
        engine.send(StoreState{StateKind::kVolatile, guest.volatile_state});
        manager.turn();
        REQUIRE(engine.receive<StoredState>().code == ErrorCode::kNone);
    }

    void note(ManagerInProcess &manager) {
        for (const GroupRecord &group : expect(manager.store.groups())) {
            add(regions, "manifest of " + group.name, group.manifest);
            add(regions, "sealed key of " + group.name, group.key.private_area);
        }
        for (const Guest &guest : guests) {
            const std::string name = guest.uuid.to_string();
            add(regions, "wrapped key of " + name, expect(manager.store.find_vtpm(guest.uuid))->wrapped_key);
            const Bytes envelope = expect(manager.store.find_state(guest.uuid, StateKind::kPermanent))->envelope;
            add(regions, "state of " + name, envelope);
            add(envelopes, "state of " + name, envelope);
            if (const auto state = expect(manager.store.find_state(guest.uuid, StateKind::kVolatile)))
                add(regions, "volatile state of " + name, state->envelope);
        }
    }

    void add(std::vector<Region> &list, const std::string &what, const Bytes &content) {
        list.push_back({what, 0, content.size()});
        contents_.insert_or_assign(what, content);
    }

    void locate(Region &region, const Bytes &content) const {
        CAPTURE(region.what);
        const auto found = std::ranges::search(database, content);
        REQUIRE_FALSE(found.empty());
        region.begin = static_cast<std::size_t>(found.begin() - database.begin());
    }

    std::map<std::string, Bytes> contents_;
};

// What came of one attempt to use a store.
struct Outcome {
    bool opened = false;                // the store as such
    std::vector<std::string> refusals;  // of the store, its groups and its vTPMs
    std::string wrong;                  // what must never happen, and did
    bool used_volatile_state = false;   // which is there once
};

class Attempt {
public:
    explicit Attempt(const Whole &whole) : whole_(whole), tpm_(whole.tpm) {}

    Outcome on(ByteView database, ByteView id) {
        for (const char *log : {"store.db-wal", "store.db-journal"}) std::filesystem::remove(directory_ / log);
        write_file(directory_ / "store.db", database);
        write_file(directory_ / "store.id", id);
        tpm_.epochs = whole_.tpm.epochs;
        return again(true);
    }
    Outcome on(ByteView database) { return on(database, whole_.id); }
    // With what the attempt before left behind.
    Outcome again(bool with_volatile_state) {
        Outcome outcome;
        auto store = SqliteStore::open(directory_.path());
        if (!store) {
            refuse(outcome, store.error());
            return outcome;
        }
        outcome.opened = true;
        ManagerInProcess manager(std::move(*store), tpm_);
        if (const auto unlocked = manager.keys.unlock(); !unlocked) refuse(outcome, unlocked.error());
        for (Guest guest : whole_.guests) {
            if (!with_volatile_state) guest.volatile_state.clear();
            use(manager, guest, outcome);
        }
        return outcome;
    }

    [[nodiscard]] const TemporaryDirectory &directory() const { return directory_; }

private:
    static void refuse(Outcome &outcome, const Error &error) {
        if (error.text.empty()) outcome.wrong = "a refusal without a reason";
        outcome.refusals.push_back(error.text);
    }

    static void use(ManagerInProcess &manager, const Guest &guest, Outcome &outcome) {
        // As the backend does it: where auto_create is on, what is unknown comes up as new.
        if (const auto prepared = manager.vtpms.prepare(guest.uuid, Beginning::kResume); !prepared)
            return refuse(outcome, prepared.error());
        auto opened = manager.vtpms.open(guest.uuid);
        if (!opened) return refuse(outcome, opened.error());
        EngineEnd engine(std::move(opened->channel));
        load(manager, engine, StateKind::kPermanent, guest.permanent, outcome);
        if (guest.volatile_state.empty()) return;
        load(manager, engine, StateKind::kVolatile, guest.volatile_state, outcome);
        outcome.used_volatile_state = true;
    }

    static void load(ManagerInProcess &manager, EngineEnd &engine, StateKind kind, const Bytes &expected,
                     Outcome &outcome) {
        engine.load(kind);
        manager.turn(0);
        const auto loaded = engine.receive<LoadedState>();
        if (loaded.code == ErrorCode::kNotFound)
            outcome.wrong = "a vTPM is new, and had a state";
        else if (loaded.code != ErrorCode::kNone)
            refuse(outcome, {loaded.code, std::string(loaded.text)});
        else if (!std::ranges::equal(loaded.state, expected))
            outcome.wrong = "another state than the one that was stored";
    }

    const Whole &whole_;
    FakeTpm tpm_;
    TemporaryDirectory directory_{TemporaryDirectory::fast()};
};

struct Fixture {
    Whole whole;
    Attempt attempt{whole};
    std::size_t refused = 0;
    std::size_t harmless = 0;
    std::size_t put_back = 0;

    // One byte at `position` is another: in whatever way that is noticed or not.
    void flip(std::size_t position, std::uint8_t mask) {
        Bytes database = whole.database;
        database.at(position) ^= mask;
        const Outcome outcome = attempt.on(database);
        INFO("byte " << position << " of page " << position / kPage + 1 << ", bits " << int(mask));
        INFO((outcome.refusals.empty() ? "no refusal" : outcome.refusals.front()));
        if (!outcome.wrong.empty()) FAIL(outcome.wrong);
        if (outcome.refusals.empty()) {
            ++harmless;
            if (whole.in_a_region(position)) FAIL("not noticed");
            return;
        }
        ++refused;
        require_kept(database, position, mask, outcome);
    }

private:
    // Nothing was overwritten that is worth something: with the byte as it was, everything is as it was.
    void require_kept(const Bytes &database, std::size_t position, std::uint8_t mask, const Outcome &outcome) {
        const std::string path = attempt.directory() / "store.db";
        Bytes now = read_file(path);
        if (!outcome.opened && now != database) FAIL("a store that was refused was written");
        for (const Region &envelope : whole.envelopes)
            if (!same(now, database, envelope.begin, envelope.size)) FAIL("the " + envelope.what + " was overwritten");
        if (refused % kPutBack != 0) return;  // an attempt more, which takes its time
        const std::size_t page = position / kPage * kPage;
        if (!same(now, database, page, std::min(kPage, database.size() - page))) return;
        now[position] ^= mask;
        write_file(path, now);
        const Outcome again = attempt.again(!outcome.used_volatile_state);
        INFO((again.refusals.empty() ? "" : again.refusals.front()));
        if (!again.refusals.empty() || !again.wrong.empty()) FAIL("the byte is as it was, and the store does not open");
        ++put_back;
    }

    static bool same(const Bytes &left, const Bytes &right, std::size_t begin, std::size_t size) {
        if (left.size() < begin + size) return false;
        return std::ranges::equal(ByteView(left).subspan(begin, size), ByteView(right).subspan(begin, size));
    }
};

// Of empty space, which is zero and which nothing reads, some: of everything else, every byte.
std::vector<std::size_t> positions(const Bytes &database) {
    constexpr std::size_t kEmpty = 64;
    constexpr std::size_t kSample = 61;
    std::vector<std::size_t> chosen;
    for (std::size_t begin = 0; begin < database.size();) {
        std::size_t end = begin;
        while (end < database.size() && database[end] == 0) ++end;
        const std::size_t step = end - begin >= kEmpty ? kSample : 1;
        for (std::size_t at = begin; at < end; at += step) chosen.push_back(at);
        if (end < database.size()) chosen.push_back(end++);
        begin = end;
    }
    return chosen;
}

}  // namespace

TEST_CASE_METHOD(Fixture, "a byte of the database that is another is noticed, or it does not matter") {
    const QuietErrors quiet;
    REQUIRE(attempt.on(whole.database).refusals.empty());
    const auto chosen = positions(whole.database);
    for (const std::size_t position : chosen) {
        flip(position, 0xff);
    }
    REQUIRE(refused > 0);
    REQUIRE(harmless > 0);
    REQUIRE(put_back > 0);
}

// A letter in the other case reads as the same UUID, and is found under another.
TEST_CASE_METHOD(Fixture, "a bit of a vTPM's name that is another is noticed, or it does not matter") {
    const QuietErrors quiet;
    for (const Guest &guest : whole.guests) {
        const std::string name = guest.uuid.to_string();
        for (auto at = whole.database.begin();; ++at) {
            at = std::search(at, whole.database.end(), name.begin(), name.end());
            if (at == whole.database.end()) break;
            const auto begin = static_cast<std::size_t>(at - whole.database.begin());
            for (std::size_t position = begin; position < begin + name.size(); ++position)
                for (unsigned bit = 0; bit < 8; ++bit) flip(position, static_cast<std::uint8_t>(1U << bit));
        }
    }
    REQUIRE(refused > 0);
    REQUIRE(put_back > 0);
}

TEST_CASE_METHOD(Fixture, "a byte of store.id that is another is refused, and stays") {
    for (std::size_t position = 0; position < whole.id.size(); ++position)
        for (const std::uint8_t mask : Bytes{0xff, 0x20, 0x01}) {
            CAPTURE(position);
            Bytes id = whole.id;
            id[position] ^= mask;
            const Outcome outcome = attempt.on(whole.database, id);
            REQUIRE_FALSE(outcome.opened);
            REQUIRE_FALSE(outcome.refusals.at(0).empty());
            REQUIRE(read_file(attempt.directory() / "store.id") == id);
            REQUIRE(read_file(attempt.directory() / "store.db") == whole.database);
        }
}

TEST_CASE_METHOD(Fixture, "a database that is cut is refused, and stays") {
    for (std::size_t size = 0; size < whole.database.size(); size += 512) {
        CAPTURE(size);
        const Bytes cut(whole.database.begin(), whole.database.begin() + static_cast<std::ptrdiff_t>(size));
        // SQLite reads zeros where a page ends early: where there were zeros, nothing is missing.
        Bytes as_read = cut;
        as_read.resize(whole.database.size());
        if (as_read == whole.database) continue;
        const Outcome outcome = attempt.on(cut);
        REQUIRE_FALSE(outcome.opened);
        REQUIRE_FALSE(outcome.refusals.at(0).empty());
        REQUIRE(read_file(attempt.directory() / "store.db") == cut);
        REQUIRE(read_file(attempt.directory() / "store.id") == whole.id);
    }
}

}  // namespace vtpm::corruption_test
