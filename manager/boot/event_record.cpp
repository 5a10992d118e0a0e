// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/event_record.hpp"

#include <algorithm>

namespace vtpm {
namespace {

constexpr std::size_t kMaxEvents = 1024;
constexpr std::size_t kMaxDigest = 64;  // SHA-512's
constexpr std::size_t kMaxShownText = 48;
constexpr std::size_t kMaxPcrs = 2;  // a line is not a log

using Digests = std::map<unsigned, std::vector<Bytes>>;  // by the PCR's number

// Each event: PCR, size of the digest, digest. Nothing of what is not such a record to its end.
Digests recorded(ByteView record) {
    Digests digests;
    for (std::size_t count = 0; !record.empty(); ++count) {
        const std::size_t size = record.size() < 2 ? 0 : record[1];
        if (count == kMaxEvents || size == 0 || size > kMaxDigest || record.size() < 2 + size) return {};
        const ByteView digest = record.subspan(2, size);
        digests[record[0]].emplace_back(digest.begin(), digest.end());
        record = record.subspan(2 + size);
    }
    return digests;
}

std::string named(const BootEvent &event) {
    return event.text.empty() ? event.type : fmt::format("{} '{}'", event.type, event.text.substr(0, kMaxShownText));
}

bool has(const std::vector<Bytes> &digests, const Bytes &digest) {
    return std::ranges::find(digests, digest) != digests.end();
}

bool has(const std::vector<BootEvent> &events, const Bytes &digest) {
    return std::ranges::find(events, digest, &BootEvent::digest) != events.end();
}

// Of one PCR.
std::string last_event(const std::vector<BootEvent> &events) {
    if (events.empty()) return "the firmware's log has no event of it";
    const auto with_text = std::find_if(events.rbegin(), events.rend(), [](const auto &e) { return !e.text.empty(); });
    const BootEvent &last = with_text == events.rend() ? events.back() : *with_text;
    return fmt::format("the firmware's log has {} of its events, at last {}", events.size(), named(last));
}

// Of one PCR: the first event that is another one.
std::string first_difference(const std::vector<Bytes> &then, const std::vector<BootEvent> &now) {
    const auto [was, is] = std::ranges::mismatch(then, now, {}, {}, &BootEvent::digest);
    const auto number = was - then.begin() + 1;
    const bool was_last = was == then.end();
    const bool is_last = is == now.end();
    if (was_last && is_last) return "its events are as they were: what the firmware's log does not have was measured";
    if (!is_last && (was_last || !has(then, is->digest)))
        return fmt::format("event {}, {}, was not measured when the key was sealed", number, named(*is));
    if (is_last) return fmt::format("event {} of then is missing now", number);
    if (!has(now, *was)) return fmt::format("event {} of then is missing now, before {}", number, named(*is));
    return fmt::format("event {}, {}, comes in another order", number, named(*is));
}

}  // namespace

Bytes event_record(const std::vector<BootEvent> &events) {
    Bytes record;
    if (events.size() > kMaxEvents) return record;
    for (const BootEvent &event : events) {
        if (event.digest.empty() || event.digest.size() > kMaxDigest) continue;  // it extended another bank only
        record.push_back(static_cast<std::uint8_t>(event.pcr));
        record.push_back(static_cast<std::uint8_t>(event.digest.size()));
        record.insert(record.end(), event.digest.begin(), event.digest.end());
    }
    return record;
}

std::string explain(const PcrValues &before, const PcrValues &now, ByteView record,
                    const std::vector<BootEvent> &events) {
    if (events.empty()) return {};
    Digests then = recorded(record);
    std::string text;
    std::size_t differ = 0;
    for (const auto &[number, value] : before) {
        const unsigned pcr = number;  // clang 14 does not capture a binding
        const auto present = now.find(pcr);
        if (present == now.end() || present->second == value) continue;
        if (++differ > kMaxPcrs) break;
        std::vector<BootEvent> present_events;
        std::ranges::copy_if(events, std::back_inserter(present_events),
                             [&](const BootEvent &e) { return e.pcr == pcr && !e.digest.empty(); });
        text += fmt::format("{}PCR {}: {}", text.empty() ? "" : "; ", pcr,
                            then.empty() ? last_event(present_events) : first_difference(then[pcr], present_events));
    }
    return text;
}

}  // namespace vtpm
