// SPDX-License-Identifier: Apache-2.0
// How soon a guest has the TPM that it had before, what it costs to leave it there, and what is left behind.
#include "tests/bench/pool.hpp"

using namespace vtpm;

namespace {

std::vector<pid_t> with(std::vector<pid_t> pids, pid_t one_more) {
    pids.push_back(one_more);
    return pids;
}

}  // namespace

// GUESTS of them at once.
TEST_CASE("guests") {
    const std::size_t count = size_of("GUESTS", 1);
    OurVtpms ours;
    const auto began = Clock::now();
    ours.create(count);
    nlohmann::json figures{{"guests", count}, {"new TPMs, seconds", seconds_since(began)}};
    ours.detach();
    Swtpms swtpms(count);
    for (std::size_t turn = size_of("TURNS", 10); turn > 0; --turn) {
        figures["start, seconds"]["ours"].push_back(ours.attach(count));
        figures["PSS, KiB"]["ours"].push_back(memory_kib("Pss", with(ours.engines(), ours.zygote())));
        if (turn > 1) ours.detach();
        figures["start, seconds"]["swtpm"].push_back(swtpms.start());
        figures["PSS, KiB"]["swtpm"].push_back(memory_kib("Pss", swtpms.pids()));
        swtpms.stop();
    }

    const std::chrono::seconds idle(size_of("IDLE", 10));
    std::map<std::string, std::vector<pid_t>> processes{{"daemon", {::getpid()}},
                                                        {"zygote", {ours.zygote()}},
                                                        {"engines", ours.engines()},
                                                        {"manager", {ours.manager()}}};
    ours.idle(std::chrono::seconds(1));
    for (const auto &[name, pids] : processes) figures["wake-ups"][name] = -static_cast<std::int64_t>(sleeps(pids));
    ours.idle(idle);
    for (const auto &[name, pids] : processes) {
        auto &count_of = figures["wake-ups"][name];
        count_of = count_of.get<std::int64_t>() + static_cast<std::int64_t>(sleeps(pids));
    }
    // The daemon's only sleep is ours: until the time is over.
    figures["wake-ups"]["daemon"] = figures["wake-ups"]["daemon"].get<std::int64_t>() - 1;
    figures["PSS of the manager, KiB"] = memory_kib("Pss", {ours.manager()});
    figures["PSS of the daemon and its guests, KiB"] = memory_kib("Pss", {::getpid()});
    ours.detach();
    print(figures);
}

// In eleven steps. What is a cache fills and stays.
TEST_CASE("growth") {
    OurVtpms ours;
    ours.attach(1);
    nlohmann::json figures;

    const std::size_t commands = size_of("COMMANDS", 200'000);
    const std::vector<Bytes> kinds{commands::pcr_read(10), commands::pcr_extend(10, 1), commands::get_random()};
    for (std::size_t i = 0; i <= commands; ++i) {
        if (i % (commands / 10) == 0) figures["engine"].push_back(memory_kib("Anonymous", ours.engines()));
        require_success(ours.guest().execute(kinds[i % kinds.size()]));
    }
    const std::size_t cycles = size_of("CYCLES", 500);
    for (std::size_t i = 0; i <= cycles; ++i) {
        if (i % (cycles / 10) == 0) {
            figures["daemon"].push_back(memory_kib("Anonymous", {::getpid()}));
            figures["zygote"].push_back(memory_kib("Anonymous", {ours.zygote()}));
            figures["manager"].push_back(memory_kib("Anonymous", {ours.manager()}));
        }
        ours.detach();
        ours.attach(1);
    }
    print({{"commands", commands}, {"attaches", cycles}, {"anonymous memory, KiB", figures}});
}
