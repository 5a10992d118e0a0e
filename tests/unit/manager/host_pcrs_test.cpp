// SPDX-License-Identifier: Apache-2.0
// What the commands do to a TPM: tests/integration/host_pcrs.
#include "manager/vtpm/host_pcrs.hpp"

#include "expect.hpp"
#include "manager/policy/encoding.hpp"
#include "manager_in_process.hpp"
#include "temporary_directory.hpp"

namespace vtpm::host_pcrs_test {

namespace {

HostPcrs host_pcrs(const GroupKeys &keys, const char *pcrs) { return {keys, expect(PcrSelection::parse(pcrs))}; }

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

TEST_CASE("the host's PCRs are read anew each time, and what cannot be read is told with the remedy") {
    const TemporaryDirectory directory;
    FakeTpm tpm;
    ManagerInProcess manager(directory.path(), tpm);
    expect(manager.keys.unlock());
    const HostPcrs chosen = host_pcrs(manager.keys, "sha256:0-7");
    REQUIRE(expect(chosen.measure(TpmVersion::k20)) ==
            host_measurements(TpmVersion::k20, expect(manager.keys.read(expect(PcrSelection::parse("sha256:0-7"))))));
    const Bytes before = expect(chosen.measure(TpmVersion::k12));
    tpm.boot = 2;
    REQUIRE(expect(chosen.measure(TpmVersion::k12)) != before);

    REQUIRE(expect_error(host_pcrs(manager.keys, "sha512:7").measure(TpmVersion::k20)).code == ErrorCode::kRefused);
    tpm.away = true;
    const Error away = expect_error(chosen.measure(TpmVersion::k20));
    REQUIRE(away.code == ErrorCode::kUnavailable);
    REQUIRE_THAT(away.text, Contains("host_pcrs") && Contains("no TPM") && Contains("power its guest on again"));
}

}  // namespace vtpm::host_pcrs_test
