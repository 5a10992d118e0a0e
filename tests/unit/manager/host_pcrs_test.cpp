// SPDX-License-Identifier: Apache-2.0
// What becomes of them in a TPM: power_on_test.cpp, tests/integration/host_pcrs.
#include "manager/vtpm/host_pcrs.hpp"

#include "expect.hpp"
#include "manager/crypto/encoding.hpp"
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
    Result<PcrValues> measure(HostPcrs &host) {
        std::optional<Result<PcrValues>> answer;
        host.measure([&](const Result<PcrValues> &values) { answer = values; });
        while (!answer) manager.work();
        return *answer;
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "the host's PCRs are read anew each time, and what cannot be read is told with the remedy") {
    const PcrValues before = expect(measure(chosen));
    REQUIRE(before == expect(manager.keys.read(expect(PcrSelection::parse("sha256:0-7")))));
    tpm.boot = 2;
    REQUIRE(expect(measure(chosen)) != before);

    HostPcrs absent = host_pcrs("sha512:7");
    REQUIRE(expect_error(measure(absent)).code == ErrorCode::kRefused);
    tpm.away = true;
    const Error away = expect_error(measure(chosen));
    REQUIRE(away.code == ErrorCode::kUnavailable);
    REQUIRE_THAT(away.text, Contains("host_pcrs") && Contains("no TPM") && Contains("power its guest on again"));
}

TEST_CASE_METHOD(Fixture, "one reading serves all who asked before it, and nobody who asked after it began") {
    std::vector<PcrValues> first;
    std::vector<PcrValues> second;
    const auto into = [](std::vector<PcrValues> &answers) {
        return [&answers](const Result<PcrValues> &values) { answers.push_back(expect(values)); };
    };
    const unsigned before = tpm.readings;
    for (int i = 0; i < 100; ++i) chosen.measure(into(first));
    // A job that comes after the reading, and before its callbacks.
    manager.worker->run(
        [&] {
            tpm.boot = 2;
            chosen.measure(into(second));
        },
        [] {});
    while (second.empty()) manager.work();
    REQUIRE(first == std::vector<PcrValues>(100, first.front()));
    REQUIRE(second.front() != first.front());
    REQUIRE(tpm.readings == before + 2);
}

}  // namespace vtpm::host_pcrs_test
