// SPDX-License-Identifier: Apache-2.0
// A firmware's event log, from whoever could write it: what is told of it is bounded, printable, and of the PCRs that
// were asked for. Input: which PCRs, then the log.
#include "manager/boot/event_log.hpp"

#include <algorithm>
#include <array>

#include "manager/boot/boot_chain.hpp"
#include "manager/boot/event_record.hpp"
#include "manager/boot/next_boot.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    constexpr std::size_t kLongestText = 120;
    constexpr std::size_t kShortestEvent = 16;  // PCR, type, number of digests, size
    constexpr std::array kSelections{"sha256:0,4,7", "sha1:0-23", "sha384:7", "sha512:0-15"};
    if (size == 0) return 0;
    const auto pcrs = PcrSelection::parse(kSelections[data[0] % kSelections.size()]);
    require(pcrs.has_value(), "PCRs are chosen");
    const ByteView log(data + 1, size - 1);
    const auto boot = parse_event_log(log, *pcrs);
    if (!boot) return 0;
    const std::vector<BootEvent> *events = &boot->events;
    require(events->size() <= log.size() / kShortestEvent, "no event is made up");
    for (const BootEvent &event : *events) {
        require(std::ranges::binary_search(pcrs->numbers(), event.pcr), "an event of another PCR");
        require(event.text.size() <= kLongestText, "a text fits a line");
        require(std::ranges::all_of(event.text, [](char c) { return c >= ' ' && c <= '~'; }), "a text is printable");
    }
    const auto values = replayed(*boot, *pcrs);
    require(values.has_value() && values->size() == pcrs->numbers().size(), "each PCR has a value");
    const BootChain chain = boot_chain(launch::read_tcg_log(log).value_or(launch::TcgLog()), *values);
    require(chain.covers.size() == values->size(), "each PCR has its words");
    // Files that are as they were, and a kernel that is not.
    const BootFiles files{[](const std::string &path) {
                              return path.size() % 2 == 0 ? std::vector<FileDigests>()
                                                          : std::vector<FileDigests>{{Bytes(32, 1), Bytes(32, 2)}};
                          },
                          [&](const std::string &) {
                              return std::vector<std::string>{"vmlinuz-1", {log.begin(), log.end()}};
                          },
                          [](const std::string &name) { return std::optional<Bytes>(Bytes(name.size())); }};
    const auto next = next_boot(log, *pcrs, *values, files);
    require(next && next->values.size() + next->unknown.size() == values->size(), "each PCR is known, or is not");
    for (const auto &[pcr, why] : next->why)
        require(why != "as now" || next->values.at(pcr) == values->at(pcr), "what is as now has its value");
    PcrValues others = *values;
    others.begin()->second[0] ^= 1;
    require(explain(others, *values, event_record(*events), *events).size() <= 4096, "an explanation is bounded");
    // The log as a record of former events.
    require(explain(others, *values, log, *events).size() <= 4096, "an explanation is bounded");
    return 0;
}
