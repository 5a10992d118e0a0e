// SPDX-License-Identifier: Apache-2.0
// Changes that must last: how many in a second, beside what the disk makes durable.
#include <fcntl.h>

#include "tests/bench/pool.hpp"

using namespace vtpm;

namespace {

constexpr std::uint32_t kIndex = 0x01500001;
constexpr std::uint16_t kSize = 32;

// The least that a change needs: a few bytes at the end of a file, made durable. Per second.
double appends(const std::string &path, std::chrono::milliseconds time) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    const std::vector<std::uint8_t> bytes(512, 1);
    std::uint64_t written = 0;
    const auto end = Clock::now() + time;
    for (; Clock::now() < end; ++written)
        if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
            ::fdatasync(file.get()) != 0)
            throw std::runtime_error("fdatasync " + path);
    return static_cast<double>(written) / std::chrono::duration<double>(time).count();
}

}  // namespace

TEST_CASE("durable") {
    const std::chrono::milliseconds time(size_of("MILLISECONDS", 2000));
    const std::vector<std::size_t> sizes{1, 100};
    // The same data again would be no change.
    const std::vector<Bytes> writes{commands::nv_write(kIndex, Bytes(kSize, 1)),
                                    commands::nv_write(kIndex, Bytes(kSize, 2))};
    OurVtpms ours;
    ours.create(sizes.back());
    for (LoopbackGuest &guest : ours.guests()) require_success(guest.execute(commands::nv_define(kIndex, kSize)));

    nlohmann::json figures;
    for (std::size_t turn = size_of("TURNS", 3); turn > 0; --turn) {
        figures["fdatasync"]["per second"].push_back(appends(ours.directory() + "/appended", time));
        for (const std::size_t size : sizes) {
            nlohmann::json &row = figures[std::to_string(size)];
            const std::map<std::string, std::vector<pid_t>> processes{
                {"manager", {ours.manager()}}, {"engines", ours.engines()}, {"clients", {::getpid()}}};
            std::map<std::string, double> before;
            for (const auto &[name, pids] : processes) before[name] = cpu_seconds(pids);
            const MachineTime machine = machine_time();
            const auto began = Clock::now();
            row["per second"].push_back(throughput(ours.guests(), size, writes, time));
            const double took = seconds_since(began);
            const MachineTime after = machine_time();
            for (const auto &[name, pids] : processes)
                row["cores"][name].push_back((cpu_seconds(pids) - before.at(name)) / took);
            row["machine busy"].push_back(1 - (after.idle - machine.idle) / (after.all - machine.all));
        }
    }
    print(figures);
}
