// SPDX-License-Identifier: Apache-2.0
// What an independent firmware logged (golden/README.md), event by event.
#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/unique_fd.hpp"
#include "hex.hpp"
#include "launch/events.hpp"
#include "launch/mapped_file.hpp"
#include "launch/pcrs.hpp"
#include "launch/tcg_log.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::golden_test {
using namespace launch;

namespace {

constexpr const char *kKernel = "5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31";
constexpr std::uint32_t kSeparatorType = 4;
constexpr const char *kUki = "d14a9b0e67a8e494ef62925a2a0ecc7dc419956c1c6d3a14c533e009212029c3";

Bytes golden(const char *name) {
    std::ifstream file(std::string(VTPM_GOLDEN) + "/" + name, std::ios::binary);
    REQUIRE(file);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return {text.begin(), text.end()};
}

struct Seen {
    unsigned pcr;
    std::uint32_t type;
    std::string digest;
    std::string data;  // empty for images: where they were loaded
    bool operator==(const Seen &) const = default;
};

Seen seen(unsigned pcr, std::uint32_t type, ByteView digest, ByteView data) {
    const bool image = type == static_cast<std::uint32_t>(EventType::kEfiApplication);
    return {pcr, type, hex(digest), image ? "" : hex(data)};
}

// From the last time on that the firmware started something: before that it went through its boot options.
std::vector<Seen> last_launch(const char *name, const std::vector<unsigned> &pcrs) {
    const Bytes bytes = golden(name);
    const auto log = read_tcg_log(bytes);
    REQUIRE(log);
    std::vector<Seen> all;
    for (const LogEvent &event : log->events)
        if (std::ranges::find(pcrs, event.pcr) != pcrs.end())
            all.push_back(seen(event.pcr, event.type, event.digests.at(0).value, event.data));
    const auto calling = hex(bytes_of("Calling EFI Application from Boot Option"));
    const auto last = std::find_if(all.rbegin(), all.rend(), [&](const Seen &s) { return s.data == calling; });
    all.erase(all.begin(), last == all.rend() ? all.begin() : std::prev(last.base()));
    return all;
}

std::vector<Seen> ours(const Events &events, const std::vector<unsigned> &pcrs) {
    std::vector<Seen> all;
    for (const Event &event : events)
        if (std::ranges::find(pcrs, event.pcr) != pcrs.end() && event.type != EventType::kSeparator)
            all.push_back(
                seen(event.pcr, static_cast<std::uint32_t>(event.type), event.digests.at(Hash::kSha256), event.data));
    return all;
}

Digests sha256(std::string_view digest) { return {{Hash::kSha256, from_hex(digest)}}; }

// A launch whose files are known by their digests. The command line of the firmware's is not: its event is taken over.
MeasuredLaunch recorded(const char *image) { return {{Hash::kSha256}, {sha256(image), 1}, "", {}, {}}; }

void take_over_load_options(std::vector<Seen> &events, const std::vector<Seen> &from) {
    const auto is_options = [](const Seen &s) { return s.pcr == 9 && s.data.starts_with("ed223b8f"); };
    const auto ours = std::ranges::find_if(events, is_options);
    const auto theirs = std::ranges::find_if(from, is_options);
    REQUIRE(ours != events.end());
    REQUIRE(theirs != from.end());
    REQUIRE(ours->data == theirs->data);
    ours->digest = theirs->digest;
}

}  // namespace

TEST_CASE("a kernel's events in PCRs 4 and 9 are those of an EFI application") {
    const auto theirs = last_launch("log-efi-application.bin", {4, 9});
    // Between them the firmware started its shell, which started the kernel.
    auto expected = theirs;
    REQUIRE(expected.size() == 4);
    expected.erase(expected.begin() + 1);
    auto events = ours(expect(launch_events(recorded(kKernel))), {4, 9});
    take_over_load_options(events, theirs);
    REQUIRE(events == expected);
}

TEST_CASE("an initrd's event in PCR 9 is Linux' own") {
    const auto theirs = last_launch("log-direct-kernel.bin", {9});
    MeasuredLaunch launch = recorded(kKernel);
    launch.initrd = sha256("025ccd356b79e06031796aea58ece34365a3c8c0a07b4b31cf3340b8a56196c9");
    auto events = ours(expect(launch_events(launch)), {9});
    take_over_load_options(events, theirs);
    REQUIRE(events == theirs);
}

