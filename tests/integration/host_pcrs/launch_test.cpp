// SPDX-License-Identifier: Apache-2.0
// What a guest's vTPM tells of its launch.
#include "tests/integration/host_pcrs/launched.hpp"

namespace vtpm::launch_test {
namespace {

// Of a UKI.
launch::Events uki_events() {
    launch::MeasuredLaunch measured;
    measured.banks = {Hash::kSha256, Hash::kSha384};
    const auto digests = [&](std::string_view of) { return expect(launch::digests_of(bytes_of(of), measured.banks)); };
    measured.image = {digests("uki"), 1};
    measured.command_line = "ro";
    measured.uki = launch::MeasuredUki{{{".linux", digests("linux")}, {".cmdline", digests("ro")}}, {digests("k"), 1}};
    return expect(launch::launch_events(measured));
}

Bytes extend(const launch::Extend &extend) {
    commands::Command command(commands::kSessions, 0x182);
    command.u32(extend.pcr).password().u32(static_cast<std::uint32_t>(extend.digests.size()));
    for (const auto &[bank, digest] : extend.digests) command.u16(static_cast<std::uint16_t>(bank)).data(digest);
    return command.build();
}

// Whatever might begin PCRs anew, and is there for a guest to try.
std::vector<Bytes> resets() {
    using commands::Command;
    std::vector<Bytes> all;
    for (const std::uint16_t type : {std::uint16_t{0}, std::uint16_t{1}}) {
        all.push_back(Command(commands::kNoSessions, 0x145).u16(type).build());  // TPM2_Shutdown
        all.push_back(Command(commands::kNoSessions, 0x144).u16(type).build());  // TPM2_Startup
    }
    for (std::uint32_t pcr = 0; pcr < 16; ++pcr)  // TPM2_PCR_Reset
        all.push_back(Command(commands::kSessions, 0x13D).u32(pcr).password().build());
    for (const std::uint32_t hierarchy : {0x4000000AU, 0x4000000CU})  // TPM2_Clear
        all.push_back(Command(commands::kSessions, 0x126).u32(hierarchy).password().build());
    all.push_back(commands::enable_platform());
    // TPM2_PCR_Allocate, of SHA-256 alone
    all.push_back(Command(commands::kSessions, 0x12B)
                      .u32(commands::kPlatform)
                      .password()
                      .u32(1)
                      .u16(commands::kSha256)
                      .u8(3)
                      .data(Bytes(3, 0xff))
                      .build());
    all.push_back(Command(commands::kNoSessions, 0x143).u8(1).build());  // TPM2_SelfTest
    return all;
}

}  // namespace

TEST_CASE("a guest's PCRs and event log are its launch, and the next one's after it was started anew") {
    Launched guest;
    for (const char *line : {"ro quiet", "ro single"}) {
        expect(guest.record(log_of(line)));
        guest.power_on();
        guest.check_launch(log_of(line));
        guest.power_off();
    }
}

TEST_CASE("a guest that nobody measured, or not before it ran, has other PCRs") {
    Launched guest;
    SECTION("no record") {}
    SECTION("a record of another domain") { expect(guest.host->launches->record({8, log_of("ro")})); }
    SECTION("a record of the domain that had this number before") {
        expect(guest.record(log_of("ro")));
        guest.host->domains.facts(7).incarnation.domain = Uuid::random();
    }
    SECTION("a vTPM that is attached while it runs") {
        expect(guest.record(log_of("ro")));
        guest.runs();
    }
    guest.power_on();
    guest.check_unmeasured();
}

TEST_CASE("a guest that plays firmware, boot loader and stub reaches none of a launch's values") {
    Launched guest;
    SECTION("that nobody measured") {}
    SECTION("whose kernel was measured, and is no UKI") { expect(guest.record(log_of("ro"))); }
    guest.power_on();
    for (const Bytes &reset : resets()) (void)guest.execute(reset);
    const launch::Events good = uki_events();
    for (const launch::Extend &one : launch::extends_of(good)) REQUIRE(return_code(guest.execute(extend(one))) == 0);
    for (const Hash bank : {Hash::kSha256, Hash::kSha384})
        for (const auto &[pcr, value] : expect(launch::pcrs_after(good, bank))) {
            CAPTURE(pcr, name_of(bank));
            const Bytes read = guest.execute(commands::pcr_read(pcr, static_cast<std::uint16_t>(bank)));
            REQUIRE(return_code(read) == 0);
            REQUIRE(commands::pcr_value(read, value.size()) != value);
        }
}

TEST_CASE("a guest that is saved before it asks for its TPM has its launch when it is restored") {
    Launched guest;
    expect(guest.record(log_of("ro")));
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    guest.runs();
    guest.save_and_restore();
    guest.check_launch(log_of("ro"));
}

// xl starts a configuration twice, if it is told so at one moment: its name is looked for before the domain has it.
TEST_CASE("two guests that are started with one vTPM have it one after the other, each with its own launch") {
    Launched guest;
    const DeviceId other{8, 0};
    LoopbackGuest others;
    expect(guest.record(log_of("ro")));
    expect(guest.host->launches->record({other.domain, log_of("evil")}));
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    REQUIRE(guest.host->is_offered(other, guest.uuid, others));
    guest.host->frontend_initialised(other);
    REQUIRE(guest.host->reaches(other, "4"));
    guest.host->frontend_initialised(guest.device);
    guest.host->run_for(std::chrono::milliseconds(200));
    REQUIRE(guest.host->own_state(guest.device) == "2");
    REQUIRE_THAT(guest.host->reason(guest.device), Contains("already runs for another guest"));
    guest.host->detach(other);
    REQUIRE(guest.host->reaches(guest.device, "4"));
    guest.check_launch(log_of("ro"));
}

TEST_CASE("a vTPM that is attached again to a guest that ran shows no launch") {
    Launched guest;
    expect(guest.record(log_of("ro")));
    guest.power_on();
    guest.runs();
    REQUIRE(return_code(guest.execute(commands::pcr_extend(11, 1))) == 0);
    guest.power_off();
    guest.power_on();
    guest.check_unmeasured();
}

TEST_CASE("a guest that runs before it asks for its TPM has its launch, also if xen-vtpmd was restarted meanwhile") {
    Launched guest;
    guest.keep_records();
    const std::string &kept = guest.host->launch_directory;
    expect(guest.record(log_of("ro")));
    expect(guest.host->launches->record({9, log_of("other")}));
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    guest.runs();
    guest.host->daemon_dies();
    std::ofstream(kept + "/11") << "not a launch";
    std::ofstream(kept + "/7.new") << "half a launch";
    expect(guest.host->start());
    REQUIRE(guest.host->launches->size() == 2);
    guest.host->frontend_initialised(guest.device);
    REQUIRE(guest.host->reaches(guest.device, "4"));
    guest.check_launch(log_of("ro"));
    guest.host->domains.gone.insert(9);
    guest.host->launches->forget_gone();
    REQUIRE(LaunchRecords(guest.host->domains, kept).size() == 1);
}

TEST_CASE("what a xen-vtpmd noted that was killed before it offered a device holds only if the next one finds it so") {
    Launched guest;
    guest.keep_records();
    expect(guest.record(log_of("ro")));
    guest.host->xenstore.write(backend_path(0, guest.device) + "/launched", "1");
    const bool ran_meanwhile = GENERATE(false, true);
    if (ran_meanwhile) guest.runs();
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    guest.host->daemon_dies();
    expect(guest.host->start());
    guest.host->frontend_initialised(guest.device);
    REQUIRE(guest.host->reaches(guest.device, "4"));
    if (ran_meanwhile)
        guest.check_unmeasured();
    else
        guest.check_launch(log_of("ro"));
}

TEST_CASE("xen-vtpm-domains that ends while a guest is admitted does not make its launch an unknown one") {
    Launched guest("launch = \"require\"\n");
    expect(guest.record(log_of("ro")));
    guest.host->domains.silence = ErrorCode::kUnavailable;
    guest.host->domains.answers = 1;
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    guest.host->domains.answers = -1;
    guest.host->frontend_initialised(guest.device);
    REQUIRE(guest.host->reaches(guest.device, "4"));
    guest.check_launch(log_of("ro"));
}

TEST_CASE("PCRs and log of a launch are there after daemon and manager were restarted, and after save and restore") {
    Launched guest;
    expect(guest.record(log_of("ro")));
    guest.power_on();
    guest.host->daemon_dies();
    guest.manager->end(SIGKILL);
    guest.manager.reset();
    guest.manager.emplace(guest.place);
    expect(guest.host->start());
    REQUIRE(guest.host->run_until([&] { return guest.host->status(guest.device) == "connected"; }));
    guest.check_launch(log_of("ro"));

    guest.save_and_restore();
    guest.check_launch(log_of("ro"));
}

TEST_CASE("require: no launch, no TPM, and the guest's builder hears why at once") {
    Launched guest("launch = \"require\"\n");
    guest.host->attach(guest.device, guest.uuid);
    REQUIRE(guest.host->reaches(guest.device, "none"));
    REQUIRE_THAT(guest.host->reason(guest.device), Contains("nobody measured") && Contains("xen-vtpm-launch"));
    guest.host->remove(guest.device);
    guest.host->run_for(std::chrono::milliseconds(50));
    expect(guest.record(log_of("ro")));
    guest.power_on();
    guest.check_launch(log_of("ro"));
}

TEST_CASE("require: a record that is lost after the attach powers nothing on") {
    Launched guest("launch = \"require\"\n");
    expect(guest.record(log_of("ro")));
    REQUIRE(guest.host->is_offered(guest.device, guest.uuid, guest.ring));
    guest.host->launches->forget(7);
    guest.host->frontend_initialised(guest.device);
    REQUIRE(guest.host->reaches(guest.device, "5"));
    REQUIRE_THAT(guest.host->reason(guest.device), Contains("nobody measured"));
}

TEST_CASE_METHOD(Approved, "require-approved: the guest's builder hears at once what differs from what was approved") {
    starts("ro");
    refuses("init=/bin/sh", "its command line (PCR 8) differs");
    const auto audit = must({"audit"});
    REQUIRE_THAT(audit, Contains("launch-refused") && Contains("its command line (PCR 8)"));
    REQUIRE_THAT(must({"show", id}), Contains("require-approved, by SHA256:") && Contains("its command line (PCR 8)"));
    REQUIRE_THAT(must({"launch", "approvals"}), Contains("tenant") && Contains("ro"));
    // A launch that is approved when the device comes, and not any more when the TPM is powered on.
    expect(record(log_of("ro")));
    REQUIRE(host->is_offered(device, uuid, ring));
    const auto approvals = nlohmann::json::parse(must({"--json", "launch", "approvals"}));
    must({"launch", "remove", approvals.at(0).at("approval")});
    host->frontend_initialised(device);
    REQUIRE(host->reaches(device, "5"));
    REQUIRE_THAT(host->reason(device), Contains("none is installed for it"));
}

// Whatever an administrator of dom0 says to the manager by its own commands.
TEST_CASE_METHOD(Approved,
                 "require-approved: no command gives the TPM to another launch, without the approver's word") {
    starts("ro");
    const std::string backup = file("backup");
    must({"export", id, backup});
    const std::string mine = key("mine");
    const auto fails = [&](std::vector<std::string> arguments) { REQUIRE(xen_vtpm(std::move(arguments)).status != 0); };

    // To ask for less.
    for (const char *less : {"off", "measure", "require"}) {
        fails({"launch", "set", id, less});
        fails({"launch", "set", id, less, "--release", release(mine)});
        fails({"launch", "set", id, less, "--release", signed_by(approver, {}, "ro")});
    }
    // To sign with a key of his own, for his group or as the group's approver.
    fails({"launch", "install", signed_by(mine, {}, "evil")});
    fails({"launch", "install", signed_by(approver, {"--generation", "3"}, "evil")});
    install(approver, {"--uuid", Uuid::random().to_string()}, "evil");  // what the approver signed for another vTPM
    install(approver, {"--generation", "2"}, "evil");                   // and for a generation that has not begun
    refuses("evil", "its command line");
    must({"group", "seal", "tenant", "--approver", public_half(mine)});
    must({"launch", "install", signed_by(mine, {}, "evil")});
    refuses("evil", "its command line");
    fails({"launch", "set", id, "require-approved"});
    must({"group", "seal", "tenant", "--tpm-only"});
    refuses("evil", "its command line");
    // To have the state come back under another name, group or setting.
    must({"import", "--replace", backup});
    refuses("evil", "its command line");
    must({"delete", "--yes", id});
    must({"import", backup});
    refuses("evil", "its command line");
    must({"delete", "--yes", id});
    must({"group", "create", "other", "--approver", public_half(mine)});
    fails({"import", "--group", "other", backup});
    must({"import", backup});
    const std::string recovery = write("recovery", must({"group", "recovery-key", "tenant"}));
    must({"export", id, file("with-key")});
    must({"delete", "--yes", id});
    must({"import", "--group", "other", "--recovery-key", recovery, file("with-key")});
    must({"launch", "install", signed_by(mine, {}, "evil", "other")});
    refuses("evil", "none is installed for it");
    must({"delete", "--yes", id});
    must({"import", backup});
    // To have other keys, or a manager that starts anew with another word in its configuration.
    must({"group", "rekey", "tenant"});
    refuses("evil", "its command line");
    reconfigure("launch = \"off\"\n");
    refuses("evil", "its command line");
    // To attach it while the guest runs, or without a record.
    host->launches->forget(device.domain);
    host->attach(device, uuid);
    REQUIRE(host->reaches(device, "none"));
    REQUIRE_THAT(host->reason(device), Contains("nobody measured"));
    host->remove(device);
    host->run_for(std::chrono::milliseconds(50));

    starts("ro");
    const std::string word = release(approver);
    must({"launch", "set", id, "require", "--release", word});
    starts("evil");
    must({"group", "seal", "tenant", "--approver", public_half(approver)});
    must({"launch", "set", id, "require-approved"});
    fails({"launch", "set", id, "require", "--release", word});
}

TEST_CASE_METHOD(Approved, "require-approved: a guest that is restored goes on as it was launched") {
    expect(record(log_of("ro")));
    power_on();
    host->domains.facts(7).suspended = true;
    power_off();
    device = {9, 0};
    host->domains.build(9, 2);
    power_on();
    check_launch(log_of("ro"));
    power_off();
    // Started anew it is no more what it was.
    host->domains.build(9, 1);
    refuses("evil", "its command line");
}

TEST_CASE("launch set holds from the next power-on, and stands in show, audit log and backups") {
    Launched guest("launch = \"off\"\n");
    const std::string uuid = guest.uuid.to_string();
    expect(guest.record(log_of("ro")));
    guest.power_on();
    for (unsigned number = 0; number < 16; ++number) REQUIRE(guest.pcr(number) == Bytes(32));
    REQUIRE(guest.execute(Launched::read_log(0)).size() == 16);  // none
    REQUIRE_THAT(guest.xen_vtpm({"show", uuid}).out, Contains("launch        off"));
    REQUIRE(guest.xen_vtpm({"launch", "set", uuid, "sometimes"}).status == 2);
    REQUIRE(guest.xen_vtpm({"launch", "set", uuid, "measure"}).status == 0);
    REQUIRE_THAT(guest.xen_vtpm({"audit"}).out, Contains("launch-policy-set") && Contains("measure"));
    REQUIRE(guest.pcr(4) == Bytes(32));
    guest.power_off();
    const std::string backup = guest.directory / "backup";
    REQUIRE(guest.xen_vtpm({"export", uuid, backup}).status == 0);
    guest.power_on();
    guest.check_launch(log_of("ro"));
    guest.power_off();
    for (int i = 0; i < 2; ++i) {
        REQUIRE_THAT(guest.xen_vtpm({"show", uuid}).out, Contains("measure"));
        guest.manager->end(SIGTERM);
        guest.manager.reset();
        guest.manager.emplace(guest.place);
    }
    REQUIRE(guest.xen_vtpm({"delete", "--yes", uuid}).status == 0);
    REQUIRE(guest.xen_vtpm({"import", backup}).status == 0);
    REQUIRE_THAT(guest.xen_vtpm({"show", uuid}).out, Contains("measure"));
}

TEST_CASE("an import that puts a vTPM back changes what it asks of launches, and the audit log says to what") {
    Launched guest("launch = \"off\"\n");
    const std::string uuid = guest.uuid.to_string();
    const std::string backup = guest.directory / "backup";
    guest.power_on();
    guest.power_off();
    REQUIRE(guest.xen_vtpm({"export", uuid, backup}).status == 0);
    REQUIRE(guest.xen_vtpm({"launch", "set", uuid, "require"}).status == 0);
    REQUIRE(guest.xen_vtpm({"import", "--replace", backup}).status == 0);
    REQUIRE_THAT(guest.xen_vtpm({"show", uuid}).out, Contains("launch        off"));
    const auto imported = nlohmann::json::parse(guest.xen_vtpm({"--json", "audit"}).out).back();
    REQUIRE(imported.at("event") == "vtpm-imported");
    REQUIRE_THAT(imported.at("detail").get<std::string>(), Contains("launch off"));
}

TEST_CASE("a TPM 1.2 is extended by a launch, and has no log") {
    Launched guest("default_tpm = \"1.2\"\n");
    expect(guest.record(log_of("ro")));
    guest.power_on();
    const auto expected = expect(launch::pcrs_after(events_of(log_of("ro"), {Hash::kSha1}), Hash::kSha1));
    for (const unsigned number : {0U, 4U, 7U, 8U, 9U, 11U})
        REQUIRE(commands::pcr_value(guest.execute(commands::tpm12_pcr_read(static_cast<std::uint8_t>(number))), 20) ==
                expected.at(number));
}

TEST_CASE("what the host is comes before the launch, in PCRs and log") {
    Launched guest("host_pcrs = \"4\"\n");
    guest.measure(ESYS_TR_PCR4, "a boot loader");
    const Bytes value = guest.of_the_host("sha256:4");
    expect(guest.record(log_of("ro")));
    guest.power_on();
    std::array<launch::Events, 2> events;
    for (const auto bank : {Hash::kSha256, Hash::kSha384}) {
        launch::Events &all = events.at(bank == Hash::kSha256 ? 0 : 1);
        all = events_of(log_of("ro"), {bank});
        all.insert(all.begin(), expect(launch::host_event(4, value, {bank})));
    }
    guest.check(events[0], events[1]);
    REQUIRE(expect(launch::read_event_log(guest.guest_log())).events.front().pcr == 4);
}

TEST_CASE("a log as long as may be comes whole, and a guest that asks wrongly hears an error") {
    Launched guest;
    const Bytes longest = log_of("ro", 280);
    REQUIRE(longest.size() > kMaxLaunchLog - 4096);
    expect(guest.record(longest));
    guest.power_on();
    guest.check_launch(longest);
    const auto size = static_cast<std::uint32_t>(guest.guest_log().size());
    REQUIRE(return_code(guest.execute(Launched::read_log(size))) == 0);
    REQUIRE(return_code(guest.execute(Launched::read_log(size + 1))) == 0x1c4);
    REQUIRE(return_code(guest.execute(Launched::read_log(0xffffffff))) == 0x1c4);
    REQUIRE(return_code(guest.execute(tpm_message(kTpmNoSessions, kReadEventLog))) == 0x142);
    REQUIRE(return_code(guest.execute(tpm_message(kTpmNoSessions, kReadEventLog, Bytes(5)))) == 0x142);
    REQUIRE(return_code(guest.execute(tpm_message(kTpmSessions, kReadEventLog, Bytes(4)))) == 0x145);
    // Only the manager may give one.
    REQUIRE(return_code(guest.execute(tpm_message(kTpmNoSessions, kGiveEventLog, Bytes(100)))) != 0);
    guest.check_launch(longest);
}

}  // namespace vtpm::launch_test
