// SPDX-License-Identifier: Apache-2.0
// The engine's part in shared-protocol/event_log_command.hpp.
#pragma once

#include "base/bytes.hpp"

namespace vtpm {

bool is_event_log_command(ByteView command);

class EventLogCommand {
public:
    // The response, borrowed until the next call.
    ByteView answer(ByteView command);
    void set_log(ByteView log) { log_.assign(log.begin(), log.end()); }
    [[nodiscard]] const Bytes &log() const { return log_; }

private:
    ByteView fail(std::uint32_t code);

    Bytes log_;
    Bytes response_;
};

}  // namespace vtpm
