// SPDX-License-Identifier: Apache-2.0
#include "launch/event_log.hpp"

#include <algorithm>

#include "launch/tcg_log.hpp"

namespace vtpm::launch {
namespace {

constexpr unsigned kFirstDebugPcr = 16;  // TCG PC Client Platform TPM Profile, 4.6.2: resettable

tl::unexpected<Error> bad_log(const char *why) {
    return fail(ErrorCode::kInvalid, "this is no event log of a launch: {}", why);
}

Result<Banks> known_banks(const std::vector<LogBank> &banks) {
    Banks known;
    for (const LogBank &bank : banks) {
        const auto hash = hash_of_algorithm(bank.algorithm);
        if (!hash || bank.digest_size != digest_size(*hash)) return bad_log("it has digests of an unknown kind");
        if (std::ranges::find(known, *hash) != known.end()) return bad_log("it names a bank twice");
        known.push_back(*hash);
    }
    if (known.empty()) return bad_log("it has no digests");
    return known;
}

Result<Event> event_of(const LogEvent &read, const Banks &banks) {
    if (read.pcr >= kFirstDebugPcr) return bad_log("an event is of a PCR that a guest may reset");
    if (read.type == kNoActionEvent) return bad_log("an event measures nothing");
    Event event{read.pcr, static_cast<EventType>(read.type), {}, Bytes(read.data.begin(), read.data.end())};
    const bool in_order = std::ranges::equal(read.digests, banks, [](const LogDigest &digest, Hash bank) {
        return digest.algorithm == static_cast<std::uint16_t>(bank);
    });
    if (!in_order) return bad_log("an event has not one digest of each bank, in their order");
    for (const LogDigest &digest : read.digests)
        event.digests[static_cast<Hash>(digest.algorithm)] = Bytes(digest.value.begin(), digest.value.end());
    return event;
}

}  // namespace

Result<Bytes> write_event_log(const EventLog &log) {
    std::vector<LogBank> banks;
    for (const Hash bank : log.banks)
        banks.push_back({static_cast<std::uint16_t>(bank), static_cast<std::uint16_t>(digest_size(bank))});
    Bytes bytes = spec_id_event(banks);
    for (const Event &event : log.events) {
        LogEvent written{event.pcr, static_cast<std::uint32_t>(event.type), {}, event.data};
        for (const Hash bank : log.banks) {
            const auto digest = event.digests.find(bank);
            if (digest == event.digests.end() || digest->second.size() != digest_size(bank))
                return fail(ErrorCode::kInvalid, "an event has no digest of {}", name_of(bank));
            written.digests.push_back({static_cast<std::uint16_t>(bank), digest->second});
        }
        const Bytes one = log_event(written);
        bytes.insert(bytes.end(), one.begin(), one.end());
        if (bytes.size() > kMaxLog) return fail(ErrorCode::kInvalid, "the event log is longer than {} bytes", kMaxLog);
    }
    return bytes;
}

// Whatever else the form leaves open (what the first event says of itself, bytes behind its banks): it is compared.
Result<EventLog> read_event_log(ByteView bytes) {
    if (bytes.size() > kMaxLog) return bad_log("it is too long");
    const auto read = read_tcg_log(bytes);
    if (!read) return bad_log("it is damaged");
    VTPM_ASSIGN(Banks banks, known_banks(read->banks));
    EventLog log{std::move(banks), {}};
    for (const LogEvent &event : read->events) {
        VTPM_ASSIGN(Event one, event_of(event, log.banks));
        log.events.push_back(std::move(one));
    }
    if (log.events.empty()) return bad_log("it has no event");
    VTPM_ASSIGN(const Bytes again, write_event_log(log));
    if (!std::ranges::equal(again, bytes)) return bad_log("its first event is another one");
    return log;
}

Result<EventLog> in_banks(const EventLog &log, const Banks &banks) {
    EventLog fewer{banks, {}};
    for (const Event &event : log.events) {
        Event one{event.pcr, event.type, {}, event.data};
        for (const Hash bank : banks) {
            const auto digest = event.digests.find(bank);
            if (digest == event.digests.end())
                return fail(ErrorCode::kInvalid, "the launch was recorded without digests of {}", name_of(bank));
            one.digests.insert(*digest);
        }
        fewer.events.push_back(std::move(one));
    }
    return fewer;
}

}  // namespace vtpm::launch
