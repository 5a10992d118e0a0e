// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/big_endian.hpp"
#include "shared-protocol/tpmif.h"

namespace vtpm {
namespace {

// libtpms 0.9 stores nothing for Clock alone. So that Clock never goes back, it is stored this often, if anyone asks
// the TPM for anything, and is advanced by more after an end without TPM2_Shutdown.
constexpr std::chrono::milliseconds kClockInterval = std::chrono::minutes(1);
constexpr std::chrono::milliseconds kClockLost = 2 * kClockInterval;  // a guest may make Clock run faster, by a fifth

// A guest's memory and what its TPM knows belong together: whose life a volatile state is of stands before it.
Bytes owner_of(const Uuid &domain, std::uint32_t life) { return BigEndian().raw(domain.bytes).u32(life).bytes(); }

// Between the two, if there is one: an event log, with its size.
constexpr std::uint32_t kWithEventLog = 0x8000'0000;  // in `life`, which is a small number

struct Suspended {
    ByteView event_log;
    ByteView state;
};

// None: it is not of this life of this domain, or damaged.
std::optional<Suspended> suspended_by(const Uuid &domain, std::uint32_t life, ByteView stored) {
    const auto begins_with = [&](const Bytes &owner) {
        return stored.size() >= owner.size() && std::ranges::equal(stored.first(owner.size()), owner);
    };
    const Bytes owner = owner_of(domain, life);
    if (begins_with(owner)) return Suspended{{}, stored.subspan(owner.size())};
    if (!begins_with(owner_of(domain, life | kWithEventLog))) return std::nullopt;
    ByteView rest = stored.subspan(owner.size());
    if (rest.size() < 4) return std::nullopt;
    const std::size_t size = big_endian(rest.first(4));
    rest = rest.subspan(4);
    if (size > rest.size()) return std::nullopt;
    return Suspended{rest.first(size), rest.subspan(size)};
}

}  // namespace

Result<std::unique_ptr<Tpm>> Tpm::power_on(TpmVersion version, ManagerChannel channel) {
    std::unique_ptr<Tpm> tpm(new Tpm(version, std::move(channel)));
    VTPM_TRY(tpm->load());
    VTPM_TRY(tpm->libtpms_.start());
    VTPM_ASSIGN(const bool is_started, tpm->prepare());
    VTPM_ASSIGN(const auto order, tpm->channel_.power_on());
    if (order.reissue_first) VTPM_TRY(tpm->reissue());
    if (!is_started) VTPM_TRY(tpm->run_firmware({start_up_command(version)}));
    VTPM_TRY(tpm->complete_start_up(order.reissue_first));
    VTPM_TRY(tpm->run_firmware(order.commands));
    tpm->event_log_.set_log(order.event_log);
    VTPM_TRY(tpm->commit());
    return tpm;
}

Result<std::unique_ptr<Tpm>> Tpm::resume(TpmVersion version, ManagerChannel channel, const Incarnation &incarnation) {
    std::unique_ptr<Tpm> tpm(new Tpm(version, std::move(channel)));
    VTPM_TRY(tpm->load());
    VTPM_ASSIGN(const ManagerChannel::Loaded suspended, tpm->channel_.load(StateKind::kVolatile));
    if (tpm->libtpms_.may_manufacture || suspended.is_new)
        return fail(ErrorCode::kRefused,
                    "its guest was restored, but what the TPM knew then (PCRs, sessions) is not here: it was restored "
                    "before, or the guest has been started anew since it was saved; power cycle the guest");
    const auto found = suspended_by(incarnation.domain, incarnation.number - 1, suspended.state.view());
    if (!found)
        return fail(ErrorCode::kRefused,
                    "what the TPM knew when it was suspended is of another guest than the one that was restored, or of "
                    "another time; power cycle the guest");
    VTPM_TRY(tpm->start_with(found->state));
    tpm->event_log_.set_log(found->event_log);
    return tpm;
}

// A new TPM 2.0 as the manager says; a TPM 1.2, at each power-on, as its firmware would: that is over without another
// start of libtpms, which takes it a tenth of a second, where nothing had to be changed.
Result<bool> Tpm::prepare() {
    if (version_ == TpmVersion::k12)
        VTPM_TRY(enable_12());
    else if (libtpms_.may_manufacture)
        VTPM_TRY(obey_manufacturer());
    else
        return false;
    if (version_ == TpmVersion::k12 && !libtpms_.changed) return true;
    VTPM_TRY(commit());
    libtpms_.may_manufacture = false;
    libtpms_.stop();
    VTPM_TRY(start_with({}));
    return false;
}

// TPM_OwnerClear leaves a TPM disabled and deactivated, which ends by physical presence only, and no guest has that.
Result<> Tpm::enable_12() {
    VTPM_TRY(run_firmware({start_up_command(version_)}));
    (void)process(settle_presence_12());
    if (return_code(process(assert_presence_12())) != 0) return {};
    if (is_enabled_12(process(read_flags_12()))) return {};  // to enable it again would be a store
    return run_firmware(enable_commands_12());
}

// Its owner needs one. TPMs that were made without get theirs now.
Result<> Tpm::make_endorsement_key_12() {
    const std::uint32_t code = return_code(process(create_endorsement_key_12()));
    if (code == 0 || has_endorsement_key_12(code) || stays_disabled_12(code)) return {};
    return fail(ErrorCode::kRefused, "the TPM does not make its endorsement key: {:#x}", code);
}

// Its certificates in NV. If they do not get there the guest is powered on with those that it has; the manager tells
// why.
Result<> Tpm::reissue() {
    libtpms_.changed.reset();
    if (obey_manufacturer())
        VTPM_TRY(commit());
    else
        libtpms_.changed.reset();
    libtpms_.stop();
    return start_with({});
}

Result<> Tpm::obey_manufacturer() {
    ByteView response;
    for (;;) {
        VTPM_ASSIGN(const Bytes command, channel_.manufacture(response));
        if (command.empty()) return {};
        response = process(command);
    }
}

Result<> Tpm::load() {
    auto loaded = channel_.load(StateKind::kPermanent);
    if (!loaded) return tl::make_unexpected(std::move(loaded).error());
    libtpms_.may_manufacture = loaded->is_new;
    libtpms_.algorithms = std::move(loaded->algorithms);
    libtpms_.durable = std::move(loaded->state);
    sequence_ = loaded->sequence;
    return {};
}

Result<> Tpm::complete_start_up(bool after_reissue) {
    VTPM_TRY(version_ == TpmVersion::k20 ? advance_clock(after_reissue) : make_endorsement_key_12());
    return close_platform();
}

// Presence that no command asserts any more is closed: until they settled it themselves (enable_12), guests could.
Result<> Tpm::close_platform() {
    const std::uint32_t code = return_code(process(close_platform_command(version_)));
    if (code == 0 || (version_ == TpmVersion::k12 && return_code(process(assert_presence_12())) != 0)) return {};
    return fail(ErrorCode::kRefused, "the TPM's platform is not closed: {:#x}", code);
}

// After an end without TPM2_Shutdown, Clock is what it was at the last store, and "not safe" (Part 1, 36.3): to later
// than anything that was told since, which makes it safe. After a dialogue with the manager its word "safe" means
// nothing: that may have lasted until libtpms itself took the old Clock for good.
Result<> Tpm::advance_clock(bool after_reissue) {
    const TpmClock clock = clock_in(process(read_clock_command()));
    if (clock.safe && !after_reissue) return {};
    const auto set = set_clock_command(clock.value + static_cast<std::uint64_t>(kClockLost.count()));
    if (!set) return {};  // in some million years, or because the guest's owner set it to that
    VTPM_TRY(run_firmware({*set}));
    return take_state();
}

// The permanent state as it is now, Clock included, is to be stored.
Result<> Tpm::take_state() {
    VTPM_ASSIGN(libtpms_.changed, libtpms_.state(StateKind::kPermanent));
    return {};
}

bool Tpm::clock_is_due() const {
    return version_ == TpmVersion::k20 && std::chrono::steady_clock::now() - stored_ >= kClockInterval;
}

void Tpm::store_clock_if_due() {
    if (clock_is_due()) (void)keep_state();
}

// What the TPM knows and nobody acknowledged. If it cannot be stored now, then at a later command.
bool Tpm::keep_state() {
    if (!can_store() || !take_state()) return false;
    const bool stored = commit().has_value();
    libtpms_.changed.reset();
    return stored;
}

Result<> Tpm::run_firmware(const std::vector<Bytes> &commands) {
    for (const Bytes &command : commands) {
        if (const std::uint32_t code = return_code(process(command)); code != 0)
            return fail(ErrorCode::kRefused, "the TPM does not start up: command {:#04x} gave {:#x}", command[9], code);
    }
    return {};
}

ByteView Tpm::process(ByteView command) {
    const ByteView response = libtpms_.process(command);
    return response.size() < TPM_MESSAGE_HEADER_SIZE ? answer_fault(GuestFault::kFailure) : response;
}

ByteView Tpm::answer_fault(GuestFault fault) { return fault_ = error_response(version_, fault); }

Result<ByteView> Tpm::execute(ByteView command, std::uint8_t locality) {
    if (locality != 0) return answer_fault(GuestFault::kLocality);
    if (version_ == TpmVersion::k20 && is_attest_command(command)) return attestation_.answer(command, channel_);
    if (version_ == TpmVersion::k20 && is_event_log_command(command)) return event_log_.answer(command);
    if (must_store_ && !keep_state()) return answer_fault(GuestFault::kNvUnavailable);
    const ByteView response = process(command);
    const bool clock_set = version_ == TpmVersion::k20 && sets_clock(command, response);
    if (clock_set) VTPM_TRY(take_state());  // libtpms 0.9 does not ask for it
    if (!libtpms_.changed) {
        if (clock_is_due() && may_tell_clock(command)) (void)keep_state();
        return response;
    }
    Result<> stored = commit();
    if (!stored && !can_store() && std::exchange(may_wait_, false)) stored = commit_to_next_manager();
    if (stored) return response;
    if (clock_set || (version_ == TpmVersion::k20 && is_failed_try(response))) {
        libtpms_.changed.reset();
        must_store_ = true;
        return answer_fault(GuestFault::kNvUnavailable);
    }
    VTPM_TRY(undo());
    return answer_fault(GuestFault::kNvUnavailable);
}

Result<> Tpm::commit() {
    if (!libtpms_.changed) return {};
    const auto sequence = channel_.store(StateKind::kPermanent, libtpms_.changed->view());
    if (!sequence) return tl::make_unexpected(sequence.error());
    libtpms_.durable = std::move(*libtpms_.changed);
    libtpms_.changed.reset();
    must_store_ = false;
    sequence_ = *sequence;
    stored_ = std::chrono::steady_clock::now();
    ++stores_;
    return {};
}

// A manager that was lost has stored the change, though it could not say so, or has not.
Result<> Tpm::commit_to_next_manager() {
    if (!await_manager_) return fail(ErrorCode::kUnavailable, "nobody waits for a manager");
    SecretBytes stored;
    VTPM_TRY(await_manager_([&](ManagerChannel channel) -> Result<> {
        VTPM_ASSIGN(stored, take_channel(std::move(channel)));
        return {};
    }));
    const bool has_change = std::ranges::equal(stored.view(), libtpms_.changed->view());
    const bool lacks_change = std::ranges::equal(stored.view(), libtpms_.durable.view());
    libtpms_.durable = std::move(stored);
    if (lacks_change) return commit();
    if (!has_change) return fail(ErrorCode::kRefused, "the store has neither the state before nor the one after");
    libtpms_.changed.reset();
    must_store_ = false;
    return {};
}

// Back to the permanent state that is durable. PCRs, sessions and loaded objects stay as the command left them.
Result<> Tpm::undo() {
    libtpms_.changed.reset();
    VTPM_ASSIGN(const SecretBytes volatile_state, libtpms_.state(StateKind::kVolatile));
    libtpms_.stop();
    return start_with(volatile_state.view());
}

Result<> Tpm::start_with(ByteView volatile_state) {
    auto started = libtpms_.start(volatile_state);
    libtpms_.changed.reset();  // start-up rewrites what it just loaded
    return started;
}

// What the next manager has, if it is no older than what was acknowledged.
Result<SecretBytes> Tpm::take_channel(ManagerChannel channel) {
    auto loaded = channel.load(StateKind::kPermanent);
    if (!loaded) return tl::make_unexpected(std::move(loaded).error());
    if (loaded->is_new || loaded->sequence < sequence_)
        return fail(ErrorCode::kRefused, "the store is older than this TPM (sequence {}, acknowledged was {})",
                    loaded->sequence, sequence_);
    channel_ = std::move(channel);
    may_wait_ = true;
    sequence_ = loaded->sequence;
    return std::move(loaded->state);
}

Result<> Tpm::replace_channel(ManagerChannel channel) {
    VTPM_ASSIGN(SecretBytes stored, take_channel(std::move(channel)));
    if (std::ranges::equal(stored.view(), libtpms_.durable.view())) return {};
    libtpms_.durable = std::move(stored);
    return undo();
}

Result<> Tpm::power_off() {
    VTPM_TRY(run_firmware(power_off_commands(version_)));
    return commit();
}

// The permanent state first: it ends a volatile state, which belongs to it. libtpms asks for neither: orderly NV
// indices and Clock have changed without a word.
Result<> Tpm::suspend(const Incarnation &incarnation) {
    VTPM_TRY(take_state());
    VTPM_TRY(commit());
    VTPM_ASSIGN(const SecretBytes volatile_state, libtpms_.state(StateKind::kVolatile));
    const Bytes &log = event_log_.log();
    Bytes before = owner_of(incarnation.domain, incarnation.number | (log.empty() ? 0 : kWithEventLog));
    if (!log.empty()) before = BigEndian().raw(before).number(log.size(), 4).raw(log).bytes();
    SecretBytes state(before.size() + volatile_state.view().size());
    std::ranges::copy(volatile_state.view(), std::ranges::copy(before, state.writable().begin()).out);
    VTPM_TRY(channel_.store(StateKind::kVolatile, state.view()));
    return {};
}

}  // namespace vtpm
