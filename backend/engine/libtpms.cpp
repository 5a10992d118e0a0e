// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/libtpms.hpp"

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "shared-protocol/tpmif.h"

extern "C" {
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
}

namespace vtpm {
namespace {

Libtpms *own = nullptr;  // whose callbacks these are: they carry no user pointer

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
        if (own->changed) return hand_out(*own->changed, data, length);
        if (!own->durable.empty()) return hand_out(own->durable, data, length);
        return own->may_manufacture ? TPM_RETRY : TPM_FAIL;
    }
    if (wanted == TPM_VOLATILESTATE_NAME && !own->volatile_state().empty())
        return hand_out(own->volatile_state(), data, length);
    return TPM_RETRY;
}

TPM_RESULT store_data(const unsigned char *data, uint32_t length, uint32_t, const char *name) noexcept {
    // TPM_SaveState of TPM 1.2 is for a suspend in which the TPM loses power. Ours does not, and every power-on is
    // TPM_ST_CLEAR, which discards it: nothing to keep.
    if (std::string_view(name) != TPM_PERMANENT_ALL_NAME) return TPM_SUCCESS;
    if (length == 0 || length > kMaxState) return TPM_SIZE;
    own->changed = SecretBytes(ByteView(data, length));
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

}  // namespace

Libtpms::Libtpms(TpmVersion version) : version_(version) {
    require(own == nullptr, "there is one TPM in a process");
    own = this;
}

Libtpms::~Libtpms() {
    stop();
    own = nullptr;
    if (response_ != nullptr) wipe({response_, response_capacity_});
    std::free(response_);
}

Result<> Libtpms::start(ByteView volatile_state) {
    libtpms_callbacks callbacks{};
    callbacks.sizeOfStruct = sizeof callbacks;
    callbacks.tpm_nvram_init = succeed;
    callbacks.tpm_nvram_loaddata = load_data;
    callbacks.tpm_nvram_storedata = store_data;
    callbacks.tpm_nvram_deletename = delete_name;
    callbacks.tpm_io_init = succeed;
    callbacks.tpm_io_getlocality = get_locality;
    callbacks.tpm_io_getphysicalpresence = no_physical_presence;
    const auto family = version_ == TpmVersion::k12 ? TPMLIB_TPM_VERSION_1_2 : TPMLIB_TPM_VERSION_2;
    if (TPMLIB_ChooseTPMVersion(family) != TPM_SUCCESS || TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS)
        return fail(ErrorCode::kRefused, "libtpms lacks TPM {}", to_string(version_));
    if (may_manufacture && !algorithms.empty()) VTPM_TRY(choose_algorithms(algorithms));
    (void)TPMLIB_SetBufferSize(TPMIF_MAX_MESSAGE, nullptr, nullptr);
    volatile_state_ = SecretBytes(volatile_state);
    const TPM_RESULT result = TPMLIB_MainInit();
    volatile_state_ = SecretBytes{};
    if (result == TPM_SUCCESS) return {};
    if (may_manufacture) return not_made(algorithms, result);
    return fail(ErrorCode::kRefused, "libtpms does not accept the stored state (error {:#x})", result);
}

void Libtpms::stop() { TPMLIB_Terminate(); }

ByteView Libtpms::process(ByteView command) {
    std::uint32_t size = 0;
    // libtpms takes the command as writable, but only reads it.
    const TPM_RESULT result =
        TPMLIB_Process(&response_, &size, &response_capacity_, const_cast<std::uint8_t *>(command.data()),
                       static_cast<std::uint32_t>(command.size()));
    return result == TPM_SUCCESS ? ByteView(response_, size) : ByteView();
}

Result<SecretBytes> Libtpms::state(StateKind kind) const {
    const auto type = kind == StateKind::kPermanent ? TPMLIB_STATE_PERMANENT : TPMLIB_STATE_VOLATILE;
    unsigned char *blob = nullptr;
    std::uint32_t size = 0;
    if (TPMLIB_GetState(type, &blob, &size) != TPM_SUCCESS)
        return fail(ErrorCode::kRefused, "libtpms does not give its state");
    SecretBytes state({blob, size});
    wipe({blob, size});
    std::free(blob);
    return state;
}

}  // namespace vtpm
