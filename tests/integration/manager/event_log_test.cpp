// SPDX-License-Identifier: Apache-2.0
// Refusals that name what the firmware's log has of the PCRs that differ.
#include <sys/wait.h>

#include <csignal>
#include <fstream>

#include "manager/hardware_tpm/esys.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/store/database.hpp"
#include "manager_process.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/log_writer.hpp"
#include "tests/unit/manager/openssl_keys.hpp"

namespace vtpm::event_log_test {

namespace {

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    PrivateBus bus{directory / "bus"};
    ManagerPlace place{directory, swtpm.tcti(), bus.address(), "seal_pcrs = \"sha256:4,7\"\n", directory.path()};

    // What the firmware started. The TPM is not asked: whether the log says the truth is not the manager's to know.
    void write_log(std::initializer_list<const char *> files) const {
        LogWriter log;
        log.spec_id();
        std::uint8_t digest = 0;
        for (const char *file : files) {
            digest = static_cast<std::uint8_t>(digest + static_cast<std::uint8_t>(file[0]));
            log.event(4, 0x80000003, digest, image(file));
        }
        std::ofstream(directory / "event-log", std::ios::binary)
            .write(reinterpret_cast<const char *>(log.bytes.data()), static_cast<std::streamsize>(log.bytes.size()));
    }
    void boot_something_else() const {
        const Esys esys = expect(connect_tpm(swtpm.tcti()));
        TPML_DIGEST_VALUES digests{1, {{TPM2_ALG_SHA256, {}}}};
        expect(checked("TPM2_PCR_Extend", [&] {
            return Esys_PCR_Extend(esys.get(), ESYS_TR_PCR4, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests);
        }));
    }
    [[nodiscard]] std::string refusal() const { return ManagerProcess(place).wait_for_status("refusing"); }
    [[nodiscard]] std::string write(const char *name, const std::string &text) const {
        std::ofstream(directory / name) << text;
        return directory / name;
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a refused boot is told by the event that was not measured when the key was sealed") {
    write_log({"\\EFI\\shimx64.efi", "\\EFI\\grubx64.efi"});
    REQUIRE(WIFEXITED(ManagerProcess(place).end(SIGTERM)));
    boot_something_else();
    write_log({"\\EFI\\shimx64.efi", "Other\\grubx64.efi"});
    REQUIRE_THAT(refusal(), Contains("PCR 4 was 0000") && !Contains("PCR 7 ") &&
                                Contains("PCR 4: event 2, EV_EFI_BOOT_SERVICES_APPLICATION 'Other\\grubx64.efi', was "
                                         "not measured when the key was sealed"));

    SECTION("without a log there are the values alone") {
        std::filesystem::remove(directory / "event-log");
        REQUIRE_THAT(refusal(), Contains("PCR 4 was 0000") && !Contains("event"));
    }
    SECTION("with something else in its place, too") {
        std::ofstream(directory / "event-log") << "none";  // as the unit has it where there is no log
        REQUIRE_THAT(refusal(), Contains("PCR 4 was 0000") && !Contains("event"));
    }
    SECTION("a record that somebody changed does no harm") {
        expect(expect(Database::open(place.state_directory() + "/store.db"))
                   .script("UPDATE groups SET pcr_events = zeroblob(1000)"));
        REQUIRE_THAT(refusal(), Contains("the firmware's log has 2 of its events, at last EV_EFI_BOOT_SERVICES"));
    }
}

TEST_CASE_METHOD(Fixture, "a boot that no approver approved is told by what was measured last") {
    write_log({"\\EFI\\shimx64.efi", "\\EFI\\grubx64.efi"});
    place.more_config = "seal_pcrs = \"\"\n";
    const std::string values =
        write("values.json", R"({"pcrs": "sha256:4", "values": {"4": ")" + std::string(64, '0') + R"("}})");
    const std::string key = write("approver.pem", private_pem(p256()));
    const std::string approver = write("approver.pub", public_pem(p256()));
    const std::string policy =
        write("policy.json",
              cli(bus.address(), {"policy", "sign", "--key", key, "--group", "tenant", "--measurements", values}).out);
    {
        ManagerProcess manager(place);
        REQUIRE(cli(bus.address(), {"group", "create", "tenant", "--approver", approver}).status == 0);
        REQUIRE(cli(bus.address(), {"policy", "install", policy}).status == 0);
        manager.end(SIGTERM);
    }
    boot_something_else();
    const ManagerProcess manager(place);
    REQUIRE_THAT(cli(bus.address(), {"group", "show", "tenant"}).out,
                 Contains("PCR 4 approved 0000") &&
                     Contains("PCR 4: the firmware's log has 2 of its events, at last "
                              "EV_EFI_BOOT_SERVICES_APPLICATION '\\EFI\\grubx64.efi' (xen-vtpm policy measure"));
}

}  // namespace vtpm::event_log_test
