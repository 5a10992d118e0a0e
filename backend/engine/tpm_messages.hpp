// SPDX-License-Identifier: Apache-2.0
// The few TPM messages that the engine itself makes: what a firmware would send before an operating system runs, and
// the error responses for what never reaches libtpms.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

// Why a command is answered here. Each TPM family has its own number for it.
enum class GuestFault : std::uint8_t {
    kMalformed,      // TPM_RC_COMMAND_SIZE (Part 2, 6.6.3), TPM_BAD_PARAM_SIZE
    kLocality,       // TPM_RC_LOCALITY, TPM_BAD_LOCALITY: only locality 0 is granted
    kNvUnavailable,  // TPM_RC_NV_UNAVAILABLE, TPM_IOERROR: the change could not be made durable
    kFailure,        // TPM_RC_FAILURE, TPM_FAIL: libtpms itself gave up
};

Bytes error_response(TpmVersion version, GuestFault fault);

// The return code of a response; of one that is too short to have one, a failure.
std::uint32_t return_code(ByteView response);

// The commands that stand one after the other in `commands`, each as long as its header says. kInvalid: one is not.
Result<std::vector<Bytes>> split_commands(ByteView commands);

// What firmware sends at power-on: start up; and, before the guest comes, take the platform's authority away from it
// (2.0: the platform hierarchy is disabled, Part 3, 24.2; 1.2: physical presence is locked).
Bytes start_up_command(TpmVersion version);
Bytes close_platform_command(TpmVersion version);
// TPM 1.2: what firmware sends after start_up_command(), at each power-on. Makes physical presence a matter of commands
// for good (TPM_BAD_PARAMETER: it was decided before), asserts it for now (fails only where that is not so), and with
// it enables and activates the TPM, which takes effect at the next TPM_Startup.
Bytes settle_presence_12();
Bytes assert_presence_12();
std::vector<Bytes> enable_commands_12();
// TPM_GetCapability of the permanent flags, and whether its response says that the TPM is enabled and active.
Bytes read_flags_12();
bool is_enabled_12(ByteView response);
// TPM_CreateEndorsementKeyPair, RSA 2048; and what its return code says of a TPM that does not make one.
Bytes create_endorsement_key_12();
bool has_endorsement_key_12(std::uint32_t code);  // TPM_DISABLED_CMD
bool stays_disabled_12(std::uint32_t code);       // TPM_DEACTIVATED, TPM_DISABLED: nobody can enable it any more
// TPM2_Shutdown(CLEAR): without it, each power-on counts towards dictionary-attack lockout (Part 1, 19.8.6).
std::vector<Bytes> power_off_commands(TpmVersion version);

// The Clock of a TPM 2.0, in milliseconds, and whether no later one was ever told (Part 2, 10.11.1).
struct TpmClock {
    std::uint64_t value = 0;
    bool safe = true;
};
Bytes read_clock_command();
// Of a response to that; one that is none is safe.
TpmClock clock_in(ByteView response);
// TPM2_ClockSet by the platform. Nothing if a TPM would not take that value (Part 3, 29.2).
std::optional<Bytes> set_clock_command(std::uint64_t value);
// Not one of the commands that a guest sends most, and whose answers depend on Clock in no way.
bool may_tell_clock(ByteView command);
// A TPM2_ClockSet that was done.
bool sets_clock(ByteView command, ByteView response);

// TPM_RC_AUTH_FAIL, of whichever session (Part 2, 6.6.3): the tries of dictionary attacks (Part 1, 19.8).
bool is_failed_try(ByteView response);

}  // namespace vtpm
