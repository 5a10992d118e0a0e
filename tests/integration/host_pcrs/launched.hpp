// SPDX-License-Identifier: Apache-2.0
// Guests whose launches are recorded, and an approver's.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "manager/crypto/encoding.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"
#include "tests/integration/host_pcrs/machine.hpp"

namespace vtpm::launch_test {

using launch::Hash;

inline Bytes log_of(std::string_view line, std::size_t initrds = 0) {
    launch::MeasuredLaunch measured;
    measured.banks = launch::all_banks();
    measured.image.digests = expect(launch::digests_of(Bytes{'k'}, measured.banks));
    measured.command_line = line;
    launch::Events events = expect(launch::launch_events(measured));
    const launch::Event last = events.back();
    for (; initrds > 0; --initrds) events.push_back(last);
    return expect(launch::write_event_log({measured.banks, events}));
}

inline launch::Events events_of(const Bytes &log, const launch::Banks &banks) {
    return expect(launch::in_banks(expect(launch::read_event_log(log)), banks)).events;
}

struct Launched : MeasuringMachine {
    using MeasuringMachine::MeasuringMachine;

    // Records outlive the daemon from now on.
    void keep_records() {
        host->daemon_dies();
        host->launch_directory = directory / "launches";
        std::filesystem::create_directory(host->launch_directory);
        expect(host->start());
    }
    Result<> record(const Bytes &log) { return host->launches->record({device.domain, log}); }
    void runs() {
        host->domains.facts(device.domain).has_run = true;
        host->domains.facts(device.domain).paused = false;
    }
    // The guest goes on in another domain, for which something else was recorded.
    void save_and_restore() {
        host->domains.facts(device.domain).suspended = true;
        power_off();
        device = {9, 0};
        host->domains.build(device.domain, 2);
        expect(record(log_of("what was not started")));
        power_on();
    }
    // The log as its guest reads it.
    Bytes guest_log() {
        Bytes log;
        for (;;) {
            const Bytes answer = execute(read_log(log.size()));
            REQUIRE(return_code(answer) == 0);
            const std::size_t whole = big_endian(ByteView(answer).subspan(10, 4));
            REQUIRE(big_endian(ByteView(answer).subspan(14, 2)) == answer.size() - 16);
            log.insert(log.end(), answer.begin() + 16, answer.end());
            if (log.size() >= whole) return log;
        }
    }
    static Bytes read_log(std::size_t offset) {
        return tpm_message(kTpmNoSessions, kReadEventLog, BigEndian().number(offset, 4).bytes());
    }
    // PCRs and log are what these events make, in both banks that a vTPM has if nobody says otherwise.
    void check(const launch::Events &events_256, const launch::Events &events_384) {
        const auto expected = expect(launch::pcrs_after(events_256, Hash::kSha256));
        for (unsigned number = 0; number < 16; ++number) {
            CAPTURE(number);
            const auto value = expected.find(number);
            REQUIRE(pcr(number) == (value == expected.end() ? Bytes(32) : value->second));
        }
        const Bytes pcr4 = commands::pcr_value(execute(commands::pcr_read(4, commands::kSha384)), 48);
        const auto expected_384 = expect(launch::pcrs_after(events_384, Hash::kSha384));
        REQUIRE(pcr4 == (expected_384.contains(4) ? expected_384.at(4) : Bytes(48)));
    }
    void check_launch(const Bytes &log) {
        check(events_of(log, {Hash::kSha256}), events_of(log, {Hash::kSha384}));
        const launch::Banks banks{Hash::kSha256, Hash::kSha384};
        REQUIRE(guest_log() ==
                expect(launch::write_event_log(expect(launch::in_banks(expect(launch::read_event_log(log)), banks)))));
    }
    void check_unmeasured() {
        check(expect(launch::unmeasured_events({Hash::kSha256})), expect(launch::unmeasured_events({Hash::kSha384})));
    }
};

// A tenant's vTPM, for launches that his approver signed: of the kernel "k" with the command line "ro".
struct Approved : Launched {
    const std::string id = uuid.to_string();
    const std::string approver = key("approver");

    Approved() : Launched("launch = \"require\"\n") {
        must({"group", "create", "tenant", "--approver", public_half(approver)});
        must({"create", id, "--group", "tenant", "--launch", "require-approved"});
        install(approver, {}, "ro");
    }
    std::string must(std::vector<std::string> arguments) {
        const Output done = xen_vtpm(std::move(arguments));
        INFO(done.err);
        REQUIRE(done.status == 0);
        return done.out;
    }
    std::string key(const std::string &name) {
        REQUIRE(openssl({"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file(name)}).status == 0);
        return file(name);
    }
    static std::string public_half(const std::string &key) {
        REQUIRE(openssl({"pkey", "-in", key, "-pubout", "-out", key + ".pub"}).status == 0);
        return key + ".pub";
    }
    // As `launch predict --json` prints it.
    std::string values(const std::string &line) {
        const auto all = expect(launch::pcrs_after(events_of(log_of(line), {Hash::kSha256}), Hash::kSha256));
        nlohmann::json values;
        for (const unsigned number : {4U, 8U, 9U}) values[std::to_string(number)] = to_hex(all.at(number));
        return write(line + ".json", nlohmann::json{{"pcrs", "sha256:4,8,9"}, {"values", values}}.dump());
    }
    std::string signed_by(const std::string &key, const std::vector<std::string> &options, const std::string &line,
                          const std::string &group = "tenant") {
        std::vector<std::string> all{"launch", "sign", "--key", key, "--group", group};
        all.insert(all.end(), options.begin(), options.end());
        all.push_back(values(line));
        return write("signed-" + line, must(std::move(all)));
    }
    void install(const std::string &key, const std::vector<std::string> &options, const std::string &line) {
        must({"launch", "install", signed_by(key, options, line)});
    }
    std::string release(const std::string &key) {
        const auto shown = nlohmann::json::parse(must({"--json", "show", id}));
        return write("release", must({"launch", "release", "--key", key, "--binding",
                                      shown.at("launch_binding").get<std::string>(), id}));
    }
    // Its guest is started with another command line.
    void refuses(const std::string &line, const std::string &why) {
        expect(record(log_of(line)));
        host->attach(device, uuid);
        REQUIRE(host->reaches(device, "none"));
        REQUIRE_THAT(host->reason(device), Contains(why));
        host->remove(device);
        host->run_for(std::chrono::milliseconds(50));
    }
    void starts(const std::string &line) {
        expect(record(log_of(line)));
        power_on();
        check_launch(log_of(line));
        power_off();
    }
};

}  // namespace vtpm::launch_test
