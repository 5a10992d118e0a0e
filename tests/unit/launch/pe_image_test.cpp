// SPDX-License-Identifier: Apache-2.0
#include "launch/pe_image.hpp"

#include <functional>

#include "pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::pe_image_test {
using namespace launch;

namespace {

Bytes sha256(ByteView file, const Extents &extents) {
    return expect(digests_of(file, extents, {Hash::kSha256}))[Hash::kSha256];
}
Bytes authenticode(const Bytes &image) { return sha256(image, expect(read_pe(image)).authenticode); }

// Each byte of the file is in the hash once, or left out.
std::vector<bool> left_out(const Bytes &image) {
    std::vector<bool> out(image.size(), true);
    for (const Extent &extent : expect(read_pe(image)).authenticode)
        for (std::uint64_t i = extent.offset; i < extent.offset + extent.size; ++i) {
            REQUIRE(out[i]);
            out[i] = false;
        }
    return out;
}

struct Lie {
    const char *what;
    std::function<void(Bytes &)> tell;
    const char *error;
};

const std::vector<Lie> kLies{
    {"no PE header", [](Bytes &b) { put(b, 0x3c, 0x10000, 4); }, "no PE header"},
    {"a PE header at the end of the address space", [](Bytes &b) { put(b, 0x3c, 0xffffffff, 4); }, "no PE header"},
    {"a PE header in the DOS header", [](Bytes &b) { put(b, 0x3c, 0, 4); }, "no PE header"},
    {"another signature", [](Bytes &b) { put(b, PeOffsets::kPe, 0x454e, 4); }, "no PE header"},
    {"another kind of optional header", [](Bytes &b) { put(b, PeOffsets::kOptional, 0x107, 2); }, "unknown kind"},
    {"an optional header that is too small", [](Bytes &b) { put(b, PeOffsets::kOptionalSize, 100, 2); }, "shorter"},
    {"no section", [](Bytes &b) { put(b, PeOffsets::kSections, 0, 2); }, "no sections"},
    {"97 sections", [](Bytes &b) { put(b, PeOffsets::kSections, 97, 2); }, "too many"},
    {"more sections than the headers hold", [](Bytes &b) { put(b, PeOffsets::kSections, 40, 2); }, "headers"},
    {"headers that are larger than the file", [](Bytes &b) { put(b, PeOffsets::kSizeOfHeaders, 0xffffff, 4); },
     "headers"},
    {"headers without their section table", [](Bytes &b) { put(b, PeOffsets::kSizeOfHeaders, 0x100, 4); }, "headers"},
    {"a section behind the file", [](Bytes &b) { put(b, PeOffsets::kTable + 40 + 16, 0x10000, 4); },
     "ends behind the file"},
    {"a section of 4 GB", [](Bytes &b) { put(b, PeOffsets::kTable + 40 + 16, 0xffffffff, 4); }, "ends behind the file"},
    {"a section in the headers", [](Bytes &b) { put(b, PeOffsets::kTable + 20, 0x200, 4); }, "overlap"},
    {"a section in another one", [](Bytes &b) { put(b, PeOffsets::kTable + 40 + 20, 0x600, 4); }, "overlap"},
    {"bytes between sections", [](Bytes &b) { put(b, PeOffsets::kTable + 16, 0x200, 4); }, "nothing measures"},
    {"bytes before the first section", [](Bytes &b) { put(b, PeOffsets::kSizeOfHeaders, 0x380, 4); },
     "nothing measures"},
    {"signatures in a section", [](Bytes &b) { put(b, PeOffsets::kCertificates + 4, 600, 4); }, "signatures"},
    {"signatures before the end", [](Bytes &b) { put(b, PeOffsets::kCertificates + 4, 8, 4); }, "signatures"},
    {"signatures that are elsewhere", [](Bytes &b) { put(b, PeOffsets::kCertificates, 0x400, 4); }, "signatures"},
};

Bytes signed_image() {
    return pe_image({{".text", Bytes(1000, 1)}, {".data", Bytes(300, 2)}}, Bytes(100, 3), Bytes(64, 4));
}

}  // namespace

TEST_CASE("all of a PE image is in its hash but the checksum, and the signatures with their entry") {
    const Bytes image = signed_image();
    const auto out = left_out(image);
    for (std::size_t i = 0; i < image.size(); ++i) {
        const bool checksum = i >= PeOffsets::kChecksum && i < PeOffsets::kChecksum + 4;
        const bool entry = i >= PeOffsets::kCertificates && i < PeOffsets::kCertificates + 8;
        const bool signature = i >= image.size() - 64;
        CAPTURE(i);
        REQUIRE(out[i] == (checksum || entry || signature));
    }
}

TEST_CASE("signing an image does not change its hash") {
    const std::vector<TestSection> sections{{".text", Bytes(1000, 1)}};
    REQUIRE(authenticode(pe_image(sections)) == authenticode(pe_image(sections, {}, Bytes(128, 9))));
    REQUIRE(authenticode(pe_image(sections)) != authenticode(pe_image(sections, Bytes(8, 9))));
}

TEST_CASE("an image without a directory for signatures is hashed to the end of its headers") {
    Bytes image = pe_image({{".text", Bytes(10, 1)}});
    put(image, PeOffsets::kDirectoryCount, 4, 4);
    const auto out = left_out(image);
    REQUIRE(std::count(out.begin(), out.end(), true) == 4);
}

TEST_CASE("sections are hashed in the order of the file, and those without bytes not at all") {
    std::vector<TestSection> sections{{".b", Bytes(512, 2)}, {".a", Bytes(512, 1)}, {".bss", {}, 4096, 7, 0}};
    Bytes image = pe_image(sections);
    put(image, PeOffsets::kTable + 20, 0x600, 4);
    put(image, PeOffsets::kTable + 40 + 20, 0x400, 4);
    const auto out = left_out(image);
    REQUIRE(std::count(out.begin(), out.end(), true) == 12);
    REQUIRE(expect(read_pe(image)).sections[2].virtual_size == 4096);
}

TEST_CASE("an image that is loaded from a section ends in zeros") {
    const Bytes image = pe_image({{".text", Bytes(10, 1)}});
    Bytes longer = image;
    longer.resize(image.size() + 5000);
    const auto in_file = expect(read_pe(image, longer.size()));
    REQUIRE(sha256(image, in_file.authenticode) == authenticode(longer));
    REQUIRE(authenticode(longer) != authenticode(image));
}

TEST_CASE("a PE image whose headers lie is refused, with the reason") {
    REQUIRE(read_pe(signed_image()));
    for (const Lie &lie : kLies) {
        Bytes image = signed_image();
        lie.tell(image);
        CAPTURE(lie.what);
        const Error error = expect_error(read_pe(image));
        REQUIRE(error.code == ErrorCode::kInvalid);
        REQUIRE_THAT(error.text, Contains(lie.error));
    }
}

TEST_CASE("a PE image that ends early is refused, wherever it ends") {
    const Bytes image = signed_image();
    for (std::size_t size = 0; size < image.size(); ++size) REQUIRE_FALSE(read_pe(ByteView(image).first(size)));
}

TEST_CASE("no byte of the headers makes the reader leave the file") {
    const Bytes image = signed_image();
    for (std::size_t i = 0; i < 0x400; ++i)
        for (const std::uint8_t value : Bytes{0x00, 0x01, 0x7f, 0x80, 0xff}) {
            Bytes changed = image;
            changed[i] = value;
            const auto pe = read_pe(changed);
            if (pe) REQUIRE(checked_length(pe->authenticode, changed.size()));
        }
}

}  // namespace vtpm::pe_image_test
