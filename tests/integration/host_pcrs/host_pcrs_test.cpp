// SPDX-License-Identifier: Apache-2.0
// What a guest's vTPM shows of its host.
#include <openssl/evp.h>

#include <csignal>
#include "tests/integration/host_pcrs/machine.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kIndex = 0x01500001;

Bytes hash(const EVP_MD *algorithm, const Bytes &data) {
    Bytes digest(static_cast<std::size_t>(EVP_MD_get_size(algorithm)));
    REQUIRE(EVP_Digest(data.data(), data.size(), digest.data(), nullptr, algorithm, nullptr) == 1);
    return digest;
}

// As a verifier computes it: H(zeros || H(value)).
Bytes shown(const Bytes &value, const EVP_MD *algorithm = EVP_sha256()) {
    const Bytes event = hash(algorithm, value);
    Bytes extended(event.size(), 0);
    extended.insert(extended.end(), event.begin(), event.end());
    return hash(algorithm, extended);
}

}  // namespace

TEST_CASE("every bank of a guest's TPM 2.0 shows the chosen PCRs of its host, as they are at each power-on") {
    MeasuringMachine machine(
        "launch = \"off\"\nhost_pcrs = \"0,4-5\"\nprofile.pcr_banks = [\"sha1\", \"sha256\", \"sha384\", "
        "\"sha512\"]\n");
    machine.measure(ESYS_TR_PCR4, "a boot loader");
    const Bytes before = machine.of_the_host("sha256:4");
    REQUIRE(before != Bytes(32, 0));
    for (int i = 0; i < 2; ++i) {
        machine.power_on();
        for (const auto &[bank, algorithm] : {std::pair{commands::kSha1, EVP_sha1()},
                                              {commands::kSha256, EVP_sha256()},
                                              {commands::kSha384, EVP_sha384()},
                                              {commands::kSha512, EVP_sha512()}}) {
            CAPTURE(bank);
            const Bytes expected = shown(before, algorithm);
            REQUIRE(commands::pcr_value(machine.execute(commands::pcr_read(4, bank)), expected.size()) == expected);
        }
        for (const unsigned pcr : {0U, 5U}) REQUIRE(machine.pcr(pcr) == shown(Bytes(32, 0)));
        for (const unsigned pcr : {1U, 6U, 7U, 15U}) REQUIRE(machine.pcr(pcr) == Bytes(32, 0));
        machine.power_off();
    }
    machine.measure(ESYS_TR_PCR4, "another kernel, by kexec");
    machine.power_on();
    REQUIRE(machine.pcr(4) != shown(before));
    REQUIRE(machine.pcr(4) == shown(machine.of_the_host("sha256:4")));
}

TEST_CASE("a guest's TPM 2.0 shows them in the PCR banks that it has, though the host's bank is another") {
    MeasuringMachine machine("launch = \"off\"\nhost_pcrs = \"sha256:7\"\nprofile.pcr_banks = [\"sha384\"]\n");
    machine.measure(ESYS_TR_PCR7, "Secure Boot");
    const Bytes expected = shown(machine.of_the_host("sha256:7"), EVP_sha384());
    for (int i = 0; i < 2; ++i) {
        machine.power_on();
        const auto read = [&](std::uint16_t bank) { return machine.execute(commands::pcr_read(7, bank)); };
        REQUIRE(commands::pcr_value(read(commands::kSha384), 48) == expected);
        REQUIRE(read(commands::kSha256).size() == 10 + 4 + 4 + 6 + 4);  // no digest
        machine.power_off();
    }
}

TEST_CASE("a guest's TPM 1.2 shows them as well") {
    MeasuringMachine machine("launch = \"off\"\nhost_pcrs = \"sha1:7\"\ndefault_tpm = \"1.2\"\n");
    machine.measure(ESYS_TR_PCR7, "Secure Boot");
    const Bytes expected = shown(machine.of_the_host("sha1:7"), EVP_sha1());
    for (int i = 0; i < 2; ++i) {
        machine.power_on();
        const Bytes read = machine.execute(commands::tpm12_pcr_read(7));
        REQUIRE(commands::pcr_value(read, 20) == expected);
        machine.power_off();
    }
}

TEST_CASE("a manager that is restarted, and whose TPM is then away, changes nothing in a guest that runs") {
    MeasuringMachine machine("launch = \"off\"\nhost_pcrs = \"0-7\"\n");
    machine.power_on();
    REQUIRE(return_code(machine.execute(commands::pcr_extend(0, 1))) == 0);
    const Bytes before = machine.pcr(0);
    machine.manager->end(SIGKILL);
    machine.manager.reset();
    machine.manager.emplace(machine.place);
    machine.tpm.reset();
    Bytes defined;
    REQUIRE(machine.host->run_until([&] {
        defined = machine.execute(commands::nv_define(kIndex, 1));
        return return_code(defined) != 0x923;  // TPM_RC_NV_UNAVAILABLE
    }));
    REQUIRE(return_code(defined) == 0);
    REQUIRE(machine.pcr(0) == before);
}

TEST_CASE("a guest is not powered on without the host's PCRs, and is again when they can be read") {
    MeasuringMachine machine("launch = \"off\"\nhost_pcrs = \"0-7\"\n");
    machine.power_on();
    machine.power_off();
    machine.tpm.reset();
    REQUIRE_FALSE(machine.host->comes_up(machine.device, machine.uuid, machine.ring));
    REQUIRE_THAT(machine.host->reason(machine.device), Contains("host_pcrs") && Contains("power its guest on again"));
    machine.power_off();
    machine.tpm.emplace(machine.directory / "hardware-tpm");
    machine.power_on();
    REQUIRE(machine.pcr(7) == shown(Bytes(32, 0)));
}

TEST_CASE("an engine asks once, and one that goes before the answer harms nobody") {
    MeasuringMachine machine("launch = \"off\"\nhost_pcrs = \"0-7\"\n");
    BackendEnd backend(machine.place.socket());
    ::kill(machine.tpm->pid(), SIGSTOP);
    {
        EngineEnd engine = backend.open(machine.uuid);
        engine.send(PowerOn{});
        ::usleep(100'000);
    }
    ::usleep(100'000);
    ::kill(machine.tpm->pid(), SIGCONT);
    EngineEnd engine = backend.open(machine.uuid);
    engine.send(PowerOn{});
    const auto answer = engine.receive<PowerOnCommands>();
    REQUIRE(answer.code == ErrorCode::kNone);
    REQUIRE(expect(split_commands(answer.commands)).size() == 1 + 8);
    engine.send(PowerOn{});
    REQUIRE(engine.closed());
}

}  // namespace vtpm
