// SPDX-License-Identifier: Apache-2.0
// What a hardware TPM that answers otherwise than hoped for does to the groups: swtpm, and a proxy before it that
// answers in its place.
#include <fmt/ranges.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/big_endian.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/groups/tpm_sealer.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/store/sqlite_store.hpp"
#include "manager_process.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/quiet_errors.hpp"
#include "tpm_proxy.hpp"

namespace vtpm::tpm_answers_test {

namespace {

struct Fixture {
    TemporaryDirectory directory;
    std::optional<Swtpm> swtpm{std::in_place, directory / "tpm"};
    TpmProxy proxy{swtpm->path(), directory / "proxy"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, proxy.tcti(), bus.address()};
    const Uuid uuid = Uuid::random();

    Output xen_vtpm(std::vector<std::string> arguments) { return cli(bus.address(), std::move(arguments)); }
    // Why it is refused, in JSON.
    std::string group(const std::string &name) { return xen_vtpm({"--json", "group", "show", name}).out; }
    void create_tenant() {
        const Output created = xen_vtpm({"group", "create", "tenant", "--pcrs", "sha256:0,7"});
        CAPTURE(created.err);
        REQUIRE(created.status == 0);
    }
    void power_cycle() {
        swtpm.reset();
        swtpm.emplace(directory / "tpm");
    }
    void extend(ESYS_TR pcr) const {
        const Esys esys = expect(connect_tpm(proxy.tcti()));
        TPML_DIGEST_VALUES values{};
        values.count = 1;
        values.digests[0].hashAlg = TPM2_ALG_SHA256;
        REQUIRE(Esys_PCR_Extend(esys.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &values) ==
                TSS2_RC_SUCCESS);
    }
    // What a process that ended so left in the TPM: a resource manager does that.
    void flush() {
        proxy.set([](TPM2_CC, ByteView) { return TpmProxy::Fate{.lost = true}; });
        if (const auto esys = connect_tpm(proxy.tcti()))
            (void)capability(esys->get(), TPM2_CAP_HANDLES, TPM2_TRANSIENT_FIRST, 1);
        proxy.set({});
    }
    void set_owner_password(const std::string &former, const std::string &next) const {
        const Esys esys = expect(connect_tpm(proxy.tcti()));
        const auto auth = [](const std::string &text) {
            TPM2B_AUTH value{static_cast<UINT16>(text.size()), {}};
            std::ranges::copy(text, value.buffer);
            return value;
        };
        const TPM2B_AUTH old = auth(former);
        const TPM2B_AUTH now = auth(next);
        REQUIRE(Esys_TR_SetAuth(esys.get(), ESYS_TR_RH_OWNER, &old) == TSS2_RC_SUCCESS);
        REQUIRE(Esys_HierarchyChangeAuth(esys.get(), ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                         &now) == TSS2_RC_SUCCESS);
    }
};

// Somebody who extends PCRs without end: 10, as IMA does it, and 16, of which a TPM tells no session (PC Client
// Platform TPM Profile: TPM_PT_PCR_NO_INCREMENT).
class Extender {
public:
    explicit Extender(const std::string &tcti) : esys_(expect(connect_tpm(tcti))), thread_([this] { run(); }) {}
    Extender(const Extender &) = delete;
    Extender &operator=(const Extender &) = delete;
    ~Extender() {
        ending_ = true;
        thread_.join();
    }

private:
    void run() {
        TPML_DIGEST_VALUES values{};
        values.count = 1;
        values.digests[0].hashAlg = TPM2_ALG_SHA256;
        while (!ending_) {
            const auto begin = std::chrono::steady_clock::now();
            for (const ESYS_TR pcr : {ESYS_TR_PCR10, ESYS_TR_PCR16})
                (void)Esys_PCR_Extend(esys_.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &values);
            std::this_thread::sleep_for(kPause * (std::chrono::steady_clock::now() - begin));
        }
    }
    // In what the TPM takes for it: however slow the machine is, there is time for a policy session, though not each
    // time.
    static constexpr int kPause = 10;
    Esys esys_;
    std::atomic<bool> ending_ = false;
    std::thread thread_;
};

// The manager's parts without its process.
struct Keys {
    SqliteStore store;
    GroupKeys keys;
    Keys(const std::string &directory, const std::string &tcti)
        : store(expect(SqliteStore::open(directory))),
          keys(
              store, "tpm", [tcti](ByteView pinned) { return open_tpm_sealer(tcti, pinned, {}); },
              expect(PcrSelection::parse("sha256:7"))) {}
};

struct InProcess : Fixture {
    InProcess() {
        std::filesystem::create_directories(place.state_directory());
        expect(start().keys.unlock());
    }
    Keys &start() {
        running.reset();
        return running.emplace(place.state_directory(), proxy.tcti());
    }
    std::optional<Keys> running;
};

// Groups without one.
struct NoVtpms final : VtpmKeys {
    Result<bool> stage(const OpenGroup &, OpenGroup &) override { return false; }
    Result<> rotate(const OpenGroup &, const OpenGroup &, Change &, Manifest::Draft &) override { return {}; }
    void rotated(bool) override {}
};

// The n-th command of a kind, from 0 on.
struct Place {
    TPM2_CC command;
    int number;
    auto operator<=>(const Place &) const = default;
};

// Everything that opening the groups asks of the TPM, but TPM2_FlushContext, whose answer nobody reads.
std::vector<Place> places(InProcess &host) {
    std::map<TPM2_CC, int> count;
    std::vector<Place> found;
    host.start();
    host.proxy.set([&](TPM2_CC command, ByteView) {
        if (command != TPM2_CC_FlushContext) found.push_back({command, count[command]++});
        return TpmProxy::Fate{};
    });
    expect(host.running->keys.unlock());
    host.proxy.set({});
    return found;
}

// `fate` for the command at `place`, and the `more` commands of that kind after it.
TpmProxy::Fates at(Place place, TpmProxy::Fate fate, int more = 0) {
    return [place, fate = std::move(fate), more, count = 0](TPM2_CC command, ByteView) mutable {
        if (command != place.command) return TpmProxy::Fate{};
        const int number = count++;
        return number < place.number || number > place.number + more ? TpmProxy::Fate{} : fate;
    };
}

TpmProxy::Fates always(TSS2_RC answer) {
    return [answer](TPM2_CC, ByteView) { return TpmProxy::Fate{answer}; };
}

constexpr int kMoreThanEsapiRepeats = 7;

// What the TPM keeps for good.
bool changes_nv(TPM2_CC command) {
    return command == TPM2_CC_NV_DefineSpace || command == TPM2_CC_NV_UndefineSpace || command == TPM2_CC_NV_Write ||
           command == TPM2_CC_NV_Increment;
}

}  // namespace

TEST_CASE_METHOD(Fixture, "whoever extends PCRs while the manager starts, every group opens") {
    {
        ManagerProcess manager(place);
        manager.wait_for_status("ready");
        create_tenant();
    }
    const Extender extender(proxy.tcti());
    for (int i = 0; i < 10; ++i) {
        CAPTURE(i);
        (void)proxy.take_answers();
        proxy.set(at({TPM2_CC_Unseal, 0}, {.before = {::extend(10)}}, i % 3));
        ManagerProcess manager(place);
        REQUIRE_THAT(manager.wait_for_status(""), Contains("ready"));
        REQUIRE(std::ranges::count(proxy.take_answers(), TPM2_RC_PCR_CHANGED) > i % 3);
        for (const char *name : {"default", "tenant"}) REQUIRE_THAT(group(name), Contains(R"("reason": "")"));
        BackendEnd(place.socket()).open(uuid);
    }
}

TEST_CASE_METHOD(InProcess, "an answer that passes is waited out, wherever it comes") {
    const QuietErrors quiet;
    const std::vector<Place> commands = places(*this);
    REQUIRE(commands.size() > 15);
    const auto opens = [&](Place where, const TpmProxy::Fate &fate, int more) {
        CAPTURE(where.command, where.number, fate.answer.value_or(0));
        start();
        proxy.set(at(where, fate, more));
        const auto opened = running->keys.unlock();
        proxy.set({});
        INFO((opened ? std::string() : opened.error().text));
        REQUIRE(opened);
    };
    for (const Place &where : commands) {
        opens(where, {.answer = TPM2_RC_SESSION_MEMORY}, 0);
        if (where.number != 0) continue;
        for (const TSS2_RC answer :
             {TPM2_RC_PCR_CHANGED, TPM2_RC_OBJECT_MEMORY, TPM2_RC_SESSION_HANDLES, TPM2_RC_CONTEXT_GAP,
              TPM2_RC_REFERENCE_H0, TPM2_RC_REFERENCE_S0, TPM2_RC_CANCELED, TPM2_RC_NV_RATE})
            opens(where, {.answer = answer}, 0);
        for (const TSS2_RC answer : {TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_TESTING})
            opens(where, {.answer = answer}, kMoreThanEsapiRepeats);
        opens(where, {.lost = true}, 0);
    }
}

TEST_CASE_METHOD(InProcess, "the TPM is asked anew, but not for ever, and no reason is told that is not one") {
    const QuietErrors quiet;
    const auto refusal = [&](TSS2_RC answer) {
        start();
        proxy.set(at({TPM2_CC_Unseal, 0}, {.answer = answer}, 1'000'000));
        const auto begin = std::chrono::steady_clock::now();
        const auto opened = running->keys.unlock();
        proxy.set({});
        REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(15));
        REQUIRE(running->keys.waits());
        return expect_error(opened);
    };
    for (const TSS2_RC answer : {TPM2_RC_PCR_CHANGED, TPM2_RC_POLICY_FAIL | TPM2_RC_S | TPM2_RC_1}) {
        const Error error = refusal(answer);
        CAPTURE(error.text);
        REQUIRE(error.code == ErrorCode::kUnavailable);
        REQUIRE_THAT(error.text, !Contains("are not as they were"));
    }
    expect(running->keys.unlock());
}

