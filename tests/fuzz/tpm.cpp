// SPDX-License-Identifier: Apache-2.0
// A guest's commands through the engine's TPM and libtpms: each gets one whole response, and whatever they changed is
// what the TPM has after a power cycle. Input: TPM version, then commands, each after its length (two bytes).
#include "backend/engine/tpm.hpp"

#include "shared-protocol/tpmif.h"
#include "tests/fakes/tpm_commands.hpp"
#include "tests/fuzz/memory_store.hpp"

namespace vtpm {
namespace {

void check_response(ByteView response) {
    require(response.size() >= TPM_MESSAGE_HEADER_SIZE, "a response has a header");
    require(response.size() <= TPMIF_MAX_MESSAGE, "a response fits into the page");
    const std::size_t claimed = static_cast<std::size_t>(response[2]) << 24 |
                                static_cast<std::size_t>(response[3]) << 16 |
                                static_cast<std::size_t>(response[4]) << 8 | response[5];
    require(claimed == response.size(), "a response has the size that it claims");
}

void run_commands(TpmVersion version, const Bytes &initial, ByteView input) {
    MemoryStore store(initial);
    {
        auto tpm = Tpm::power_on(version, store.open());
        require(tpm.has_value(), "a stored TPM starts");
        Bytes command;
        while (input.size() >= 2) {
            const std::size_t wanted = static_cast<std::size_t>(input[0]) << 8 | input[1];
            input = input.subspan(2);
            const ByteView taken = input.first(std::min({wanted, input.size(), std::size_t{TPMIF_MAX_MESSAGE}}));
            input = input.subspan(taken.size());
            if (taken.size() < TPM_MESSAGE_HEADER_SIZE) continue;
            // SharedPage lets only those through whose size is right.
            command.assign(taken.begin(), taken.end());
            commands::set_size(command);
            const auto response = (*tpm)->execute(command, 0);
            require(response.has_value(), "a command is answered");
            check_response(*response);
        }
        (void)(*tpm)->power_off();
    }
    MemoryStore again(store.state());
    require(Tpm::power_on(version, again.open()).has_value(), "what was stored starts");
}

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const Bytes tpm20 = manufacture(TpmVersion::k20);
    static const Bytes tpm12 = manufacture(TpmVersion::k12);
    if (size == 0) return 0;
    const bool is_20 = data[0] % 2 == 0;
    run_commands(is_20 ? TpmVersion::k20 : TpmVersion::k12, is_20 ? tpm20 : tpm12, {data + 1, size - 1});
    return 0;
}
