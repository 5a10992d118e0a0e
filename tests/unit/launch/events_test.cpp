// SPDX-License-Identifier: Apache-2.0
#include "launch/events.hpp"

#include <algorithm>

#include "hex.hpp"
#include "launch/pcrs.hpp"
#include "pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::events_test {
using namespace launch;

namespace {

struct Row {
    unsigned pcr;
    EventType type;
    Bytes measured;      // what the digest is over
    std::string data{};  // of the log, if the test knows it
};

Bytes zeros() { return Bytes(4); }
std::string wide(std::string_view text) {
    std::string out;
    for (const char c : text) out += {c, '\0'};
    return out + std::string(2, '\0');
}
Bytes bytes(std::string_view text) { return test_text(text); }

MeasuredLaunch launch_of(const LaunchFiles &files, const Banks &banks = all_banks()) {
    return expect(measure(files, expect(read_boot_image(files.image)), banks));
}

void check(const Events &events, const std::vector<Row> &rows) {
    REQUIRE(events.size() == rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        CAPTURE(i);
        REQUIRE(events[i].pcr == rows[i].pcr);
        REQUIRE(events[i].type == rows[i].type);
        REQUIRE(events[i].digests == expect(digests_of(rows[i].measured, all_banks())));
        if (!rows[i].data.empty()) REQUIRE(std::string(events[i].data.begin(), events[i].data.end()) == rows[i].data);
    }
}

// What is common to the launches.
std::vector<Row> beginning() {
    const Bytes version = bytes(wide("xen-vtpm launch 1"));
    std::vector<Row> rows{{0, EventType::kCrtmVersion, version, wide("xen-vtpm launch 1")},
                          {4, EventType::kEfiAction, bytes("Calling EFI Application from Boot Option")}};
    for (unsigned pcr = 0; pcr < 8; ++pcr) rows.push_back({pcr, EventType::kSeparator, zeros(), std::string(4, '\0')});
    return rows;
}

Bytes hashed_of(const Bytes &file) {
    Bytes hashed;
    for (const Extent &extent : expect(read_boot_image(file)).hashed)
        hashed.insert(hashed.end(), file.begin() + static_cast<std::ptrdiff_t>(extent.offset),
                      file.begin() + static_cast<std::ptrdiff_t>(extent.offset + extent.size));
    return hashed;
}

}  // namespace

TEST_CASE("a kernel with an initrd is measured as firmware, GRUB and Linux do") {
    const Bytes kernel = test_kernel();
    const Bytes initrd(1000, 7);
    auto rows = beginning();
    rows.push_back({4, EventType::kEfiApplication, hashed_of(kernel)});
    rows.push_back({11, EventType::kIpl, bytes("xen-vtpm: no UKI"), wide("xen-vtpm: no UKI")});
    rows.push_back(
        {8, EventType::kIpl, bytes("root=/dev/xvda ro"), std::string("kernel_cmdline: root=/dev/xvda ro\0", 34)});
    rows.push_back({9, EventType::kEventTag, bytes(wide("root=/dev/xvda ro")),
                    std::string("\xed\x22\x3b\x8f\x1a\0\0\0LOADED_IMAGE::LoadOptions\0", 34)});
    rows.push_back({9, EventType::kEventTag, initrd, std::string("\xec\x22\x3b\x8f\x0d\0\0\0Linux initrd\0", 21)});
    check(expect(launch_events(launch_of({kernel, ByteView(initrd), "root=/dev/xvda ro"}))), rows);
}

TEST_CASE("a kernel with nothing else has no initrd's event") {
    const Bytes kernel = test_text("an ELF kernel");
    auto rows = beginning();
    rows.push_back({4, EventType::kEfiApplication, kernel});
    rows.push_back({11, EventType::kIpl, bytes("xen-vtpm: no UKI")});
    rows.push_back({8, EventType::kIpl, {}});
    rows.push_back({9, EventType::kEventTag, bytes(wide(""))});
    check(expect(launch_events(launch_of({kernel, std::nullopt}))), rows);
}

TEST_CASE("a UKI is measured as systemd-stub does, and then as its kernel") {
    const Bytes file = test_uki();
    auto rows = beginning();
    rows.push_back({4, EventType::kEfiApplication, hashed_of(file)});
    for (const char *name : {".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"}) {
        const auto parts = uki_parts();
        const auto section = std::ranges::find(parts, std::string_view(name), &TestSection::name);
        Bytes with_nul = bytes(name);
        with_nul.push_back(0);
        rows.push_back({11, EventType::kIpl, with_nul, wide(name)});
        rows.push_back({11, EventType::kIpl, section->content, wide(name)});
    }
    rows.push_back({4, EventType::kEfiApplication, hashed_of(test_kernel())});
    rows.push_back({8, EventType::kIpl, bytes("root=/dev/xvda1 ro")});
    rows.push_back({9, EventType::kEventTag, bytes(wide("root=/dev/xvda1 ro"))});
    const Uki uki = *expect(read_boot_image(file)).uki;
    const UkiInitrd initrd = expect(initrd_of(file, uki));
    Bytes all(1001, 0x44);
    all.resize(1004);
    all.insert(all.end(), initrd.archives.begin(), initrd.archives.end());
    rows.push_back({9, EventType::kEventTag, all});
    check(expect(launch_events(launch_of({file, std::nullopt}))), rows);
}

