// SPDX-License-Identifier: Apache-2.0
// What a new vTPM is made with, and that it stays so.
#include "base/big_endian.hpp"
#include "machine.hpp"
#include "manager/tpm/tpm_profile.hpp"

namespace vtpm {
namespace {

using commands::Command;

const std::string kBanks[] = {"sha1", "sha256", "sha384", "sha512"};
constexpr std::uint16_t kAlgorithms[] = {commands::kSha1, commands::kSha256, commands::kSha384, commands::kSha512};

struct Profiled : Machine {
    using Machine::Machine;

    // TPM2_GetCapability(TPM_CAP_PCRS): the banks that have all 24 PCRs; the others must have none.
    std::string banks() {
        const Bytes response = execute(Command(commands::kNoSessions, 0x17A).u32(5).u32(0).u32(16).build());
        REQUIRE(return_code(response) == 0);
        std::string text;
        std::size_t at = 10 + 1 + 4 + 4;
        for (std::size_t count = response.at(at - 1); count > 0; --count, at += 6) {
            REQUIRE(response.at(at + 2) == 3);
            const Bytes pcrs(response.begin() + static_cast<std::ptrdiff_t>(at + 3),
                             response.begin() + static_cast<std::ptrdiff_t>(at + 6));
            if (pcrs == Bytes(3, 0)) continue;
            REQUIRE(pcrs == Bytes(3, 0xff));
            const auto *const known = std::ranges::find(kAlgorithms, u16_at(response, at));
            REQUIRE(known != std::end(kAlgorithms));
            text += (text.empty() ? "" : ",") + kBanks[known - std::begin(kAlgorithms)];
        }
        REQUIRE(at == response.size());
        return text;
    }
    std::string shown() { return xen_vtpm({"--json", "show", uuid.to_string()}).out; }
    void create(const std::string &pcr_banks) {
        uuid = Uuid::random();
        REQUIRE(xen_vtpm({"create", uuid.to_string(), "--pcr-banks", pcr_banks}).status == 0);
    }
};

std::string configured(const std::string &banks) { return "[profile]\npcr_banks = [" + banks + "]\n"; }

}  // namespace

TEST_CASE("a new vTPM has the PCR banks of SHA-256 and SHA-384, for good") {
    Profiled machine;
    machine.power_on();
    REQUIRE(machine.banks() == "sha256,sha384");
    REQUIRE_THAT(machine.shown(), Contains("\"pcr_banks\": \"sha256,sha384\""));
    // Neither the guest nor its TPM2_Clear has another.
    const Bytes allocate = Command(commands::kSessions, 0x12B)
                               .u32(commands::kPlatform)
                               .password()
                               .u32(1)
                               .u16(commands::kSha1)
                               .u8(3)
                               .data(Bytes(3, 0xff))
                               .build();
    REQUIRE(return_code(machine.execute(allocate)) != 0);
    REQUIRE(return_code(machine.execute(Command(commands::kSessions, 0x126).u32(0x4000000A).password().build())) == 0);
    machine.power_off();
    machine.power_on();
    REQUIRE(machine.banks() == "sha256,sha384");
    // An undone change loads the TPM anew while it runs.
    machine.manager->end(SIGKILL);
    machine.manager.reset();
    REQUIRE(return_code(machine.execute(commands::nv_define(0x01500001, 8))) == 0x923);
    REQUIRE(machine.banks() == "sha256,sha384");
    machine.power_off();

    machine.place.more_config = configured("\"sha1\", \"sha512\"");
    machine.manager.emplace(machine.place);
    machine.power_on();
    REQUIRE(machine.banks() == "sha256,sha384");
    REQUIRE_THAT(machine.shown(), Contains("\"pcr_banks\": \"sha256,sha384\""));
    machine.power_off();
    machine.uuid = Uuid::random();
    machine.power_on();
    REQUIRE(machine.banks() == "sha1,sha512");
}

TEST_CASE("a new vTPM has the PCR banks that it was created with") {
    Profiled machine(GENERATE("", "ek_certificates = false\n"));
    for (const std::string pcr_banks : {"sha512", "sha1,sha256,sha384,sha512"}) {
        machine.create(pcr_banks);
        for (int i = 0; i < 2; ++i) {
            machine.power_on();
            REQUIRE(machine.banks() == pcr_banks);
            machine.power_off();
        }
    }
    // It was created, and is made after the configuration has changed.
    machine.create("sha1");
    machine.reconfigure(configured("\"sha512\""));
    machine.power_on();
    REQUIRE(machine.banks() == "sha1");
    for (const std::string wrong : {"sha256,", "md5", "sha256,sha256", "SHA256"})
        REQUIRE(machine.xen_vtpm({"create", "--pcr-banks", wrong}).status == 2);
    const Output on_12 = machine.xen_vtpm({"create", "--tpm-version", "1.2", "--pcr-banks", "sha1"});
    REQUIRE(on_12.status == 2);
    REQUIRE_THAT(on_12.err, Contains("1.2"));
}

TEST_CASE("a vTPM that was put back from a backup has the PCR banks that it had") {
    Profiled machine;
    machine.create("sha384");
    machine.power_on();
    machine.power_off();
    REQUIRE(machine.xen_vtpm({"export", machine.uuid.to_string(), machine.file("backup")}).status == 0);
    REQUIRE(machine.xen_vtpm({"delete", "--yes", machine.uuid.to_string()}).status == 0);
    REQUIRE(machine.xen_vtpm({"import", machine.file("backup")}).status == 0);
    REQUIRE_THAT(machine.shown(), Contains("\"pcr_banks\": \"sha384\""));
    machine.power_on();
    REQUIRE(machine.banks() == "sha384");
}

TEST_CASE("a new vTPM has the algorithms of the configuration, for good, where libtpms can do that") {
    if (!kAlgorithmsCanBeChosen) return;  // config_test.cpp: the manager does not start
    // All of libtpms 0.9 but SHA-1 and TDES, and no key that is too short.
    const std::string algorithms =
        "rsa,rsa-min-size=2048,hmac,aes,aes-min-size=128,mgf1,keyedhash,xor,sha256,sha384,sha512,null,rsassa,rsaes,"
        "rsapss,oaep,ecdsa,ecdh,ecdaa,sm2,ecschnorr,ecmqv,kdf1-sp800-56a,kdf2,kdf1-sp800-108,ecc,ecc-min-size=256,"
        "ecc-nist,symcipher,cmac,ctr,ofb,cbc,cfb,ecb";
    Profiled machine("profile.algorithms = \"" + algorithms + "\"\n");
    // TPM2_GetCapability(TPM_CAP_ALGS): the first from SHA-1 on is HMAC.
    const auto after_rsa = [&] {
        const Bytes told = machine.execute(Command(commands::kNoSessions, 0x17A).u32(0).u32(0x0004).u32(1).build());
        return u16_at(told, 19);
    };
    for (const std::string later : {"", "profile.algorithms = \"\"\n"}) {
        machine.power_on();
        REQUIRE(after_rsa() == 0x0005);
        REQUIRE(machine.banks() == "sha256,sha384");
        REQUIRE_THAT(machine.shown(), Contains(algorithms));
        machine.power_off();
        machine.reconfigure(later);
    }
    machine.power_on();
    REQUIRE(after_rsa() == 0x0005);
    machine.uuid = Uuid::random();
    machine.power_off();
    machine.power_on();
    REQUIRE(after_rsa() == 0x0004);
}

TEST_CASE("a TPM 1.2 takes no notice of the profile") {
    Profiled machine("default_tpm = \"1.2\"\n" + configured("\"sha512\""));
    machine.power_on();
    REQUIRE(commands::pcr_value(machine.execute(commands::tpm12_pcr_read(10)), 20) == Bytes(20, 0));
    REQUIRE_THAT(machine.shown(), Contains("\"pcr_banks\": \"\""));
}

TEST_CASE("the largest command and the largest response are what the page has room for") {
    constexpr std::size_t kLargest = TPMIF_PAGE_SIZE - TPMIF_DATA_OFFSET(0);
    STATIC_REQUIRE(kLargest == 4088);
    Machine machine;
    machine.power_on();
    // TPM_PT_MAX_COMMAND_SIZE and TPM_PT_MAX_RESPONSE_SIZE, which are neighbours.
    const Bytes told = machine.execute(Command(commands::kNoSessions, 0x17A).u32(6).u32(0x11E).u32(2).build());
    const BigEndian expected = BigEndian().u8(1).u32(6).u32(2).u32(0x11E).u32(kLargest).u32(0x11F).u32(kLargest);
    REQUIRE(Bytes(told.begin() + 10, told.end()) == expected.bytes());
    // TPM2_GetRandom with too much behind it: the TPM itself finds that (TPM_RC_SIZE).
    const auto padded = [](std::size_t size) {
        Bytes command = commands::get_random();
        command.resize(size);
        commands::set_size(command);
        return command;
    };
    REQUIRE(return_code(machine.execute(padded(kLargest))) == 0x095);
    // One byte more is not in the page; it is only said to be. TPM_RC_COMMAND_SIZE, of the engine.
    const Bytes larger = padded(kLargest + 1);
    std::ranges::copy(ByteView(larger).first(kLargest), machine.ring.page().begin() + TPMIF_DATA_OFFSET(0));
    machine.ring.write_header(kLargest + 1, TPMIF_STATE_SUBMIT);
    machine.ring.notify();
    REQUIRE(return_code(machine.ring.response()) == 0x142);
    REQUIRE(return_code(machine.execute(commands::get_random())) == 0);
}

}  // namespace vtpm
