// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/audit.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <ctime>

#include "base/legible.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kDigest = 32;

void append_number(Bytes &out, std::int64_t value) {
    for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

std::int64_t number_in(ByteView bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i > 0; --i) value = value << 8 | bytes[i - 1];
    return static_cast<std::int64_t>(value);
}

// With its length, so that no byte can pass from one field to the next.
void append_text(Bytes &out, std::string_view text) {
    append_number(out, static_cast<std::int64_t>(text.size()));
    out.insert(out.end(), text.begin(), text.end());
}

Result<Bytes> chained(ByteView before, const AuditRecord &record) {
    Bytes message(before.begin(), before.end());
    append_number(message, record.number);
    append_number(message, record.time);
    for (const std::string &text : {record.event, record.subject, record.detail}) append_text(message, text);
    Bytes digest(kDigest);
    if (EVP_Digest(message.data(), message.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
        return fail(ErrorCode::kSystem, "SHA-256 failed");
    return digest;
}

constexpr std::int64_t kLastNumber = std::int64_t{1} << 53;  // as a number of JSON; never reached
constexpr std::string_view kShortened = "audit-log-shortened";

std::string end_of(const AuditRecord &last) {
    return fmt::format("records to {}, which ended in {}", last.number, to_hex(last.chain));
}

// What comes before the first record: nothing, or what a later one says was dropped.
Result<Bytes> beginning_of(const std::vector<AuditRecord> &records) {
    const std::int64_t first = records.front().number;
    if (first == 1) return Bytes();
    const std::string prefix = fmt::format("records to {}, which ended in ", first - 1);
    for (const AuditRecord &record : records) {
        if (record.event != kShortened || !record.detail.starts_with(prefix)) continue;
        if (auto chain = from_hex(record.detail.substr(prefix.size()))) return std::move(*chain);
    }
    return fail(ErrorCode::kRefused, "the audit log has no record 1: it was removed");
}

}  // namespace

Result<> Audit::record(std::string_view event, std::string_view subject, std::string_view detail) {
    return store_.commit([&](Change &change) { return record(change, event, subject, detail); });
}

Result<> Audit::record(Change &change, std::string_view event, std::string_view subject, std::string_view detail) {
    VTPM_TRY(append(change, event, subject, detail));
    return shorten(change);
}

Result<std::optional<AuditRecord>> Audit::last(const Change &change) {
    if (const auto *appended = change.last<AuditRecord>()) return *appended;
    return store_.last_audit_record();
}

// Once in a change.
Result<> Audit::shorten(Change &change) {
    if (change.last<DropAuditRecords>() != nullptr) return {};
    const std::int64_t last = change.last<AuditRecord>()->number;
    VTPM_ASSIGN(const auto oldest, store_.last_audit_record(last - kMostRecords));
    if (!oldest) return {};
    VTPM_ASSIGN(const auto dropped, store_.last_audit_record(last - kKeptRecords));
    require(dropped.has_value(), "what is older than the oldest that stays is there: the oldest record is");
    change.add(DropAuditRecords{dropped->number});
    return append(change, kShortened, "", end_of(*dropped));
}

Result<> Audit::append(Change &change, std::string_view event, std::string_view subject, std::string_view detail) {
    VTPM_ASSIGN(const auto last, this->last(change));
    if (last && (last->number < 1 || last->number > kLastNumber))
        return fail(ErrorCode::kRefused, "store: the audit log has a record {}: somebody changed it; restore the store",
                    last->number);
    AuditRecord record{last ? last->number + 1 : 1,   std::time(nullptr),           std::string(event),
                       legible(std::string(subject)), legible(std::string(detail)), {}};
    VTPM_ASSIGN(record.chain, chained(last ? ByteView(last->chain) : ByteView(), record));
    change.add(std::move(record));
    return {};
}

Result<Bytes> Audit::head(const Change &change) {
    VTPM_ASSIGN(const auto last, this->last(change));
    if (!last) return Bytes();
    Bytes head = last->chain;
    append_number(head, last->number);
    return head;
}

// A record whose number is below all that there are was dropped for its age, if the log says of those that it dropped
// any: a manifest vouches for the number.
Result<bool> Audit::has(ByteView head) {
    if (head.empty()) return true;
    VTPM_ASSIGN(const bool there, store_.has_audit_record(head.first(std::min(head.size(), kDigest))));
    if (there || head.size() != kDigest + sizeof(std::int64_t)) return there;
    VTPM_ASSIGN(const auto records, store_.audit_records());
    return !records.empty() && number_in(head.subspan(kDigest)) < records.front().number && verify_chain(records);
}

Result<> verify_chain(const std::vector<AuditRecord> &records) {
    if (records.empty()) return {};
    VTPM_ASSIGN(Bytes before, beginning_of(records));
    std::int64_t number = records.front().number;
    for (const AuditRecord &record : records) {
        if (record.number != number)
            return fail(ErrorCode::kRefused, "the audit log has no record {}: it was removed", number);
        VTPM_ASSIGN(const Bytes expected, chained(before, record));
        if (record.chain != expected)
            return fail(ErrorCode::kRefused, "the audit log's record {} is not as it was written", number);
        before = record.chain;
        ++number;
    }
    return {};
}

}  // namespace vtpm
