// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/confined_reader.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "tests/unit/launch/pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::confined_reader_test {
using namespace launch;

namespace {

BootImage nothing() { return {}; }

Result<BootImage> opens_a_socket(ByteView) {
    (void)::socket(AF_UNIX, SOCK_STREAM, 0);
    return nothing();
}
Result<BootImage> starts_a_process(ByteView) {
    (void)::fork();
    return nothing();
}
Result<BootImage> looks_for_descriptors(ByteView file) {
    for (int fd = 0; fd < 256; ++fd)
        if (::write(fd, "", 0) == 0 && fd < 3) return fail(ErrorCode::kRefused, "descriptor {} is open", fd);
    return read_boot_image(file);
}
Result<BootImage> never_ends(ByteView) {
    for (volatile unsigned i = 0;;) i = i + 1;
}
Result<BootImage> tells_lies(ByteView) {
    BootImage image;
    image.hashed = {{0, 1UL << 40, 0}};
    return image;
}
Result<BootImage> takes_all_memory(ByteView) {
    for (std::size_t size = 1;; size *= 2) (void)Bytes(size, 1);
}
Result<BootImage> crashes(ByteView) { std::abort(); }

}  // namespace

TEST_CASE("a confined reader reads what any reader reads") {
    const Bytes uki = test_uki();
    REQUIRE(expect(read_confined(uki)) == expect(read_boot_image(uki)));
    const Error error = expect_error(read_confined(test_text("MZ")));
    REQUIRE(error.code == ErrorCode::kInvalid);
    REQUIRE_THAT(error.text, Contains("the PE image is damaged"));
}

TEST_CASE("a reader that was taken over can do nothing") {
    const Bytes file(100);
    REQUIRE_THAT(expect_error(read_confined(file, opens_a_socket)).text, Contains("was ended (signal 31)"));
    REQUIRE_THAT(expect_error(read_confined(file, starts_a_process)).text, Contains("was ended (signal 31)"));
    REQUIRE(expect(read_confined(file, looks_for_descriptors)) == expect(read_boot_image(file)));
    REQUIRE_THAT(expect_error(read_confined(file, tells_lies)).text, Contains("does not answer as it should"));
#if !defined(__SANITIZE_ADDRESS__)
    REQUIRE_THAT(expect_error(read_confined(file, takes_all_memory)).text, Contains("was ended (signal"));
#else
    (void)takes_all_memory;  // an address sanitizer's own memory has no bound
#endif
    REQUIRE_THAT(expect_error(read_confined(file, crashes)).text, Contains("was ended (signal"));
}

TEST_CASE("a reader that does not end is ended") {
    const Bytes file(100);
    REQUIRE_THAT(expect_error(read_confined(file, never_ends)).text, Contains("was ended (signal"));
}

}  // namespace vtpm::confined_reader_test
