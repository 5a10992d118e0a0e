// SPDX-License-Identifier: Apache-2.0
// What a fork of the zygote does to become an engine.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/messages.hpp"
#include "shared-protocol/meter.hpp"

namespace vtpm {

// What an engine does when it has the rest of its confinement: its system call filter, then its work. (The tests have
// another, which attacks.)
struct EngineProgram {
    Result<> (*filter)();
    Result<> (*run)(const StartEngine &order, UniqueFd control, UniqueFd state_channel, Meter &meter);
};
EngineProgram engine_program();

// `log` becomes its standard error; `group` may be empty. noexcept: nothing of the zygote's may catch what is thrown
// here.
[[noreturn]] void be_engine(const EngineProgram &program, const StartEngine &order, UniqueFd control,
                            UniqueFd state_channel, const UniqueFd &group, const UniqueFd &log, Meter &meter) noexcept;

}  // namespace vtpm
