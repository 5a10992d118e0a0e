// SPDX-License-Identifier: Apache-2.0
#include "launch/boot_image.hpp"

#include <functional>

#include "launch/cpio.hpp"
#include "launch/layout_message.hpp"
#include "launch/measure.hpp"
#include "pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::boot_image_test {
using namespace launch;

namespace {

Bytes sha256(ByteView bytes) { return expect(digests_of(bytes, {Hash::kSha256}))[Hash::kSha256]; }
Bytes sha256(ByteView file, const Extents &extents, ByteView tail = {}) {
    return expect(digests_of(file, extents, {Hash::kSha256}, tail))[Hash::kSha256];
}

TestSection &part(std::vector<TestSection> &parts, std::string_view name) {
    return *std::ranges::find(parts, name, &TestSection::name);
}

// A UKI with one of its parts changed.
Bytes uki_with(std::string_view name, const std::function<void(TestSection &)> &change) {
    auto parts = uki_parts();
    change(part(parts, name));
    return pe_image(parts);
}

}  // namespace

TEST_CASE("a kernel that is no PE image is measured as the file that it is") {
    const Bytes elf = test_text(
        "\x7f"
        "ELF, a kernel for PV");
    const BootImage image = expect(read_boot_image(elf));
    REQUIRE(image.hashed == Extents{{0, elf.size(), 0}});
    REQUIRE_FALSE(image.uki);
}

TEST_CASE("what begins as a PE image must be one") {
    REQUIRE_THAT(expect_error(read_boot_image(test_text("MZ"))).text, Contains("the PE image is damaged"));
}

TEST_CASE("the sections of a UKI are told in the order in which systemd-stub measures them") {
    const Bytes file = test_uki();
    const Uki uki = *expect(read_boot_image(file)).uki;
    std::vector<std::string> names;
    for (const UkiSection &section : uki.sections)
        if (is_measured(section)) names.push_back(section.name);
    REQUIRE(names ==
            std::vector<std::string>{".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"});
    REQUIRE(uki.find(".pcrsig") != nullptr);
    REQUIRE(uki.find(".text") == nullptr);
    REQUIRE(uki.find(".initrd")->size == 1001);
    const Bytes kernel = test_kernel();
    REQUIRE(sha256(file, {*uki.find(".linux")}) == sha256(kernel));
    REQUIRE(sha256(file, uki.kernel_hashed) == sha256(kernel, expect(read_boot_image(kernel)).hashed));
}

TEST_CASE("a section is measured as it is loaded: cut, or with zeros behind it") {
    const Bytes longer = uki_with(".linux", [](TestSection &s) { s.virtual_size = 8192; });
    const Uki uki = *expect(read_boot_image(longer)).uki;
    Bytes kernel = test_kernel();
    REQUIRE(uki.find(".linux")->length() == 8192);
    kernel.resize(8192);
    REQUIRE(sha256(longer, {*uki.find(".linux")}) == sha256(kernel));
    REQUIRE(sha256(longer, uki.kernel_hashed) == sha256(kernel, expect(read_boot_image(kernel)).hashed));

    const Bytes shorter = uki_with(".initrd", [](TestSection &s) { s.virtual_size = 10; });
    REQUIRE(expect(read_boot_image(shorter)).uki->find(".initrd")->size == 10);
}

TEST_CASE("a UKI that cannot be told from its headers is refused") {
    auto twice = uki_parts();
    twice.push_back({".cmdline", test_text("init=/bin/sh")});
    REQUIRE_THAT(expect_error(read_boot_image(pe_image(twice))).text, Contains("2 sections .cmdline"));
    const auto error = [](const Bytes &file) { return expect_error(read_boot_image(file)).text; };
    REQUIRE_THAT(error(uki_with(".linux", [](auto &s) { s.virtual_size = 0; })), Contains(".linux is empty"));
    static constexpr std::uint32_t kMost = 1024 + kMaxZeros;  // 1024 are in the file
    REQUIRE(read_boot_image(uki_with(".initrd", [](auto &s) { s.virtual_size = kMost; })));
    REQUIRE_THAT(error(uki_with(".initrd", [](auto &s) { s.virtual_size = kMost + 1; })), Contains("not in the file"));
    REQUIRE_THAT(error(uki_with(".linux", [](auto &s) { s.virtual_size = 0xffffffff; })), Contains("not in the file"));
    REQUIRE_THAT(error(uki_with(".linux", [](auto &s) { s.content[0x40] = 'X'; })), Contains("no PE header"));
    REQUIRE_THAT(error(uki_with(".linux", [](auto &s) { s.virtual_size = 2000; })), Contains("ends behind the file"));
}