TEST_CASE_METHOD(InProcess, "a manager that is kept from one group opens the others, and that one later") {
    const QuietErrors quiet;
    expect(running->keys.create({"tenant", {}, {}, 1}));
    Keys &host = start();
    const auto tenant_counter = BigEndian().u32(0x0180a801).bytes();
    proxy.set([&](TPM2_CC command, ByteView whole) {
        const bool concerned =
            command == TPM2_CC_NV_ReadPublic && std::ranges::equal(whole.subspan(10), tenant_counter);
        return concerned ? TpmProxy::Fate{TPM2_RC_NV_UNAVAILABLE} : TpmProxy::Fate{};
    });
    expect(host.keys.unlock());
    expect(host.keys.key("default"));
    REQUIRE(host.keys.waits());
    REQUIRE(expect_error(host.keys.key("tenant")).code == ErrorCode::kUnavailable);
    REQUIRE(expect_error(host.keys.all_open()).code == ErrorCode::kUnavailable);
    REQUIRE(expect(host.keys.list())[1].waits);
    REQUIRE_FALSE(expect(host.keys.list())[0].waits);
    REQUIRE(expect_error(host.keys.discard("tenant")).code == ErrorCode::kUnavailable);  // it is not lost
    proxy.set(always(TPM2_RC_NV_UNAVAILABLE));
    expect(host.keys.unlock());  // what is open stays so
    expect(host.keys.key("default"));
    proxy.set({});
    expect(host.keys.unlock());
    expect(host.keys.key("tenant"));
    REQUIRE_FALSE(host.keys.waits());
}

