// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/boot_chain.hpp"

#include <algorithm>

#include "expect.hpp"
#include "log_writer.hpp"
#include "manager/cli/policy_commands.hpp"

namespace vtpm::boot_chain_test {

namespace {

constexpr std::uint32_t kApplication = 0x80000003;
constexpr std::uint32_t kVariable = 0x80000001;
constexpr std::uint32_t kIpl = 13;
constexpr std::uint32_t kTagged = 6;

Bytes text(std::string_view bytes) { return {bytes.begin(), bytes.end()}; }

Bytes secure_boot(std::uint8_t on) {
    LogWriter event;
    event.raw(Bytes(16)).number(10, 8).number(1, 8);
    for (const char c : std::string_view("SecureBoot")) event.number(static_cast<std::uint8_t>(c), 2);
    return event.number(on, 1).bytes;
}

// What every firmware measures, and the loader that it starts.
LogWriter firmware(const char *loader, std::uint8_t secure = 1) {
    LogWriter log;
    log.spec_id().event(0, 8, 1, text("version")).event(7, kVariable, 1, secure_boot(secure));
    for (unsigned pcr = 0; pcr < 8; ++pcr) log.event(pcr, 4, 1, Bytes(4));
    return log.event(4, kApplication, 1, image(loader));
}

LogWriter with_grub(std::uint8_t secure = 1) {
    LogWriter log = firmware("\\EFI\\debian\\grubx64.efi", secure);
    log.event(8, kIpl, 1, text("grub_cmd: multiboot2 /boot/xen.gz")).event(9, kIpl, 1, text("/boot/grub/grub.cfg"));
    return log.event(9, kIpl, 1, text("/boot/xen.gz"));
}

LogWriter with_uki() {
    LogWriter log = firmware("\\EFI\\Linux\\debian.efi");
    log.event(11, kIpl, 1, text(std::string_view(".\0l\0i\0n\0u\0x\0\0\0", 14)));
    return log.event(9, kTagged, 1, text("12345678Linux initrd"));
}

// Of PCRs that something was measured into, but for `blank`.
PcrValues values(const char *pcrs, std::vector<unsigned> blank = {}) {
    PcrValues values;
    for (const unsigned pcr : expect(PcrSelection::parse(pcrs)).numbers())
        values[pcr] = Bytes(32, std::ranges::find(blank, pcr) == blank.end() ? 0x11 : 0);
    return values;
}

BootChain chain(const Bytes &log, const PcrValues &values) {
    return boot_chain(launch::read_tcg_log(log).value_or(launch::TcgLog()), values);
}

}  // namespace

TEST_CASE("what the chosen PCRs do not tell of a boot is warned of") {
    const struct {
        const char *boot;
        Bytes log;
        PcrValues values;
        std::vector<std::string> warnings;  // how each of them begins
    } rows[] = {
        {"GRUB, all of it", with_grub().bytes, values("sha256:0,2,4,7,8,9"), {}},
        {"GRUB, as it was by default",
         with_grub().bytes,
         values("sha256:0,2,4,7"),
         {"GRUB measured command lines into PCR 8", "GRUB measured Xen, kernel and initrd into PCR 9"}},
        {"GRUB, its files only", with_grub().bytes, values("sha256:9"), {"GRUB measured command lines into PCR 8"}},
        {"Secure Boot is off", with_grub(0).bytes, values("sha256:4,7,8,9"), {"Secure Boot is off: PCR 7"}},
        {"Secure Boot is off, and not asked for", with_grub(0).bytes, values("sha256:4,8,9"), {}},
        {"a UKI", with_uki().bytes, values("sha256:4,7,12,13", {12, 13}), {"nothing was measured into PCR 12, 13:"}},
        {"a UKI, without what it is given",
         with_uki().bytes,
         values("sha256:4,7"),
         {"a UKI can be given a command line", "a UKI can be given extensions"}},
        {"xen.efi",
         firmware("\\EFI\\xen\\xen.efi").bytes,
         values("sha256:4,7"),
         {"what \\EFI\\xen\\xen.efi read from a disk was measured by nobody"}},
        {"no firmware",
         {},
         values("sha256:0,2,4,7", {0, 2, 4, 7}),
         {"no firmware measured this boot", "nothing was measured into PCR 0, 2, 4, 7:"}},
        {"no firmware, and IMA",
         {},
         values("sha256:4,10", {4}),
         {"no firmware measured this boot", "nothing was measured into PCR 4:"}},
        {"no log", {}, values("sha256:4,7"), {}},
        {"a firmware that failed",
         LogWriter(with_grub()).event(5, 4, 1, text(std::string_view("\1\0\0\0", 4))).bytes,
         values("sha256:4,7,8,9"),
         {"PCR 5: the firmware says that it could not measure all"}},
        {"a PCR of a later launch",
         with_grub().bytes,
         {{8, Bytes(32, 1)}, {9, Bytes(32, 1)}, {17, Bytes(32, 0xff)}},
         {"nothing was measured into PCR 17:"}},
    };
    for (const auto &row : rows) {
        CAPTURE(row.boot);
        const BootChain told = chain(row.log, row.values);
        CAPTURE(told.warnings);
        REQUIRE(told.warnings.size() == row.warnings.size());
        for (std::size_t i = 0; i < row.warnings.size(); ++i)
            REQUIRE_THAT(told.warnings[i], Catch::StartsWith(row.warnings[i]));
    }
}

TEST_CASE("by default no part of a boot's chain is left out") {
    for (const Bytes &log : {with_grub().bytes, with_uki().bytes})
        REQUIRE(chain(log, values(cli::kUsualPcrs)).warnings.empty());
}

TEST_CASE("each PCR says what was measured into it") {
    const BootChain grub = chain(with_grub().bytes, values("sha256:0-15,23", {12}));
    REQUIRE(grub.covers.size() == 17);
    REQUIRE_THAT(grub.covers.at(4), Contains("\\EFI\\debian\\grubx64.efi"));
    REQUIRE_THAT(grub.covers.at(7), Contains("Secure Boot is on"));
    REQUIRE_THAT(grub.covers.at(9), Contains("the 2 files that GRUB read"));
    REQUIRE(grub.covers.at(12) == "nothing");
    REQUIRE_THAT(chain(with_uki().bytes, values("sha256:9")).covers.at(9), Contains("initrd and command line"));
    REQUIRE_THAT(chain(with_grub(0).bytes, values("sha256:7")).covers.at(7), Contains("OFF"));
}

}  // namespace vtpm::boot_chain_test
