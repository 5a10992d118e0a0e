// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "base/big_endian.hpp"
#include "shared-protocol/tpmif.h"

extern "C" {
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
}

namespace vtpm {
namespace {

// libtpms' callbacks carry no user pointer: what they work on is as global as libtpms' own state.
struct Storage {
    SecretBytes durable;                 // the permanent state as last stored
    std::optional<SecretBytes> changed;  // the permanent state that libtpms wants stored
    SecretBytes volatile_state;          // handed to libtpms when it starts
    bool may_manufacture = false;        // the inventory says that there was never a state
    std::string algorithms;              // that a new TPM 2.0 is to have; empty: all
};
Storage storage;

// libtpms 0.9 stores nothing for Clock alone. So that Clock never goes back, it is stored this often, if anyone asks
// the TPM for anything, and is advanced by more after an end without TPM2_Shutdown.
constexpr std::chrono::milliseconds kClockInterval = std::chrono::minutes(1);
constexpr std::chrono::milliseconds kClockLost = 2 * kClockInterval;  // a guest may make Clock run faster, by a fifth

// TPM_RETRY is libtpms' word for "there is no such state", on which it makes a new TPM.
TPM_RESULT hand_out(const SecretBytes &state, unsigned char **data, uint32_t *length) noexcept {
    const ByteView view = state.view();
    auto *copy = static_cast<unsigned char *>(std::malloc(view.size()));  // libtpms frees it
    if (copy == nullptr) return TPM_SIZE;
    std::memcpy(copy, view.data(), view.size());
    *data = copy;
    *length = static_cast<uint32_t>(view.size());
    return TPM_SUCCESS;
}

TPM_RESULT load_data(unsigned char **data, uint32_t *length, uint32_t, const char *name) noexcept {
    const std::string_view wanted(name);
    if (wanted == TPM_PERMANENT_ALL_NAME) {
        // libtpms reads back what it has just manufactured, before anyone could have stored it.
        if (storage.changed) return hand_out(*storage.changed, data, length);
        if (!storage.durable.empty()) return hand_out(storage.durable, data, length);
        return storage.may_manufacture ? TPM_RETRY : TPM_FAIL;
    }
    if (wanted == TPM_VOLATILESTATE_NAME && !storage.volatile_state.empty())
        return hand_out(storage.volatile_state, data, length);
    return TPM_RETRY;
}

TPM_RESULT store_data(const unsigned char *data, uint32_t length, uint32_t, const char *name) noexcept {
    // TPM_SaveState of TPM 1.2 is for a suspend in which the TPM loses power. Ours does not, and every power-on is
    // TPM_ST_CLEAR, which discards it: nothing to keep.
    if (std::string_view(name) != TPM_PERMANENT_ALL_NAME) return TPM_SUCCESS;
    if (length == 0 || length > kMaxState) return TPM_SIZE;
    storage.changed = SecretBytes(ByteView(data, length));
    return TPM_SUCCESS;
}

TPM_RESULT delete_name(uint32_t, const char *name, TPM_BOOL) noexcept {
    return std::string_view(name) == TPM_PERMANENT_ALL_NAME ? TPM_FAIL : TPM_SUCCESS;
}

// The engine lets only locality 0 through (Engine::serve).
TPM_RESULT get_locality(TPM_MODIFIER_INDICATOR *locality, uint32_t) noexcept {
    *locality = 0;
    return TPM_SUCCESS;
}

TPM_RESULT no_physical_presence(TPM_BOOL *presence, uint32_t) noexcept {
    *presence = 0;
    return TPM_SUCCESS;
}

TPM_RESULT succeed() noexcept { return TPM_SUCCESS; }

Result<SecretBytes> state_of(TPMLIB_StateType type) {
    unsigned char *blob = nullptr;
    std::uint32_t size = 0;
    if (TPMLIB_GetState(type, &blob, &size) != TPM_SUCCESS)
        return fail(ErrorCode::kRefused, "libtpms does not give its state");
    SecretBytes state({blob, size});
    wipe({blob, size});
    std::free(blob);
    return state;
}

// A guest's memory and what its TPM knows belong together: whose life a volatile state is of stands before it.
Bytes owner_of(const Uuid &domain, std::uint32_t life) { return BigEndian().raw(domain.bytes).u32(life).bytes(); }

tl::unexpected<Error> not_made(const std::string &algorithms, TPM_RESULT result) {
    return fail(ErrorCode::kRefused, "libtpms does not make a TPM with the algorithms '{}' (error {:#x})", algorithms,
                result);
}

// Before libtpms makes a TPM; one that is there has its own. Without this it makes what libtpms 0.9 did ("null"
// profile). What it does not know it may find later (TPMLIB_MainInit).
Result<> choose_algorithms([[maybe_unused]] const std::string &algorithms) {
#if VTPM_CHOOSES_ALGORITHMS
    const std::string profile = fmt::format(R"({{"Name":"custom","Algorithms":"{}"}})", algorithms);
    if (const TPM_RESULT result = TPMLIB_SetProfile(profile.c_str()); result != TPM_SUCCESS)
        return not_made(algorithms, result);
    return {};
#else
    return fail(ErrorCode::kRefused, "a TPM with chosen algorithms needs libtpms 0.10, this engine has an older one");
#endif
}

Result<> start_libtpms(TpmVersion version) {
    libtpms_callbacks callbacks{};
    callbacks.sizeOfStruct = sizeof callbacks;
    callbacks.tpm_nvram_init = succeed;
    callbacks.tpm_nvram_loaddata = load_data;
    callbacks.tpm_nvram_storedata = store_data;
    callbacks.tpm_nvram_deletename = delete_name;
    callbacks.tpm_io_init = succeed;
    callbacks.tpm_io_getlocality = get_locality;
    callbacks.tpm_io_getphysicalpresence = no_physical_presence;
    const auto family = version == TpmVersion::k12 ? TPMLIB_TPM_VERSION_1_2 : TPMLIB_TPM_VERSION_2;
    if (TPMLIB_ChooseTPMVersion(family) != TPM_SUCCESS || TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS)
        return fail(ErrorCode::kRefused, "libtpms lacks TPM {}", to_string(version));
    if (storage.may_manufacture && !storage.algorithms.empty()) VTPM_TRY(choose_algorithms(storage.algorithms));
    (void)TPMLIB_SetBufferSize(TPMIF_MAX_MESSAGE, nullptr, nullptr);
    const TPM_RESULT result = TPMLIB_MainInit();
    if (result == TPM_SUCCESS) return {};
    if (storage.may_manufacture) return not_made(storage.algorithms, result);
    return fail(ErrorCode::kRefused, "libtpms does not accept the stored state (error {:#x})", result);
}

}  // namespace

Result<std::unique_ptr<Tpm>> Tpm::power_on(TpmVersion version, ManagerChannel channel) {
    std::unique_ptr<Tpm> tpm(new Tpm(version, std::move(channel)));
    VTPM_TRY(tpm->load());
    VTPM_TRY(start_libtpms(version));
    if (storage.may_manufacture) VTPM_TRY(tpm->finish_manufacture());
    VTPM_ASSIGN(const auto of_the_host, tpm->channel_.power_on());
    VTPM_TRY(tpm->start_up());
    VTPM_TRY(tpm->run_firmware(of_the_host));
    VTPM_TRY(tpm->commit());
    return tpm;
}

Result<std::unique_ptr<Tpm>> Tpm::resume(TpmVersion version, ManagerChannel channel, const Incarnation &incarnation) {
    std::unique_ptr<Tpm> tpm(new Tpm(version, std::move(channel)));
    VTPM_TRY(tpm->load());
    VTPM_ASSIGN(const ManagerChannel::Loaded suspended, tpm->channel_.load(StateKind::kVolatile));
    if (storage.may_manufacture || suspended.is_new)
        return fail(ErrorCode::kRefused,
                    "its guest was restored, but what the TPM knew then (PCRs, sessions) is not here: it was restored "
                    "before, or the guest has been started anew since it was saved; power cycle the guest");
    const Bytes owner = owner_of(incarnation.domain, incarnation.number - 1);
    const ByteView state = suspended.state.view();
    if (state.size() < owner.size() || !std::ranges::equal(state.first(owner.size()), owner))
        return fail(ErrorCode::kRefused,
                    "what the TPM knew when it was suspended is of another guest than the one that was restored, or of "
                    "another time; power cycle the guest");
    VTPM_TRY(tpm->start_with(state.subspan(owner.size())));
    return tpm;
}

Tpm::~Tpm() {
    TPMLIB_Terminate();
    storage = Storage{};
    if (response_ != nullptr) wipe({response_, response_capacity_});
    std::free(response_);
}

Result<> Tpm::finish_manufacture() {
    if (version_ == TpmVersion::k12)
        VTPM_TRY(run_firmware(first_power_on_commands_12()));
    else
        VTPM_TRY(obey_manufacturer());
    VTPM_TRY(commit());
    storage.may_manufacture = false;
    TPMLIB_Terminate();
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
    storage.may_manufacture = loaded->is_new;
    storage.algorithms = std::move(loaded->algorithms);
    storage.durable = std::move(loaded->state);
    sequence_ = loaded->sequence;
    return {};
}

Result<> Tpm::start_up() {
    VTPM_TRY(run_firmware({start_up_command(version_)}));
    if (version_ == TpmVersion::k20) VTPM_TRY(advance_clock());
    return run_firmware({close_platform_command(version_)});
}

// After an end without TPM2_Shutdown, Clock is what it was at the last store, and "not safe" (Part 1, 36.3): to later
// than anything that was told since, which makes it safe.
Result<> Tpm::advance_clock() {
    const TpmClock clock = clock_in(process(read_clock_command()));
    if (clock.safe) return {};
    const auto set = set_clock_command(clock.value + static_cast<std::uint64_t>(kClockLost.count()));
    if (!set) return {};  // in some million years, or because the guest's owner set it to that
    VTPM_TRY(run_firmware({*set}));
    return take_state();
}

// The permanent state as it is now, Clock included, is to be stored.
Result<> Tpm::take_state() {
    VTPM_ASSIGN(storage.changed, state_of(TPMLIB_STATE_PERMANENT));
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
    storage.changed.reset();
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
    std::uint32_t size = 0;
    // libtpms takes the command as writable, but only reads it.
    const TPM_RESULT result =
        TPMLIB_Process(&response_, &size, &response_capacity_, const_cast<std::uint8_t *>(command.data()),
                       static_cast<std::uint32_t>(command.size()));
    if (result != TPM_SUCCESS || size < TPM_MESSAGE_HEADER_SIZE) return answer_fault(GuestFault::kFailure);
    return {response_, size};
}

ByteView Tpm::answer_fault(GuestFault fault) { return fault_ = error_response(version_, fault); }

Result<ByteView> Tpm::execute(ByteView command, std::uint8_t locality) {
    if (locality != 0) return answer_fault(GuestFault::kLocality);
    if (version_ == TpmVersion::k20 && is_attest_command(command)) return attestation_.answer(command, channel_);
    if (must_store_ && !keep_state()) return answer_fault(GuestFault::kNvUnavailable);
    const ByteView response = process(command);
    const bool clock_set = version_ == TpmVersion::k20 && sets_clock(command, response);
    if (clock_set) VTPM_TRY(take_state());  // libtpms 0.9 does not ask for it
    if (!storage.changed) {
        if (clock_is_due() && may_tell_clock(command)) (void)keep_state();
        return response;
    }
    Result<> stored = commit();
    if (!stored && !can_store() && std::exchange(may_wait_, false)) stored = commit_to_next_manager();
    if (stored) return response;
    if (clock_set || (version_ == TpmVersion::k20 && is_failed_try(response))) {
        storage.changed.reset();
        must_store_ = true;
        return answer_fault(GuestFault::kNvUnavailable);
    }
    VTPM_TRY(undo());
    return answer_fault(GuestFault::kNvUnavailable);
}

Result<> Tpm::commit() {
    if (!storage.changed) return {};
    const auto sequence = channel_.store(StateKind::kPermanent, storage.changed->view());
    if (!sequence) return tl::make_unexpected(sequence.error());
    storage.durable = std::move(*storage.changed);
    storage.changed.reset();
    must_store_ = false;
    sequence_ = *sequence;
    stored_ = std::chrono::steady_clock::now();
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
    const bool has_change = std::ranges::equal(stored.view(), storage.changed->view());
    const bool lacks_change = std::ranges::equal(stored.view(), storage.durable.view());
    storage.durable = std::move(stored);
    if (lacks_change) return commit();
    if (!has_change) return fail(ErrorCode::kRefused, "the store has neither the state before nor the one after");
    storage.changed.reset();
    must_store_ = false;
    return {};
}

// Back to the permanent state that is durable. PCRs, sessions and loaded objects stay as the command left them.
Result<> Tpm::undo() {
    storage.changed.reset();
    VTPM_ASSIGN(const SecretBytes volatile_state, state_of(TPMLIB_STATE_VOLATILE));
    TPMLIB_Terminate();
    return start_with(volatile_state.view());
}

Result<> Tpm::start_with(ByteView volatile_state) {
    storage.volatile_state = SecretBytes(volatile_state);
    auto started = start_libtpms(version_);
    storage.volatile_state = SecretBytes{};
    storage.changed.reset();  // start-up rewrites what it just loaded
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
    if (std::ranges::equal(stored.view(), storage.durable.view())) return {};
    storage.durable = std::move(stored);
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
    VTPM_ASSIGN(const SecretBytes volatile_state, state_of(TPMLIB_STATE_VOLATILE));
    const Bytes owner = owner_of(incarnation.domain, incarnation.number);
    SecretBytes state(owner.size() + volatile_state.view().size());
    std::ranges::copy(volatile_state.view(), std::ranges::copy(owner, state.writable().begin()).out);
    VTPM_TRY(channel_.store(StateKind::kVolatile, state.view()));
    return {};
}

}  // namespace vtpm
