// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/become_engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "backend/engine/command_limit.hpp"
#include "backend/engine/engine.hpp"
#include "backend/engine/patient_malloc.hpp"
#include "backend/engine/sandbox.hpp"
#include "base/log.hpp"

namespace vtpm {
namespace {

// Of processor time. The longest that a guest may ask for, an RSA key, takes some seconds.
constexpr std::chrono::seconds kCommandPeriod{60};

Result<> tell_ready(int control, const Result<> &started) {
    return send(control, started ? EngineReady{} : EngineReady{started.error().code, started.error().text});
}

// cgroups(7): "0" is who writes.
Result<> enter_group(const UniqueFd &group) {
    if (group && ::write(group.get(), "0", 1) != 1) return fail_errno("enter the control group");
    return {};
}

Result<> confine(const StartEngine &order, Result<> (*filter)()) {
    VTPM_TRY(become_user(order.uid));
    VTPM_TRY(give_up_paths());
    VTPM_TRY(limit_commands(kCommandPeriod));
    return filter();
}

Result<> serve_guest(const StartEngine &order, UniqueFd control, UniqueFd state_channel, Meter &meter) {
    ManagerChannel channel(std::move(state_channel));
    auto tpm = order.beginning == Beginning::kResume ? Tpm::resume(order.version, std::move(channel), order.incarnation)
                                                     : Tpm::power_on(order.version, std::move(channel));
    Result<> started = tpm ? Result<>{} : Result<>{tl::make_unexpected(tpm.error())};
    (void)tell_ready(control.get(), started);  // a daemon that has let go does not hear it
    if (!tpm) return started;
    return Engine(std::move(control), std::move(*tpm), meter).run();
}

// Closes what the zygote has of other engines and for itself. Nothing is written: what engines share with it stays
// shared.
Result<> close_all_but(std::array<int, 2> kept) {
    std::ranges::sort(kept);
    unsigned first = STDERR_FILENO + 1;
    for (const int fd : kept) {
        const auto next = static_cast<unsigned>(fd);
        if (first < next && ::close_range(first, next - 1, 0) != 0) return fail_errno("close_range");
        first = next + 1;
    }
    return ::close_range(first, ~0U, 0) == 0 ? Result<>{} : fail_errno("close_range");
}

// Confined before the first byte of state or of a guest is read.
Result<> run_engine(const EngineProgram &program, const StartEngine &order, UniqueFd control, UniqueFd state_channel,
                    const UniqueFd &group, Meter &meter) {
    Result<> confined = enter_group(group);
    if (confined) confined = close_all_but({control.get(), state_channel.get()});
    if (confined) confined = confine(order, program.filter);
    if (!confined) {
        (void)tell_ready(control.get(), confined);
        return confined;
    }
    return program.run(order, std::move(control), std::move(state_channel), meter);
}

}  // namespace

EngineProgram engine_program() { return {allow_only_engine_calls, serve_guest}; }

void be_engine(const EngineProgram &program, const StartEngine &order, UniqueFd control, UniqueFd state_channel,
               const UniqueFd &group, const UniqueFd &log, Meter &meter) noexcept {
    wait_for_memory();
    if (::dup2(log.get(), STDERR_FILENO) < 0) ::_exit(1);
    const Result<> ended = run_engine(program, order, std::move(control), std::move(state_channel), group, meter);
    if (!ended) log::error("{}", ended.error().text);
    ::_exit(ended ? 0 : 1);
}

}  // namespace vtpm
