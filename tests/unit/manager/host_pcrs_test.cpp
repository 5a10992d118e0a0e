// SPDX-License-Identifier: Apache-2.0
// What the commands do to a TPM: tests/integration/host_pcrs.
#include "manager/vtpm/host_pcrs.hpp"

#include "expect.hpp"
#include "manager/policy/encoding.hpp"
#include "manager_in_process.hpp"
#include "temporary_directory.hpp"

namespace vtpm::host_pcrs_test {

namespace {

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    ManagerInProcess manager{directory.path(), tpm};
    HostPcrs chosen = host_pcrs("sha256:0-7");

    Fixture() { expect(manager.keys.unlock()); }
    HostPcrs host_pcrs(const char *pcrs) {
        return {manager.loop, *manager.worker, manager.keys, expect(PcrSelection::parse(pcrs))};
    }
    Result<Bytes> measure(HostPcrs &host, TpmVersion version) {
        std::optional<Result<Bytes>> answer;
        host.measure(version, [&](const Result<Bytes> &commands) { answer = commands; });
        while (!answer) manager.work();
        return *answer;
    }
};

}  // namespace

TEST_CASE("a host's PCR is an event of a TPM 2.0, and extends a TPM 1.2 by its SHA-1") {
    const PcrValues values{{4, Bytes{'a', 'b', 'c'}}, {15, Bytes(32, 0xff)}};
    REQUIRE(to_hex(host_measurements(TpmVersion::k20, values)) ==
            "8002000000200000013c0000000400000009400000090000000000"
            "0003616263"
            "80020000003d0000013c0000000f00000009400000090000000000"
            "0020" +
                std::string(64, 'f'));
    REQUIRE(to_hex(host_measurements(TpmVersion::k12, {{4, Bytes{'a', 'b', 'c'}}})) ==
            "00c1000000220000001400000004a9993e364706816aba3e25717850c26c9cd0d89d");  // FIPS 180, example
    REQUIRE(host_measurements(TpmVersion::k20, {}).empty());
}

TEST_CASE_METHOD(Fixture, "the host's PCRs are read anew each time, and what cannot be read is told with the remedy") {
    REQUIRE(expect(measure(chosen, TpmVersion::k20)) ==
            host_measurements(TpmVersion::k20, expect(manager.keys.read(expect(PcrSelection::parse("sha256:0-7"))))));
    const Bytes before = expect(measure(chosen, TpmVersion::k12));
    tpm.boot = 2;
    REQUIRE(expect(measure(chosen, TpmVersion::k12)) != before);

    HostPcrs absent = host_pcrs("sha512:7");
    REQUIRE(expect_error(measure(absent, TpmVersion::k20)).code == ErrorCode::kRefused);
    tpm.away = true;
    const Error away = expect_error(measure(chosen, TpmVersion::k20));
    REQUIRE(away.code == ErrorCode::kUnavailable);
    REQUIRE_THAT(away.text, Contains("host_pcrs") && Contains("no TPM") && Contains("power its guest on again"));
}

TEST_CASE_METHOD(Fixture, "one reading serves all who asked before it, and nobody who asked after it began") {
    std::vector<Bytes> first;
    std::vector<Bytes> second;
    const auto into = [](std::vector<Bytes> &answers) {
        return [&answers](const Result<Bytes> &commands) { answers.push_back(expect(commands)); };
    };
    const unsigned before = tpm.readings;
    for (int i = 0; i < 100; ++i) chosen.measure(TpmVersion::k20, into(first));
    // A job that comes after the reading, and before its callbacks.
    manager.worker->run(
        [&] {
            tpm.boot = 2;
            chosen.measure(TpmVersion::k20, into(second));
        },
        [] {});
    while (second.empty()) manager.work();
    REQUIRE(first == std::vector<Bytes>(100, first.front()));
    REQUIRE(second.front() != first.front());
    REQUIRE(tpm.readings == before + 2);
}

}  // namespace vtpm::host_pcrs_test