// From one change of its NV on, which it makes or not, it answers nothing but that it has failed, and so to the
// manager's end: a crash of either.
TEST_CASE_METHOD(InProcess, "at whatever change of its NV the TPM fails for good, nothing is lost with it") {
    const QuietErrors quiet;
    const PcrSelection pcr7 = expect(PcrSelection::parse("sha256:7"));
    expect(running->keys.create({"tenant", {}, {}, 1}));
    std::string recovery_key;
    const auto is_open = [&] { return running->keys.key("tenant").has_value(); };
    const auto open = [&] { (void)start().keys.unlock(); };
    const auto recover = [&] {
        return running->keys.recover(recovery_key,
                                     {{"tenant", pcr7, {}, 1}, GroupKeys::AcceptRollback::kNo, GroupKeys::NewTpm::kNo});
    };
    struct Act {
        const char *name;
        std::function<void()> before;
        std::function<Result<>()> act;
        std::function<void()> after;  // if the group is not open once the TPM answers again
    };
    const auto nothing = [] {};
    const Act acts[] = {
        {"start", [&] { start(); }, [&] { return running->keys.unlock(); }, nothing},
        {"end", open,
         [&]() -> Result<> {
             running->keys.close();
             return {};
         },
         nothing},
        {"create", open,
         [&] {
             return running->keys.create({"another", pcr7, {}, 1});
         },
         nothing},
        {"reseal", open,
         [&] {
             return running->keys.reseal({"tenant", pcr7, {}, 1});
         },
         nothing},
        {"rekey", open,
         [&] {
             NoVtpms none;
             return running->keys.rekey("tenant", GroupKeys::NewCa::kNo, none);
         },
         nothing},
        {"recover",
         [&] {
             open();
             recovery_key = expect(running->keys.export_recovery_key("tenant", GroupKeys::Replace::kYes));
             expect(running->keys.reseal({"tenant", pcr7, {}, 1}));
             extend(ESYS_TR_PCR7);
             open();
             REQUIRE_FALSE(is_open());
         },
         recover, [&] { expect(recover()); }},
    };
    for (const Act &act : acts)
        for (const bool heard : {false, true})
            for (int number = 0;; ++number) {
                CAPTURE(act.name, heard, number);
                act.before();
                int count = 0;
                proxy.set([&](TPM2_CC command, ByteView) {
                    TpmProxy::Fate fate;
                    if (count > number || (count == number && !heard && changes_nv(command)))
                        fate.answer = TPM2_RC_FAILURE;
                    if (changes_nv(command) && count++ == number && heard)
                        fate.change = [](Bytes &response) { response = tpm_message(kTpmNoSessions, TPM2_RC_FAILURE); };
                    return fate;
                });
                (void)act.act();
                running.reset();
                flush();
                open();
                if (!is_open()) act.after();
                REQUIRE(is_open());
                REQUIRE(running->keys.lost().empty());
                if (running->keys.has("another")) {
                    if (!running->keys.key("another")) expect(running->keys.create({"another", pcr7, {}, 1}));
                    expect(running->keys.remove("another"));
                }
                if (count <= number) break;
            }
}

