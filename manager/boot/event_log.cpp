// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/event_log.hpp"

#include <algorithm>

#include "launch/pcrs.hpp"
#include "launch/tcg_log.hpp"
#include "manager/boot/event_data.hpp"

namespace vtpm {
namespace {

tl::unexpected<Error> damaged() {
    return fail(ErrorCode::kInvalid, "this is no event log of the firmware, or a damaged one");
}

// The digest of `wanted`; empty: the event extended other banks only.
Bytes digest_of_bank(const launch::LogEvent &event, std::uint16_t wanted) {
    const auto found = std::ranges::find(event.digests, wanted, &launch::LogDigest::algorithm);
    return found != event.digests.end() ? Bytes(found->value.begin(), found->value.end()) : Bytes();
}

}  // namespace

Result<BootLog> parse_event_log(ByteView log, const PcrSelection &pcrs) {
    const auto read = launch::read_tcg_log(log);
    if (!read) return damaged();
    const TPM2_ALG_ID wanted = pcrs.tpm().pcrSelections[0].hash;
    if (std::ranges::find(read->banks, wanted, &launch::LogBank::algorithm) == read->banks.end())
        return fail(ErrorCode::kInvalid, "the firmware's event log has no digests for {}", pcrs.to_string());
    const auto numbers = pcrs.numbers();
    BootLog boot{{}, launch::startup_locality(*read)};
    for (const launch::LogEvent &event : read->events)
        if (event.type != launch::kNoActionEvent && std::ranges::binary_search(numbers, event.pcr))
            boot.events.push_back(
                {event.pcr, type_name(event.type), digest_of_bank(event, wanted), text_of(event.type, event.data)});
    return boot;
}

Result<PcrValues> replayed(const BootLog &log, const PcrSelection &pcrs) {
    const auto bank = launch::hash_of_algorithm(pcrs.tpm().pcrSelections[0].hash).value_or(launch::Hash::kSha256);
    PcrValues values;
    for (const unsigned pcr : pcrs.numbers()) values[pcr].resize(launch::digest_size(bank));
    if (const auto first = values.find(0); first != values.end()) first->second.back() = log.startup_locality;
    for (const BootEvent &event : log.events) {
        if (event.digest.empty()) continue;  // it extended other banks
        Bytes &value = values[event.pcr];
        VTPM_ASSIGN(value, launch::extended(value, event.digest, bank));
    }
    return values;
}

}  // namespace vtpm