TEST_CASE("another command line than the UKI's own is in PCR 12; its own is not") {
    const Bytes file = test_uki();
    const auto in_12 = [&](std::string_view line) {
        Events events = expect(launch_events(launch_of({file, std::nullopt, line})));
        std::erase_if(events, [](const Event &event) { return event.pcr != 12; });
        return events;
    };
    REQUIRE(in_12("").empty());
    REQUIRE(in_12("root=/dev/xvda1 ro").empty());
    const Events events = in_12("single");
    REQUIRE(events.size() == 1);
    REQUIRE(events[0].type == EventType::kIpl);
    REQUIRE(events[0].digests == expect(digests_of(bytes(wide("single")), all_banks())));
}

TEST_CASE("space before a command line is not measured: libxl skips it") {
    const Bytes kernel = test_kernel();
    const auto events = [&](std::string_view line) {
        return expect(launch_events(launch_of({kernel, std::nullopt, line})));
    };
    REQUIRE(events(" \t ro ") == events("ro "));
    REQUIRE(events("  ") == events(""));
    REQUIRE(events("ro ") != events("ro"));
}

TEST_CASE("a command line that is no text, or too long, is refused") {
    const Bytes kernel = test_kernel();
    REQUIRE_THAT(expect_error(launch_events(launch_of({kernel, std::nullopt, "a=\xff"}))).text,
                 Contains("command line: it is no UTF-8"));
    const std::string longer(1024, 'a');
    REQUIRE_THAT(expect_error(launch_events(launch_of({kernel, std::nullopt, longer}))).text,
                 Contains("1024 bytes") && Contains("would get 1023"));
    REQUIRE(launch_events(launch_of({kernel, std::nullopt, longer.substr(1)})));
}

TEST_CASE("a launch that was not measured ends in errors and markers") {
    std::vector<Row> rows{{0, EventType::kCrtmVersion, bytes(wide("xen-vtpm launch 1"))}};
    for (unsigned pcr = 0; pcr < 8; ++pcr) rows.push_back({pcr, EventType::kSeparator, {1, 0, 0, 0}});
    for (const unsigned pcr : {8U, 9U, 11U, 12U, 13U, 14U})
        rows.push_back({pcr, EventType::kIpl, bytes("xen-vtpm: launch not measured")});
    check(expect(unmeasured_events(all_banks())), rows);
}

TEST_CASE("no PCR of a measured launch begins as one of an unmeasured launch does") {
    const Bytes file = test_uki();
    const Events measured = expect(launch_events(launch_of({file, std::nullopt, "single"})));
    const Events unmeasured = expect(unmeasured_events(all_banks()));
    for (unsigned pcr = 0; pcr < 16; ++pcr) {
        const auto of_pcr = [pcr](const Events &events) {
            std::vector<Digests> digests;
            for (const Event &event : events)
                if (event.pcr == pcr && event.type != EventType::kCrtmVersion) digests.push_back(event.digests);
            return digests;
        };
        const auto good = of_pcr(measured);
        const auto bad = of_pcr(unmeasured);
        CAPTURE(pcr);
        if (pcr != 15 && pcr != 10) REQUIRE_FALSE(bad.empty());
        if (!good.empty()) REQUIRE(good.front() != bad.front());
    }
}

TEST_CASE("extends make PCR values as a TPM does") {
    // SHA-256(zeros || digest), as tpm2_eventlog 5.4 tells of a firmware's separator.
    Events events;
    events.push_back({2, EventType::kSeparator, expect(digests_of(zeros(), all_banks())), zeros()});
    const PcrBank bank = expect(pcrs_after(events, Hash::kSha256));
    REQUIRE(hex(bank.at(2)) == "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969");
    REQUIRE(expect(pcrs_after(events, Hash::kSha512)).at(2).size() == 64);
    REQUIRE_FALSE(pcrs_after({{2, EventType::kIpl, {}, {}}}, Hash::kSha1));
    REQUIRE(extends_of({{0, EventType::kNoAction, {}, {}}}).empty());
}

}  // namespace vtpm::events_test