TEST_CASE("a UKI's events in PCRs 4 and 11 are those of firmware and systemd-stub") {
    const auto theirs = last_launch("log-uki.bin", {4, 11});
    MeasuredLaunch launch = recorded(kUki);
    MeasuredUki &uki = launch.uki.emplace();
    uki.kernel = {sha256(kKernel), 1};
    const std::pair<const char *, const char *> sections[] = {
        {".linux", "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275"},
        {".osrel", "b1b99a4fd0f678353d7f5468157bfaeea24d40d8af308659fdcb3c2cdd1fa3e3"},
        {".cmdline", "9399861655186c7283f68417e687af76691e4b42cde939a49dbd755cd6a9f167"},
        {".initrd", "025ccd356b79e06031796aea58ece34365a3c8c0a07b4b31cf3340b8a56196c9"},
        {".uname", "e75fb56fb24f9c3dd47f4876d49a1fe617e65afd6c065c3e87b132357802a982"},
        {".sbat", "e34e16fc3b661f29d138dd017ec14683617b3bdec85d175f57731529f6a7a343"}};
    for (const auto &[name, digest] : sections) uki.sections.push_back({name, sha256(digest)});
    const Events events = expect(launch_events(launch));
    REQUIRE(ours(events, {4, 11}) == theirs);
    // As tpm2_eventlog 5.4 told of the firmware's log.
    REQUIRE(hex(expect(pcrs_after(events, Hash::kSha256)).at(11)) ==
            "c655c200c278c2abdbc294a7295d1f54398b96dbd78b8414a23a06603c6b4e99");
}

TEST_CASE("a UKI's events are those of firmware, systemd-stub and Linux in each bank, from what is in it") {
    constexpr std::string_view kLine = "console=ttyS0 panic=-1";
    const Bytes bytes = golden("log-uki-252.bin");
    const auto log = read_tcg_log(bytes);
    REQUIRE(log);
    REQUIRE(log->banks.size() == 4);
    for (std::size_t bank = 0; bank < log->banks.size(); ++bank) {
        const Hash hash = hash_of_algorithm(log->banks[bank].algorithm).value();
        CAPTURE(name_of(hash));
        std::vector<Seen> theirs;
        for (const LogEvent &event : log->events)
            if ((event.pcr == 4 || event.pcr == 9 || event.pcr == 11) && event.type != kSeparatorType)
                theirs.push_back(seen(event.pcr, event.type, event.digests.at(bank).value, event.data));
        REQUIRE(theirs.size() == 13);
        // Kernel, UKI and initrd are too large for here: by their digests.
        const auto digest = [&](std::size_t event) { return Digests{{hash, from_hex(theirs.at(event).digest)}}; };
        const auto of_text = [&](std::string_view text) { return expect(digests_of(bytes_of(text), {hash})); };
        MeasuredLaunch launch{{hash}, {digest(1), 1}, std::string(kLine), digest(12), MeasuredUki{}};
        launch.uki->kernel = {digest(10), 1};
        launch.uki->sections = {{".linux", digest(3)},
                                {".osrel", of_text("ID=debian\nVERSION_ID=\"12\"\n")},
                                {".cmdline", of_text(kLine)},
                                {".initrd", digest(12)}};
        std::vector<Seen> events;
        for (const Event &event : expect(launch_events(launch)))
            if ((event.pcr == 4 || event.pcr == 9 || event.pcr == 11) && event.type != EventType::kSeparator)
                events.push_back(
                    seen(event.pcr, static_cast<std::uint32_t>(event.type), event.digests.at(hash), event.data));
        REQUIRE(events == theirs);
    }
}

// Debian's kernel 6.1.0-56-cloud-amd64 is 14 MB: who has it says where it is.
TEST_CASE("the hash of the kernel is the firmware's") {
    const char *path = std::getenv("XEN_VTPM_GOLDEN_KERNEL");
    if (path == nullptr) return;
    const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
    const MappedFile kernel = expect(MappedFile::map(file.get(), path));
    const BootImage image = expect(read_boot_image(kernel.bytes()));
    REQUIRE(hex(expect(digests_of(kernel.bytes(), image.hashed, {Hash::kSha256}))[Hash::kSha256]) == kKernel);
}

}  // namespace vtpm::golden_test
