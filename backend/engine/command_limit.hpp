// SPDX-License-Identifier: Apache-2.0
// Ends the process when one command takes too much processor time: a guest may ask for what never ends.
#pragma once

#include <chrono>

#include "base/result.hpp"

namespace vtpm {

// A command that is under way at two ends of `period` (of processor time) ends the process with kCommandTookTooLong:
// after one period at least, two at most. A timer that only runs with the process: no system call for a command, no
// wake-up.
Result<> limit_commands(std::chrono::seconds period);

// Exists while a command is under way.
class CommandUnderWay {
public:
    CommandUnderWay();
    ~CommandUnderWay();
    CommandUnderWay(const CommandUnderWay &) = delete;
    CommandUnderWay &operator=(const CommandUnderWay &) = delete;
};

}  // namespace vtpm
