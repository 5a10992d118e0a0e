// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/request.hpp"
#include "shared-protocol/record_launch.hpp"
#include "tests/unit/manager/expect.hpp"

namespace vtpm::launch_request_test {
using namespace launch;

namespace {

std::vector<std::string> libxl_arguments() {
    return {"--kernel=/boot/vmlinuz",
            "--ramdisk=/boot/initrd.img",
            "--args=root=/dev/xvda ro",
            "--output=/var/lib/xen/bootloader.7.out",
            "--output-format=simple0",
            "--output-directory=/var/lib/xen/bootloader.7.d",
            "/dev/vg/guest"};
}

std::string error_of(std::vector<std::string> arguments) { return expect_error(parse_request(arguments)).text; }

}  // namespace

TEST_CASE("what libxl wants is understood") {
    const Request request = expect(parse_request(libxl_arguments()));
    REQUIRE(request.domain == 7);
    REQUIRE(request.kernel == "/boot/vmlinuz");
    REQUIRE(request.ramdisk == "/boot/initrd.img");
    REQUIRE(request.arguments == "root=/dev/xvda ro");
    REQUIRE(request.output == "/var/lib/xen/bootloader.7.out");
    REQUIRE(request.output_directory == "/var/lib/xen/bootloader.7.d");
    REQUIRE(request.disk == "/dev/vg/guest");
    REQUIRE(request.others.empty());
}

TEST_CASE("options that are not ours are for the guest's boot loader") {
    const Request request =
        expect(parse_request({"--runas=65535", "--quiet", "--output=/o", "--output-format=simple0",
                              "--output-directory=/bootloader.12.d", "--pygrub=/p", "--entry=1", "/dev/d"}));
    REQUIRE(request.domain == 12);
    REQUIRE(request.kernel.empty());
    REQUIRE(request.pygrub == "/p");
    REQUIRE(request.others == std::vector<std::string>{"--runas=65535", "--quiet", "--entry=1"});
}

TEST_CASE("what is not from libxl is refused, with the reason") {
    REQUIRE_THAT(error_of({}), Contains("libxl calls this program"));
    REQUIRE_THAT(error_of({"/dev/d"}), Contains("libxl calls this program"));
    auto arguments = libxl_arguments();
    arguments[4] = "--output-format=sxp";
    REQUIRE_THAT(error_of(arguments), Contains("'sxp' is not known"));
    for (const char *name : {"bootloader.d", "bootloader..d", "bootloader.0.d", "bootloader.7x.d", "bootloader.-1.d",
                             "bootloader.99999999999.d", "7", "bootloader.7.d/"}) {
        arguments = libxl_arguments();
        arguments[5] = std::string("--output-directory=/var/lib/xen/") + name;
        CAPTURE(name);
        REQUIRE_THAT(error_of(arguments), Contains("names no guest"));
    }
}

TEST_CASE("a boot loader's answer is read as it is written") {
    const Answer whole = expect(parse_simple0(to_simple0({"/k", "/r", "a b  c"})));
    REQUIRE(whole.kernel == "/k");
    REQUIRE(whole.ramdisk == "/r");
    REQUIRE(whole.arguments == "a b  c");
    REQUIRE(expect(parse_simple0(std::string("kernel /k\0args a\0\0", 18))).arguments == "a");  // pygrub's
    const Answer kernel = expect(parse_simple0(to_simple0({"/k", std::nullopt, ""})));
    REQUIRE_FALSE(kernel.ramdisk);
    REQUIRE(kernel.arguments.empty());
}

TEST_CASE("another answer of a boot loader is refused") {
    const auto error = [](const std::string &text) { return expect_error(parse_simple0(text)).text; };
    REQUIRE_THAT(error(""), Contains("no kernel"));
    REQUIRE_THAT(error("kernel /k"), Contains("cut off"));
    REQUIRE_THAT(error(std::string("kernel /k\0module /m\0", 20)), Contains("unknown kind"));
    REQUIRE_THAT(error(std::string("kernel /k\0args ", 15) + std::string(8192, 'a') + '\0'), Contains("too long"));
}

TEST_CASE("a record of a launch is read as it is written") {
    const Bytes log{0, 1, 0x7f, 0xff};
    const RecordLaunch read = expect(parse_record_launch(arguments_of({7, log})));
    REQUIRE(read.domain == 7);
    REQUIRE(read.log == log);
    REQUIRE(expect(parse_record_launch(arguments_of({1, Bytes(kMaxLaunchLog)}))).log.size() == kMaxLaunchLog);
}

TEST_CASE("what is no record of a launch is refused") {
    for (const bus::Arguments &arguments : {bus::Arguments{},
                                            {"7"},
                                            {"0", "00"},
                                            {"-1", "00"},
                                            {"7 ", "00"},
                                            {"32752", "00"},
                                            {"x", "00"},
                                            {"7", ""},
                                            {"7", "0"},
                                            {"7", "0g"},
                                            {"7", "0x12"},
                                            {"7", " 1"},
                                            {"7", std::string(2 * kMaxLaunchLog + 2, '0')}})
        REQUIRE(expect_error(parse_record_launch(arguments)).code == ErrorCode::kInvalid);
}

}  // namespace vtpm::launch_request_test
