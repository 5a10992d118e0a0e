// SPDX-License-Identifier: Apache-2.0
// A guest's own disk: another boot loader finds what is on it.
#include <cstdlib>

#include "host.hpp"
#include "launch/event_log.hpp"

namespace vtpm::pygrub_test {
using namespace launch;

namespace {

// A program in pygrub's place: $directory, $output, $disk and $all are what it was called with.
struct PygrubHost : LaunchHost {
    std::string program = directory / "pygrub";

    [[nodiscard]] Output boot(const std::string &script, std::vector<std::string> options = {}) const {
        std::ofstream(program) << R"(#!/bin/sh
all=$*
for argument; do
    case $argument in
        --output=*) output=${argument#*=} ;;
        --output-directory=*) directory=${argument#*=} ;;
        --*) ;;
        *) disk=$argument ;;
    esac
done
)" << script;
        ::chmod(program.c_str(), 0755);
        options.insert(options.begin(), "--pygrub=" + program);
        return start(std::move(options), directory / "disk");
    }
};

}  // namespace

TEST_CASE_METHOD(PygrubHost, "what pygrub finds on the disk is measured and started") {
    (void)file("disk", test_kernel());
    const Output ended = boot(R"(
cp "$disk" "$directory/boot_kernel.1"
echo initrd > "$directory/boot_ramdisk.2"
printf 'kernel %s\0ramdisk %s\0args root=/dev/xvda1 %s\0' "$directory/boot_kernel.1" "$directory/boot_ramdisk.2" "$1" > "$output"
)",
                              {"--quiet"});
    CAPTURE(ended.err);
    REQUIRE(ended.status == 0);
    REQUIRE(read_file(answer().kernel) == test_kernel());
    REQUIRE(read_file(answer().ramdisk.value()) == test_text("initrd\n"));
    REQUIRE(answer().arguments == "root=/dev/xvda1 --quiet");
    REQUIRE(std::distance(std::filesystem::directory_iterator(place), {}) == 2);  // nothing of pygrub's
    REQUIRE(read_event_log(recorder->recorded().value().log));
}

TEST_CASE_METHOD(PygrubHost, "pygrub gets what it knows of libxl's options") {
    (void)file("disk", test_kernel());
    const Output ended = boot(R"(
cp "$disk" "$directory/k"
echo "$all" > "$disk.called"
printf 'kernel %s\0' "$directory/k" > "$output"
)",
                              {"--args=single", "--runas=1000", "--entry=2"});
    CAPTURE(ended.err);
    REQUIRE(ended.status == 0);
    const Bytes called = read_file(directory / "disk.called");
    REQUIRE_THAT(std::string(called.begin(), called.end()),
                 Contains("--args=single --runas=1000 --entry=2 --output=") && Contains("--output-format=simple0") &&
                     Contains("bootloader.7.d/pygrub."));
}

TEST_CASE_METHOD(PygrubHost, "pygrub's failures and lies are refused, and leave nothing") {
    (void)file("disk", test_kernel());
    (void)file("secret", test_text("a file of the host"));
    const std::pair<const char *, const char *> cases[] = {
        {"exit 3", "failed (status 3): nothing to boot on"},
        {"kill -9 $$", "failed (signal 9)"},
        {"true", "names no kernel"},
        {"printf 'kernel' > $output", "cut off"},
        {"printf 'kernel %s\\0' \"${disk%disk}secret\" > $output", "not its own"},
        {"printf 'kernel %s/../../secret\\0' \"$directory\" > $output", "is not a file in"},
        {"ln -s ${disk%disk}secret $directory/k; printf 'kernel %s\\0' \"$directory/k\" > $output", "cannot be read"},
        {"mkfifo $directory/k; printf 'kernel %s\\0' \"$directory/k\" > $output", "not a regular file"},
        {"mkdir $directory/k; printf 'kernel %s\\0' \"$directory/k\" > $output", "not a regular file"},
        {"printf 'kernel %s/\\0' \"$directory\" > $output", "is not a file in"},
        {"truncate -s 3G $directory/k; printf 'kernel %s\\0' \"$directory/k\" > $output", "can be measured"},
    };
    for (const auto &[script, error] : cases) {
        CAPTURE(script);
        check_refused(boot(script), error);
    }
}

// Not every machine has one: who has (Debian's xen-utils-4.17) says where it is.
TEST_CASE_METHOD(LaunchHost, "Xen's own pygrub finds a kernel on a disk, restricted or not") {
    const char *pygrub = std::getenv("XEN_VTPM_PYGRUB");
    if (pygrub == nullptr) return;
    const std::string root = directory / "root";
    std::filesystem::create_directories(root + "/boot/grub");
    write_file(root + "/boot/vmlinuz", test_kernel());
    write_file(root + "/boot/initrd", Bytes(5000, 8));
    write_file(root + "/boot/grub/grub.cfg", test_text("menuentry 'Linux' {\n linux /boot/vmlinuz root=/dev/xvda1 ro\n"
                                                       " initrd /boot/initrd\n}\n"));
    const std::string disk = file("disk", {});
    std::filesystem::resize_file(disk, 8UL * 1024 * 1024);
    REQUIRE(::run({{"mke2fs", "-q", "-d", root, disk}, {}, {}}).status == 0);
    for (std::vector<std::string> more : {std::vector<std::string>{"--quiet"}, {"--runas=65000", "--quiet"}}) {
        more.insert(more.begin(), std::string("--pygrub=") + pygrub);
        const Output ended = start(more, disk);
        CAPTURE(ended.err, ended.out);
        REQUIRE(ended.status == 0);
        REQUIRE(read_file(answer().kernel) == test_kernel());
        REQUIRE(read_file(answer().ramdisk.value()) == Bytes(5000, 8));
        REQUIRE(answer().arguments == "root=/dev/xvda1 ro");
        REQUIRE(std::distance(std::filesystem::directory_iterator(place), {}) == 2);
        std::filesystem::remove(answer().kernel);
        std::filesystem::remove(answer().ramdisk.value());
    }
}

TEST_CASE_METHOD(PygrubHost, "without pygrub it is said what to do") {
    check_refused(start({"--pygrub=/nonexistent/pygrub"}), "/nonexistent/pygrub is no program: set kernel=");
}

}  // namespace vtpm::pygrub_test
