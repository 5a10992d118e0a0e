// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/meter_pages.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include "tests/catch.hpp"

#include "backend/device/meters.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {
namespace {

UniqueFd duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

std::size_t mapped_meters() {
    std::ifstream maps("/proc/self/maps");
    std::size_t bytes = 0;
    for (std::string line; std::getline(maps, line);) {
        if (line.find("xen-vtpm-meters") == std::string::npos) continue;
        const std::size_t dash = line.find('-');
        bytes += std::stoull(line.substr(dash + 1), nullptr, 16) - std::stoull(line, nullptr, 16);
    }
    return bytes;
}

}  // namespace

TEST_CASE("an engine has its own meter, and no other's") {
    auto pages = MeterPages::create(8);
    REQUIRE(pages);
    const auto meters = Meters::map(duplicate(pages->fd()));
    REQUIRE(meters);
    const std::uint32_t first = pages->take();
    const std::uint32_t second = pages->take();
    CHECK(first != second);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        pages->keep_only(second).count(std::chrono::microseconds(5), 0x922);
        // What this process reads by is the parent's.
        ::_exit(mapped_meters() == 8 * kMeterSize + kMeterSize ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(meters->read(first)->commands == 0);
    CHECK(meters->read(second)->commands == 1);
    CHECK(meters->read(second)->errors.at(0x922) == 1);
    CHECK_FALSE(meters->read(8));
    CHECK_FALSE(meters->read(kNoMeter));
    // The next one that gets it begins at nothing.
    pages->give_back(second);
    CHECK(pages->take() == second);
    CHECK(meters->read(second)->commands == 0);
}

TEST_CASE("engines beyond the last meter count for nobody") {
    auto pages = MeterPages::create(1);
    REQUIRE(pages);
    CHECK(pages->take() == 0);
    CHECK(pages->take() == kNoMeter);
    pages->give_back(kNoMeter);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        pages->keep_only(kNoMeter).count(std::chrono::microseconds(5), 0);
        ::_exit(mapped_meters() == 0 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("meters that may be cut are not read") {
    const UniqueFd file(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(file.get(), kMeterSize) == 0);
    CHECK(Meters::map(file).error().code == ErrorCode::kInvalid);
    CHECK_FALSE(Meters::map(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))));
    CHECK_FALSE(Meters::map(UniqueFd()));
    // Nor can that of a zygote be cut.
    const auto pages = MeterPages::create(2);
    REQUIRE(pages);
    CHECK(::ftruncate(pages->fd(), 0) != 0);
}

}  // namespace vtpm