TEST_CASE("a long file has the digests of a short one's kind: those of its bytes") {
    Bytes file(3'000'000, 0x5a);
    file[1'500'000] = 1;
    const Extents extents{{10, 1'999'990, 100}, {2'500'000, 500'000, 0}};
    Bytes hashed(file.begin() + 10, file.begin() + 2'000'000);
    hashed.resize(hashed.size() + 100);
    hashed.insert(hashed.end(), file.begin() + 2'500'000, file.end());
    hashed.insert(hashed.end(), {'t', 'a', 'i', 'l'});
    REQUIRE(expect(digests_of(file, extents, all_banks(), bytes_of("tail"))) ==
            expect(digests_of(hashed, all_banks())));
}

TEST_CASE("a UKI's command line is a line of text") {
    const auto line = [](const Bytes &content, std::optional<std::uint32_t> size = std::nullopt) {
        const Bytes file = uki_with(".cmdline", [&](TestSection &s) { s = {".cmdline", content, size}; });
        return expect(command_line_of(file, *expect(read_boot_image(file)).uki));
    };
    REQUIRE(line(test_text("root=/dev/xvda1 ro\n")) == "root=/dev/xvda1 ro");
    REQUIRE(line(test_text("  a\tb\nc  \n"), 600) == "a b c");
    REQUIRE(line(Bytes{'a', 0, 'b'}) == "a");
    REQUIRE(line(test_text(" \n")).empty());
}

TEST_CASE("a UKI's kernel gets its initrd, and what its policies need, as archives") {
    const Bytes file = test_uki();
    const Uki uki = *expect(read_boot_image(file)).uki;
    const UkiInitrd initrd = expect(initrd_of(file, uki));
    REQUIRE(initrd.parts.size() == 1);
    REQUIRE(initrd.parts[0].length() == 1004);  // archives begin at multiples of four
    const std::string archives(initrd.archives.begin(), initrd.archives.end());
    REQUIRE_THAT(archives, Contains(".extra/tpm2-pcr-signature.json") && Contains("{\"sha256\":[]}") &&
                               Contains(".extra/tpm2-pcr-public-key.pem"));
    auto parts = uki_parts();
    std::erase_if(parts, [](const TestSection &s) { return s.name.starts_with(".pcr"); });
    const Bytes plain = pe_image(parts);
    const UkiInitrd only = expect(initrd_of(plain, *expect(read_boot_image(plain)).uki));
    REQUIRE(only.parts[0].length() == 1001);
    REQUIRE(only.archives.empty());
}

TEST_CASE("an archive is what cpio makes") {
    const Bytes archive = cpio_archive(".extra", "a", test_text("12345"));
    REQUIRE(archive.size() % 4 == 0);
    const std::string text(archive.begin(), archive.end());
    REQUIRE(
        text.starts_with("070701"
                         "00000001"
                         "0000416d"));
    REQUIRE_THAT(text, Contains("TRAILER!!!"));
}

TEST_CASE("a UKI has no other initrd, and an empty file is no kernel") {
    const Bytes file = test_uki();
    const Bytes initrd(10);
    const auto measured = measure({file, ByteView(initrd)}, expect(read_boot_image(file)), all_banks());
    REQUIRE_THAT(expect_error(measured).text, Contains("its own initrd"));
    REQUIRE_FALSE(measure({ByteView(), std::nullopt}, {}, all_banks()));
}

TEST_CASE("what a confined reader tells is taken whole, within the file, or not at all") {
    const Bytes file = test_uki();
    const BootImage image = expect(read_boot_image(file));
    const Bytes message = layout_message(image);
    REQUIRE(expect(layout_in(message, file.size())) == image);
    REQUIRE(expect_error(layout_in(message, file.size() - 1)).code == ErrorCode::kSystem);
    for (std::size_t size = 0; size < message.size(); ++size)
        REQUIRE_FALSE(layout_in(ByteView(message).first(size), file.size()));
    for (std::size_t i = 0; i < message.size(); ++i)
        for (const std::uint8_t value : Bytes{0x00, 0x01, 0x7f, 0xff}) {
            Bytes changed = message;
            changed[i] = value;
            const auto told = layout_in(changed, file.size());
            if (told) REQUIRE(checked_length(told->hashed, file.size()));
        }
    const BootImage plain{{{0, 100, 0}}, {}};
    REQUIRE(layout_in(layout_message(plain), 100));
    const Result<BootImage> failed = fail(ErrorCode::kInvalid, "a reason\x1b");
    const Error error = expect_error(layout_in(layout_message(failed), file.size()));
    REQUIRE(error.code == ErrorCode::kInvalid);
    REQUIRE(error.text == "a reason?");
}

// By one that was taken over: so that the digest is that of an image which is not there.
TEST_CASE("what a confined reader cannot have read is not believed") {
    const Bytes file = test_uki();
    const BootImage image = expect(read_boot_image(file));
    const std::vector<std::pair<const char *, std::function<void(BootImage &)>>> lies{
        {"nothing is hashed", [](BootImage &boot) { boot.hashed.clear(); }},
        {"the beginning is not", [](BootImage &boot) { boot.hashed.erase(boot.hashed.begin()); }},
        {"a part is not", [](BootImage &boot) { boot.hashed.erase(boot.hashed.begin() + 3); }},
        {"a part is shorter", [](BootImage &boot) { --boot.hashed.at(3).size; }},
        {"another order", [](BootImage &boot) { std::swap(boot.hashed.at(3), boot.hashed.at(4)); }},
        {"a part twice", [](BootImage &boot) { boot.hashed.push_back(boot.hashed.back()); }},
        {"zeros between", [](BootImage &boot) { boot.hashed.at(3).zeros = 8; }},
        {"a section that is not hashed", [](BootImage &boot) { boot.hashed.pop_back(); }},
        {"a kernel elsewhere", [](BootImage &boot) { boot.uki->sections.front().content.offset += 1; }},
        {"half a kernel", [](BootImage &boot) { boot.uki->kernel_hashed.front().size /= 2; }},
        {"no kernel", [](BootImage &boot) { boot.uki->kernel_hashed.clear(); }},
        {"a part of a file that is none",
         [](BootImage &boot) {
             boot = {{{0, 100, 0}}, {}};
         }},
        {"another part of it",
         [](BootImage &boot) {
             boot = {{{12, 100, 0}}, {}};
         }},
    };
    REQUIRE(layout_in(layout_message(image), file.size()));
    for (const auto &[lie, tell] : lies) {
        CAPTURE(lie);
        BootImage told = image;
        tell(told);
        CHECK(expect_error(layout_in(layout_message(told), file.size())).code == ErrorCode::kSystem);
    }
}

}  // namespace vtpm::boot_image_test
