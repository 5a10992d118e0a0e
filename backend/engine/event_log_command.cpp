// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/event_log_command.hpp"

#include <algorithm>

#include "backend/engine/vendor_command.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kOffsetTooLarge = 0x1c4;  // TPM_RC_VALUE + P + 1

}  // namespace

bool is_event_log_command(ByteView command) {
    return command.size() >= TPM_MESSAGE_HEADER_SIZE && tpm_code(command) == kReadEventLog;
}

ByteView EventLogCommand::answer(ByteView command) {
    const ByteView parameters = command.subspan(TPM_MESSAGE_HEADER_SIZE);
    if (big_endian(command.first(2)) != kTpmNoSessions) return fail(kAuthContext);
    if (tpm_size(command) != command.size() || parameters.size() != 4) return fail(kCommandSize);
    const std::size_t offset = big_endian(parameters);
    if (offset > log_.size()) return fail(kOffsetTooLarge);
    const ByteView part = ByteView(log_).subspan(offset, std::min(kVendorPart, log_.size() - offset));
    const BigEndian given = BigEndian().number(log_.size(), 4).sized(part);
    return response_ = tpm_message(kTpmNoSessions, kSuccess, given.bytes());
}

ByteView EventLogCommand::fail(std::uint32_t code) { return response_ = tpm_message(kTpmNoSessions, code); }

}  // namespace vtpm
