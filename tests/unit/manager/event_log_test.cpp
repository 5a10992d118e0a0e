// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/event_log.hpp"

#include <fstream>

#include "expect.hpp"
#include "log_writer.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/crypto/encoding.hpp"
#include "temporary_directory.hpp"

namespace vtpm::event_log_test {

namespace {

Bytes text(std::string_view bytes) { return {bytes.begin(), bytes.end()}; }

PcrSelection pcrs(const char *selection) { return expect(PcrSelection::parse(selection)); }

Bytes log() {
    LogWriter log;
    log.spec_id();
    log.event(7, 0x80000001, 1, variable("SecureBoot"));
    log.event(4, 5, 2, text("Calling EFI Application from Boot Option"));
    log.event(0, 8, 3, text("version"));
    log.event(7, 3, 9, text("says something, measures nothing"));
    log.event(7, 4, 4, Bytes(4));
    log.event(7, 0x1234, 5, text("\x1b[2J\x01\x02\x03"));
    return log.bytes;
}

}  // namespace

TEST_CASE("the events of the chosen PCRs are told, in their order") {
    const auto events = expect(parse_event_log(log(), pcrs("sha256:4,7"))).events;
    REQUIRE(events.size() == 4);
    REQUIRE(events[0].pcr == 7);
    REQUIRE(events[0].type == "EV_EFI_VARIABLE_DRIVER_CONFIG");
    REQUIRE(events[0].text == "SecureBoot");
    REQUIRE(events[0].digest == Bytes(32, 1));
    REQUIRE(events[1].text == "Calling EFI Application from Boot Option");
    REQUIRE(events[2].type == "EV_SEPARATOR");
    REQUIRE(events[2].text.empty());
    REQUIRE(events[3].type == "event type 0x00001234");
    REQUIRE_THAT(events[3].text, !Contains("\x1b"));
}

TEST_CASE("what is tagged is told without its tag") {
    LogWriter tagged;
    tagged.number(0x8f3b22ec, 4).number(13, 4).text(std::string_view("Linux initrd\0", 13));
    LogWriter log;
    log.spec_id().event(9, 6, 1, tagged.bytes).event(9, 6, 1, text("short"));
    const auto events = expect(parse_event_log(log.bytes, pcrs("sha256:9"))).events;
    REQUIRE(events.at(0).text == "Linux initrd");
    REQUIRE(events.at(1).text.empty());
}

TEST_CASE("a text of a few characters in UTF-16 is told, and its NUL is none of them") {
    const std::string wide(".\0l\0i\0n\0u\0x\0\0\0", 14);
    LogWriter log;
    const auto events =
        expect(parse_event_log(log.spec_id().event(11, 13, 1, text(wide)).bytes, pcrs("sha256:11"))).events;
    REQUIRE(events.at(0).text == ".linux");
}

TEST_CASE("a program that the firmware started is told by its file, if it has one") {
    const Bytes grub = image("\\EFI\\debian\\grubx64.efi");
    const auto told = [](const Bytes &event) {
        LogWriter log;
        const auto events =
            expect(parse_event_log(log.spec_id().event(4, 0x80000003, 1, event).bytes, pcrs("sha256:4"))).events;
        return events.at(0).text;
    };
    REQUIRE(told(grub) == "\\EFI\\debian\\grubx64.efi");
    for (std::size_t size = 0; size < grub.size(); ++size) {
        (void)told(Bytes(grub.begin(), grub.begin() + static_cast<std::ptrdiff_t>(size)));
        Bytes changed = grub;
        for (const std::uint8_t value : Bytes{0x00, 0x01, 0xff}) {
            changed[size] = value;
            REQUIRE(told(changed).size() <= 120);
        }
    }
}

TEST_CASE("the digests are those of the chosen bank") {
    REQUIRE(expect(parse_event_log(log(), pcrs("sha1:7"))).events[0].digest == Bytes(20, 1));
    REQUIRE_THAT(expect_error(parse_event_log(log(), pcrs("sha384:7"))).text, Contains("no digests for sha384:7"));
}

TEST_CASE("replayed events are what a TPM makes of them") {
    // Three times PCR = SHA-256(PCR || digest), from zero; computed with another program.
    const auto chosen = pcrs("sha256:7");
    const auto values = expect(replayed(expect(parse_event_log(log(), chosen)), chosen));
    REQUIRE(to_hex(values.at(7)) == "752ae04f6e0131c4bcec73f62d8118467dec0c892fd905a13a1d1ab876825212");
    REQUIRE(expect(replayed({}, chosen)).at(7) == Bytes(32));
}

TEST_CASE("PCR 0, and no other, begins with the locality of the TPM's startup") {
    const auto chosen = pcrs("sha256:0,7");
    const std::string locality("StartupLocality\0\3", 17);
    LogWriter log;
    log.spec_id().event(0, 3, 0, text(locality));
    const BootLog began = expect(parse_event_log(log.bytes, chosen));
    REQUIRE(began.events.empty());
    Bytes begin(32);
    begin.back() = 3;
    REQUIRE(expect(replayed(began, chosen)) == PcrValues{{0, begin}, {7, Bytes(32)}});
    // SHA-256(31 times 00, 03, 32 times 08); computed with another program.
    log.event(0, 8, 8, text("version"));
    REQUIRE(to_hex(expect(replayed(expect(parse_event_log(log.bytes, chosen)), chosen)).at(0)) ==
            "244e0c9f3d9959e445fcc7cb6aa0c0f460c640ba588e7582defb30fa159b6416");
    LogWriter cut;
    cut.spec_id().event(0, 3, 0, text(locality.substr(0, 16))).event(0, 3, 0, text("StartupLocality"));
    REQUIRE(expect(parse_event_log(cut.bytes, chosen)).startup_locality == 0);
}

TEST_CASE("an event of other banks extends nothing in this one") {
    LogWriter log;
    log.spec_id();
    log.number(7, 4).number(4, 4).number(1, 4).number(TPM2_ALG_SHA1, 2).raw(Bytes(20, 1)).number(0, 4);
    const auto chosen = pcrs("sha256:7");
    REQUIRE(expect(replayed(expect(parse_event_log(log.bytes, chosen)), chosen)).at(7) == Bytes(32));
}

TEST_CASE("a log that ends early, or is none, is refused, whatever it claims") {
    const Bytes whole = log();
    std::size_t good = 0;
    for (std::size_t size = 0; size < whole.size(); ++size)
        if (parse_event_log(ByteView(whole).first(size), pcrs("sha256:7"))) ++good;
    REQUIRE(good == 6);  // between two events
    for (std::size_t i = 0; i < whole.size(); ++i)
        for (const std::uint8_t value : Bytes{0x00, 0x7f, 0xff}) {
            Bytes changed = whole;
            changed[i] = value;
            (void)parse_event_log(changed, pcrs("sha256:7"));
        }
}

TEST_CASE("a host's boot is what its kernel tells of it") {
    const TemporaryDirectory directory;
    const auto chosen = pcrs("sha256:4,7");
    const auto values = expect(replayed(expect(parse_event_log(log(), chosen)), chosen));
    std::filesystem::create_directories(directory / "pcr-sha256");
    std::ofstream(directory / "pcr-sha256/7") << fmt::format("{:02X}\n", fmt::join(values.at(7), ""));
    std::ofstream(directory / "pcr-sha256/4") << std::string(64, 'A') << "\n";
    const Bytes bytes = log();
    std::ofstream(directory / "log", std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    const MeasuredBoot boot = expect(measure_boot(chosen, {directory.path(), directory / "log"}));
    REQUIRE(boot.values.at(7) == values.at(7));
    REQUIRE(boot.values.at(4) == Bytes(32, 0xaa));
    REQUIRE(boot.events.size() == 4);
    REQUIRE(boot.unexplained == std::vector<unsigned>{4});

    const MeasuredBoot read = expect(parse_measured_boot(to_json(boot)));
    REQUIRE(read.values == boot.values);
    REQUIRE(read.pcrs.to_string() == "sha256:4,7");

    const MeasuredBoot silent = expect(measure_boot(chosen, {directory.path(), directory / "none"}));
    REQUIRE(silent.events.empty());
    REQUIRE(silent.unexplained.empty());
    REQUIRE(silent.chain.covers.size() == 2);
    REQUIRE(expect_error(measure_boot(pcrs("sha256:0"), {directory.path(), ""})).code == ErrorCode::kUnavailable);
}

}  // namespace vtpm::event_log_test