// Such a group would open in a boot that nobody chose, and not in this one.
TEST_CASE_METHOD(InProcess,
                 "nobody on the TPM's bus chooses the PCR values that a key is sealed to, or that are shown") {
    const QuietErrors quiet;
    const PcrSelection pcr7 = expect(PcrSelection::parse("sha256:7"));
    expect(running->keys.create({"tenant", {}, {}, 1}));
    const auto change_last_byte_of = [&](TPM2_CC changed) {
        proxy.set([changed](TPM2_CC command, ByteView) {
            TpmProxy::Fate fate;
            // Before the session's area, if there is one: the count of the response's parameters is then in front.
            if (command == changed)
                fate.change = [](Bytes &response) {
                    const bool sessions = big_endian(ByteView(response).first(2)) == kTpmSessions;
                    const std::size_t size =
                        sessions ? 14 + big_endian(ByteView(response).subspan(10, 4)) : response.size();
                    response.at(size - 1) ^= 1;
                };
            return fate;
        });
    };
    for (const TPM2_CC changed : {TPM2_CC_PCR_Read, TPM2_CC_GetCapability}) {
        CAPTURE(changed);
        Keys &host = start();
        expect(host.keys.unlock());
        change_last_byte_of(changed);
        const Error error = expect_error(host.keys.reseal({"tenant", pcr7, {}, 1}));
        CAPTURE(error.text);
        REQUIRE_FALSE(host.keys.read(pcr7));
        REQUIRE_FALSE(host.keys.create({"another", pcr7, {}, 1}));
        running.reset();
        flush();
        start();
        expect(running->keys.unlock());
        expect(running->keys.key("tenant"));
        REQUIRE(expect(running->keys.policy("tenant")).pcrs.empty());
    }
    running.reset();
    std::filesystem::remove_all(place.state_directory());
    std::filesystem::create_directories(place.state_directory());
    change_last_byte_of(TPM2_CC_PCR_Read);
    REQUIRE_FALSE(start().keys.start_anew());
}

TEST_CASE_METHOD(Fixture, "what the TPM cannot do now is done when it can, by itself") {
    ManagerProcess(place).wait_for_status("ready");
    for (const TSS2_RC answer : {TPM2_RC_NV_UNAVAILABLE, TPM2_RC_INITIALIZE, TPM2_RC_LOCKOUT}) {
        proxy.set(always(answer));
        ManagerProcess manager(place);
        manager.wait_for_status("refusing");
        REQUIRE(BackendEnd(place.socket()).ask<PrepareVtpm>(uuid).code == ErrorCode::kUnavailable);
        proxy.set({});
        manager.wait_for_status("ready");
        BackendEnd(place.socket()).open(uuid);
    }
}

