// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "host.hpp"
#include "launch/event_log.hpp"

namespace vtpm::launch_test {
using namespace launch;

namespace {

EventLog predicted(const Bytes &image, std::optional<ByteView> initrd, std::string_view line) {
    const auto measured = expect(measure({image, initrd, line}, expect(read_boot_image(image)), all_banks()));
    return {all_banks(), expect(launch_events(measured))};
}

bool is_private(const std::string &path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 07777) == 0600;
}

Bytes damaged_kernel(std::size_t offset, std::uint64_t value, std::size_t size) {
    Bytes kernel = test_kernel();
    put(kernel, offset, value, size);
    return kernel;
}

}  // namespace

TEST_CASE_METHOD(LaunchHost, "a kernel of the host is copied, measured, recorded, and told to libxl") {
    const Bytes kernel = test_kernel();
    const Bytes initrd(100'000, 5);
    const Output ended = start(
        {"--kernel=" + file("vmlinuz", kernel), "--ramdisk=" + file("initrd", initrd), "--args=root=/dev/xvda1 ro"});
    CAPTURE(ended.err);
    REQUIRE(ended.status == 0);
    const Answer told = answer();
    REQUIRE(told.kernel.starts_with(place + "/kernel."));
    REQUIRE(told.ramdisk.value().starts_with(place + "/ramdisk."));
    REQUIRE(told.arguments == "root=/dev/xvda1 ro");
    REQUIRE(read_file(told.kernel) == kernel);
    REQUIRE(read_file(*told.ramdisk) == initrd);
    REQUIRE(is_private(told.kernel));
    REQUIRE(is_private(*told.ramdisk));
    const auto recorded = recorder->recorded();
    REQUIRE(recorded);
    REQUIRE(recorded->domain == 7);
    REQUIRE(expect(read_event_log(recorded->log)) == predicted(kernel, ByteView(initrd), "root=/dev/xvda1 ro"));
}

TEST_CASE_METHOD(LaunchHost, "a kernel alone is started without an initrd, also by a link in the configuration") {
    const std::string link = directory / "link";
    std::filesystem::create_symlink(file("vmlinuz", test_kernel()), link);
    REQUIRE(start({"--kernel=" + link}).status == 0);
    REQUIRE_FALSE(answer().ramdisk);
    REQUIRE(answer().arguments.empty());
    REQUIRE(read_file(answer().kernel) == test_kernel());
}

TEST_CASE_METHOD(LaunchHost, "a UKI is taken apart") {
    const Bytes uki = test_uki();
    const Output ended = start({"--kernel=" + file("linux.efi", uki)});
    CAPTURE(ended.err);
    REQUIRE(ended.status == 0);
    const Answer told = answer();
    REQUIRE(told.arguments == "root=/dev/xvda1 ro");
    REQUIRE(read_file(told.kernel) == test_kernel());
    const Bytes initrd = read_file(told.ramdisk.value());
    REQUIRE(std::ranges::equal(ByteView(initrd).first(1001), Bytes(1001, 0x44)));
    const EventLog log = expect(read_event_log(recorder->recorded().value().log));
    REQUIRE(log == predicted(uki, std::nullopt, ""));
    REQUIRE(log.events.back().digests == expect(digests_of(initrd, all_banks())));
    REQUIRE(start({"--kernel=" + file("linux.efi", uki), "--ramdisk=" + file("initrd", initrd)}).status == 1);
}

TEST_CASE_METHOD(LaunchHost, "what is started is what was measured, whatever becomes of the originals") {
    const std::string kernel = file("vmlinuz", test_kernel());
    recorder->meanwhile = [&]() -> Result<> {
        write_file(kernel, test_text("another kernel"));
        return {};
    };
    REQUIRE(start({"--kernel=" + kernel}).status == 0);
    REQUIRE(read_file(kernel) == test_text("another kernel"));
    REQUIRE(read_file(answer().kernel) == test_kernel());
}

TEST_CASE_METHOD(LaunchHost, "images that are damaged or hostile are refused, and leave nothing") {
    Bytes cut_off = test_kernel();
    cut_off.resize(1000);
    auto overlapping = test_kernel();
    put(overlapping, PeOffsets::kTable + 40 + 20, 0x500, 4);
    auto twice = uki_parts();
    twice.push_back({".initrd", Bytes(10)});
    auto bomb = uki_parts();
    std::ranges::find(bomb, std::string_view(".initrd"), &TestSection::name)->virtual_size = 0xc000'0000;
    const std::pair<Bytes, const char *> cases[] = {
        {Bytes{'M', 'Z'}, "the PE image is damaged"},
        {cut_off, "the PE image is damaged"},
        {damaged_kernel(0x3c, 0xfffffff0, 4), "no PE header"},
        {damaged_kernel(PeOffsets::kSizeOfHeaders, 0x7fffffff, 4), "headers"},
        {overlapping, "overlap"},
        {pe_image(twice), "2 sections .initrd"},
        {pe_image(bomb), "claimed that are not in the file"},
    };
    for (const auto &[content, error] : cases) check_refused(start({"--kernel=" + file("vmlinuz", content)}), error);
}

TEST_CASE_METHOD(LaunchHost, "what is not a file of a reasonable size is refused, and leaves nothing") {
    const std::string sparse = file("sparse", test_kernel());
    std::filesystem::resize_file(sparse, 2048UL * 1024 * 1024);
    const std::string pipe = directory / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const std::string kernel = file("vmlinuz", test_kernel());
    const std::pair<std::vector<std::string>, const char *> cases[] = {
        {{"--kernel=" + sparse}, "at most 1073741824 can be measured"},
        {{"--kernel=" + kernel, "--ramdisk=" + sparse}, "at most 1073741824 can be measured"},
        {{"--kernel=" + file("empty", {})}, "is empty"},
        {{"--kernel=" + pipe}, "not a regular file"},
        {{"--kernel=/dev/zero"}, "not a regular file"},
        {{"--kernel=" + directory.path()}, "not a regular file"},
        {{"--kernel=/nonexistent/vmlinuz"}, "/nonexistent/vmlinuz cannot be read: No such file"},
        {{"--kernel=" + kernel, "--ramdisk=/nonexistent"}, "/nonexistent cannot be read"},
    };
    for (const auto &[options, error] : cases) check_refused(start(options), error);
}

TEST_CASE_METHOD(LaunchHost, "a command line that Xen would cut is refused, wherever it comes from") {
    const std::string kernel = file("vmlinuz", test_kernel());
    check_refused(start({"--kernel=" + kernel, "--args=" + std::string(1024, 'a')}), "has 1024 bytes");
    auto parts = uki_parts();
    std::ranges::find(parts, std::string_view(".cmdline"), &TestSection::name)->content = Bytes(1024, 'a');
    check_refused(start({"--kernel=" + file("linux.efi", pe_image(parts))}), "has 1024 bytes");
    check_refused(start({"--kernel=" + kernel, "--args=\xff"}), "no UTF-8");
    REQUIRE(start({"--kernel=" + kernel, "--args=" + std::string(1023, 'a')}).status == 0);
}

TEST_CASE_METHOD(LaunchHost, "without a record nothing is started") {
    const std::string kernel = "--kernel=" + file("vmlinuz", test_kernel());
    recorder->meanwhile = [] { return fail(ErrorCode::kRefused, "its TPM is on"); };
    check_refused(start({kernel}), "does not record the launch of domain 7: its TPM is on");
    recorder.reset();
    check_refused(start({kernel}),
                  "nobody serves org.xenvtpm.Backend1: the daemon does not run; see: systemctl status");
    Launch lonely = command({kernel});
    lonely.environment = {{"DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent"}};
    check_refused(::run(lonely), "does not record the launch of domain 7");
}

TEST_CASE_METHOD(LaunchHost, "a place that is not ours alone is refused") {
    const std::string kernel = "--kernel=" + file("vmlinuz", test_kernel());
    ::chmod(place.c_str(), 0770);
    check_refused(start({kernel}), "not a directory that only this user writes to");
    ::chmod(place.c_str(), 0700);
    const std::string elsewhere = directory / "elsewhere";
    std::filesystem::create_directory(elsewhere);
    std::filesystem::remove(place);
    REQUIRE(start({kernel}).status == 1);
    std::filesystem::create_directory_symlink(elsewhere, place);
    check_refused(start({kernel}), "no directory for a launch");
}

TEST_CASE_METHOD(LaunchHost, "what a former launch left does no harm, and nothing is written through a link") {
    const std::string victim = file("victim", test_text("mine"));
    for (const char *name : {"/kernel", "/ramdisk", "/pygrub"}) std::filesystem::create_symlink(victim, place + name);
    const std::string kernel = "--kernel=" + file("vmlinuz", test_kernel());
    REQUIRE(start({kernel, "--ramdisk=" + file("initrd", Bytes(9))}).status == 0);
    REQUIRE(read_file(answer().kernel) == test_kernel());
    std::filesystem::remove_all(place);
    std::filesystem::create_directory(place);
    std::filesystem::remove(output);
    std::filesystem::create_symlink(victim, output);
    REQUIRE(start({kernel}).status == 1);
    REQUIRE(read_file(victim) == test_text("mine"));
    REQUIRE(std::filesystem::is_empty(place));
}

TEST_CASE_METHOD(LaunchHost, "the command line is measured as libxl reads it: without space before it") {
    REQUIRE(start({"--kernel=" + file("vmlinuz", test_kernel()), "--args= \t root=/dev/xvda  ro "}).status == 0);
    REQUIRE(answer().arguments == "root=/dev/xvda  ro ");
    REQUIRE(expect(read_event_log(recorder->recorded().value().log)) ==
            predicted(test_kernel(), std::nullopt, "root=/dev/xvda  ro "));
}

TEST_CASE_METHOD(LaunchHost, "guests that are started at one moment have each their own files and their own record") {
    constexpr std::uint32_t kFirst = 100;
    constexpr std::uint32_t kGuests = 8;
    const std::string kernel = "--kernel=" + file("vmlinuz", test_kernel());
    const auto line = [](std::uint32_t domain) { return fmt::format("root=/dev/xvda domain={}", domain); };
    const auto initrd = [](std::uint32_t domain) { return Bytes(100'000, static_cast<std::uint8_t>(domain)); };
    std::vector<Process> launchers;
    for (std::uint32_t domain = kFirst; domain < kFirst + kGuests; ++domain) {
        start_of(domain);
        const std::string ramdisk = file(fmt::format("initrd.{}", domain).c_str(), initrd(domain));
        launchers.emplace_back(command({kernel, "--ramdisk=" + ramdisk, "--args=" + line(domain)}));
    }
    for (Process &launcher : launchers) REQUIRE(launcher.wait() == 0);
    const auto logs = recorder->logs();
    REQUIRE(logs.size() == kGuests);
    for (std::uint32_t domain = kFirst; domain < kFirst + kGuests; ++domain) {
        start_of(domain);
        const Answer told = answer();
        const Bytes ramdisk = read_file(told.ramdisk.value());
        REQUIRE(ramdisk == initrd(domain));
        REQUIRE(told.arguments == line(domain));
        REQUIRE(expect(read_event_log(logs.at(domain))) == predicted(test_kernel(), ByteView(ramdisk), line(domain)));
    }
}

TEST_CASE_METHOD(LaunchHost, "a launch that is killed half way leaves nothing") {
    std::atomic<pid_t> launcher = 0;
    recorder->meanwhile = [&]() -> Result<> {
        while (launcher == 0) std::this_thread::yield();
        ::kill(launcher, SIGKILL);
        return fail(ErrorCode::kUnavailable, "killed");
    };
    Process process(command({"--kernel=" + file("vmlinuz", test_kernel()), "--ramdisk=" + file("initrd", Bytes(9))}));
    launcher = process.pid();
    const int status = process.wait();
    REQUIRE(WIFSIGNALED(status));
    REQUIRE(nothing_left());
}

}  // namespace vtpm::launch_test
