// SPDX-License-Identifier: Apache-2.0
// One TPM (so: one Tpm per process, see Libtpms), and the rule that a change of its permanent state is answered only
// after the manager has made it durable.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "backend/engine/attestation_command.hpp"
#include "backend/engine/event_log_command.hpp"
#include "backend/engine/libtpms.hpp"
#include "backend/engine/state_channel.hpp"
#include "backend/engine/tpm_messages.hpp"
#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

class Tpm {
public:
    // A power-on: loads the state, or makes a new TPM if, and only if, the inventory says that there was none;
    // then does what a firmware would, and what the manager says. PCRs are zero afterwards, but for
    // what that extends.
    static Result<std::unique_ptr<Tpm>> power_on(TpmVersion version, ManagerChannel channel);
    // Goes on where suspend() ended, once: nothing that its guest relied on has changed. kRefused: there is nothing to
    // go on with, or nothing of the life before `incarnation`.
    static Result<std::unique_ptr<Tpm>> resume(TpmVersion version, ManagerChannel channel,
                                               const Incarnation &incarnation);
    ~Tpm() = default;
    Tpm(const Tpm &) = delete;
    Tpm &operator=(const Tpm &) = delete;

    // Executes a command of at least a TPM header. The response is borrowed until the next call. A change that could
    // not be made durable is undone, and the response says so. kRefused: the state could not be undone either; this
    // process must end, for what the TPM knows no longer is what is stored.
    Result<ByteView> execute(ByteView command, std::uint8_t locality);
    ByteView answer_fault(GuestFault fault);
    // After the answer to a command that cannot have told Clock: it is stored once a minute, and nobody waits for that.
    void store_clock_if_due();

    // Called when the manager is lost while a change is to be stored: waits for the channel to the next one, hands it
    // to `take` and returns what that says; an error when it has waited long enough. After one, and until
    // replace_channel(), no command waits.
    using Take = std::function<Result<>(ManagerChannel)>;
    using AwaitManager = std::function<Result<>(const Take &take)>;
    void set_await_manager(AwaitManager await_manager) { await_manager_ = std::move(await_manager); }
    // The manager was restarted. What it has is what counts: if the last store was not acknowledged it may have
    // happened all the same, and the TPM then takes that state.
    Result<> replace_channel(ManagerChannel channel);
    // How many states were made durable since it is here.
    [[nodiscard]] std::uint64_t stores() const { return stores_; }
    [[nodiscard]] bool can_store() const { return channel_.is_open(); }
    // So that can_store() knows of a manager that has gone.
    void look_at_channel() { channel_.look(); }

    // An orderly end. PCRs and sessions are gone afterwards.
    Result<> power_off();
    // The other orderly end: all that the TPM knows is stored, for resume().
    Result<> suspend(const Incarnation &incarnation);

private:
    Tpm(TpmVersion version, ManagerChannel channel)
        : version_(version), libtpms_(version), channel_(std::move(channel)) {}

    Result<> load();
    Result<bool> prepare();  // whether TPM_Startup was done
    Result<> enable_12();
    Result<> make_endorsement_key_12();
    Result<> reissue();
    Result<> obey_manufacturer();
    Result<> complete_start_up(bool after_reissue);
    Result<> close_platform();
    Result<> advance_clock(bool after_reissue);
    Result<> take_state();
    [[nodiscard]] bool clock_is_due() const;
    [[nodiscard]] bool keep_state();
    Result<> run_firmware(const std::vector<Bytes> &commands);
    ByteView process(ByteView command);
    Result<> commit();
    Result<> commit_to_next_manager();
    Result<SecretBytes> take_channel(ManagerChannel channel);
    Result<> undo();
    Result<> start_with(ByteView volatile_state);

    TpmVersion version_;
    Libtpms libtpms_;
    ManagerChannel channel_;
    AwaitManager await_manager_;
    std::uint64_t sequence_ = 0;                      // of the state that is known to be durable
    std::chrono::steady_clock::time_point stored_{};  // when it became that
    std::uint64_t stores_ = 0;
    // What cannot be undone could not be stored: a failed try of an authorization, since guessing would be free; Clock,
    // which is of the volatile state too. The TPM knows it, and does nothing else until it is stored.
    bool must_store_ = false;
    bool may_wait_ = true;  // for the next manager: no command has, since the last one's channel was taken
    Bytes fault_;
    AttestationCommand attestation_;
    EventLogCommand event_log_;
};

}  // namespace vtpm