TEST_CASE_METHOD(Fixture, "a group that was refused for its PCRs opens when they are right again, without a restart") {
    {
        ManagerProcess manager(place);
        manager.wait_for_status("ready");
        create_tenant();
        BackendEnd(place.socket()).open(uuid);
    }
    extend(ESYS_TR_PCR7);
    ManagerProcess manager(place);
    REQUIRE_THAT(manager.wait_for_status("refusing"), Contains("PCR 7 was"));
    const Output refused = xen_vtpm({"group", "open", "tenant"});
    REQUIRE(refused.status == 5);
    REQUIRE_THAT(refused.err, Contains("PCR 7 was"));
    REQUIRE(BackendEnd(place.socket()).ask<PrepareVtpm>(uuid).code == ErrorCode::kRefused);
    power_cycle();
    const Output opened = xen_vtpm({"group", "open", "default"});
    CAPTURE(opened.err);
    REQUIRE(opened.status == 0);
    BackendEnd(place.socket()).open(uuid);
    REQUIRE_THAT(group("tenant"), Contains(R"("reason": "")"));
    const std::string log = xen_vtpm({"audit"}).out;
    REQUIRE(log.find("group-refused") != std::string::npos);
    REQUIRE(log.find("group-refused", log.rfind("group-opened")) == std::string::npos);
    REQUIRE(xen_vtpm({"group", "open", "default"}).status == 0);
    REQUIRE(xen_vtpm({"group", "open", "nobody"}).status == 3);
}

TEST_CASE_METHOD(Fixture, "an owner's password that the administrator gave is used, and a wrong one told as such") {
    const std::string credentials = directory / "credentials";
    std::filesystem::create_directory(credentials);
    const auto give = [&](const std::string &password) {
        std::ofstream(credentials + "/tpm-owner-password") << password;
    };
    set_owner_password("", "pw");
    place.credentials = credentials;
    for (const char *const password : {"pw\n", "pw"}) {
        give(password);
        ManagerProcess manager(place);
        manager.wait_for_status("ready");
        BackendEnd(place.socket()).open(uuid);
    }
    give("another");
    ManagerProcess manager(place);
    const std::string status = manager.wait_for_status("refusing");
    REQUIRE_THAT(status, Contains("tpm-owner-password") && !Contains("another\n"));
    REQUIRE(xen_vtpm({"group", "open", "default"}).status == 5);
    give("pw");
    REQUIRE(xen_vtpm({"group", "open", "default"}).status == 0);
}

// The saved primary needs none: so the manager goes on, until it needs the hierarchy itself.
TEST_CASE_METHOD(Fixture, "an owner's password that was given while the manager runs is told where it is missed") {
    const std::string credentials = directory / "credentials";
    std::filesystem::create_directory(credentials);
    place.credentials = credentials;
    ManagerProcess manager(place);
    create_tenant();
    set_owner_password("", "pw");
    for (const std::vector<std::string> &command :
         {std::vector<std::string>{"group", "create", "another", "--tpm-only"}, {"group", "rekey", "tenant"}}) {
        const Output refused = xen_vtpm(command);
        CAPTURE(refused.err);
        REQUIRE(refused.status == 5);
        REQUIRE_THAT(refused.err, Contains("tpm-owner-password") && Contains("tpm2_changeauth -c owner"));
    }
    BackendEnd(place.socket()).open(uuid);
    std::ofstream(credentials + "/tpm-owner-password") << "pw";
    REQUIRE(xen_vtpm({"group", "create", "another", "--tpm-only"}).status == 0);
    REQUIRE(xen_vtpm({"group", "rekey", "tenant"}).status == 0);
    set_owner_password("pw", "");
    REQUIRE_THAT(xen_vtpm({"group", "delete", "--yes", "another"}).err + group("tenant"), Contains("tenant"));
}

TEST_CASE_METHOD(Fixture, "an owner's password that was taken away is none any more, without a restart") {
    const bool first_start = GENERATE(true, false);
    if (!first_start) ManagerProcess(place).wait_for_status("ready");
    set_owner_password("", "pw");
    ManagerProcess manager(place);
    REQUIRE_THAT(manager.wait_for_status("refusing"), Contains("tpm2_changeauth -c owner"));
    REQUIRE(xen_vtpm({"group", "open", "default"}).status == 5);
    set_owner_password("pw", "");
    REQUIRE(xen_vtpm({"group", "open", "default"}).status == 0);
    BackendEnd(place.socket()).open(uuid);
}

}  // namespace vtpm::tpm_answers_test
