// SPDX-License-Identifier: Apache-2.0
#include "launch/tcg_log.hpp"

#include <algorithm>
#include <string_view>

#include "launch/little_endian.hpp"

namespace vtpm::launch {
namespace {

constexpr std::string_view kSignature("Spec ID Event03\0", 16);
constexpr std::string_view kStartupLocality("StartupLocality\0", 16);
constexpr std::size_t kSha1Size = 20;

struct LogHeader {
    std::uint32_t pcr;
    std::uint32_t type;
};

std::optional<LogHeader> take_log_header(LittleEndianReader &reader) {
    const auto pcr = reader.number<std::uint32_t>();
    const auto type = reader.number<std::uint32_t>();
    if (!pcr || !type) return std::nullopt;
    return LogHeader{*pcr, *type};
}

std::optional<ByteView> take_event_data(LittleEndianReader &reader) {
    const auto size = reader.number<std::uint32_t>();
    return size ? reader.take(*size) : std::nullopt;
}

// TCG_EfiSpecIdEvent (10.4.5.1): which digests each of the others has.
std::optional<std::vector<LogBank>> take_banks(ByteView data) {
    constexpr std::size_t kFixed = 4 + 1 + 1 + 1 + 1;  // platform class, version, errata, size of a UINTN
    LittleEndianReader reader(data);
    const auto signature = reader.take(kSignature.size());
    if (!signature || !std::ranges::equal(*signature, bytes_of(kSignature))) return std::nullopt;
    (void)reader.take(kFixed);
    const auto count = reader.number<std::uint32_t>();
    std::vector<LogBank> banks;
    for (std::uint32_t i = 0; count && i < *count; ++i) {
        const auto algorithm = reader.number<std::uint16_t>();
        const auto size = reader.number<std::uint16_t>();
        if (!algorithm || !size) return std::nullopt;
        banks.push_back({*algorithm, *size});
    }
    return banks;
}

// TCG_PCR_EVENT, whose one digest is SHA-1's: the first event always, all of them in logs for TPM 1.2.
std::optional<std::vector<LogBank>> take_first_event(LittleEndianReader &reader) {
    const auto header = take_log_header(reader);
    const auto digest = reader.take(kSha1Size);
    const auto data = take_event_data(reader);
    if (!header || !digest || !data || header->type != kNoActionEvent) return std::nullopt;
    return take_banks(*data);
}

// TPML_DIGEST_VALUES.
std::optional<std::vector<LogDigest>> take_digests(LittleEndianReader &reader, const std::vector<LogBank> &banks) {
    const auto count = reader.number<std::uint32_t>();
    if (!count || *count > banks.size()) return std::nullopt;
    std::vector<LogDigest> digests;
    for (std::uint32_t i = 0; i < *count; ++i) {
        const auto algorithm = reader.number<std::uint16_t>();
        if (!algorithm) return std::nullopt;
        const auto bank = std::ranges::find(banks, *algorithm, &LogBank::algorithm);
        const auto value = bank != banks.end() ? reader.take(bank->digest_size) : std::nullopt;
        if (!value) return std::nullopt;
        digests.push_back({*algorithm, *value});
    }
    return digests;
}

}  // namespace

std::optional<TcgLog> read_tcg_log(ByteView log) {
    LittleEndianReader reader(log);
    auto banks = take_first_event(reader);
    if (!banks) return std::nullopt;
    TcgLog read{std::move(*banks), {}};
    while (!reader.done()) {
        const auto header = take_log_header(reader);
        auto digests = header ? take_digests(reader, read.banks) : std::nullopt;
        const auto data = digests ? take_event_data(reader) : std::nullopt;
        if (!data) return std::nullopt;
        read.events.push_back({header->pcr, header->type, std::move(*digests), *data});
    }
    return read;
}

std::uint8_t startup_locality(const TcgLog &log) {
    for (const LogEvent &event : log.events) {
        LittleEndianReader reader(event.data);
        const auto signature = reader.take(kStartupLocality.size());
        const bool is_it =
            event.type == kNoActionEvent && signature && std::ranges::equal(*signature, bytes_of(kStartupLocality));
        if (is_it) return reader.number<std::uint8_t>().value_or(0);
    }
    return 0;
}

// Of PFP 1.06: family 2.00, errata 106; UINTN is of 64 bits; no vendor's words.
Bytes spec_id_event(const std::vector<LogBank> &banks) {
    LittleEndianWriter data;
    data.raw(bytes_of(kSignature)).number(std::uint32_t{0});
    data.number(std::uint8_t{0}).number(std::uint8_t{2}).number(std::uint8_t{106}).number(std::uint8_t{2});
    data.number(static_cast<std::uint32_t>(banks.size()));
    for (const LogBank &bank : banks) data.number(bank.algorithm).number(bank.digest_size);
    data.number(std::uint8_t{0});
    LittleEndianWriter event;
    event.number(std::uint32_t{0}).number(kNoActionEvent).raw(Bytes(kSha1Size));
    return event.number(static_cast<std::uint32_t>(data.bytes().size())).raw(data.bytes()).bytes();
}

Bytes log_event(const LogEvent &event) {
    LittleEndianWriter out;
    out.number(event.pcr).number(event.type).number(static_cast<std::uint32_t>(event.digests.size()));
    for (const LogDigest &digest : event.digests) out.number(digest.algorithm).raw(digest.value);
    return out.number(static_cast<std::uint32_t>(event.data.size())).raw(event.data).bytes();
}

}  // namespace vtpm::launch
