// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/audit.hpp"

#include <openssl/evp.h>

#include <ctime>

#include "base/legible.hpp"

namespace vtpm {
namespace {

void append_number(Bytes &out, std::int64_t value) {
    for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
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
    Bytes digest(32);
    if (EVP_Digest(message.data(), message.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
        return fail(ErrorCode::kSystem, "SHA-256 failed");
    return digest;
}

}  // namespace

Result<> Audit::record(std::string_view event, std::string_view subject, std::string_view detail) {
    VTPM_ASSIGN(const auto last, store_.last_audit_record());
    AuditRecord record{last ? last->number + 1 : 1,   std::time(nullptr),           std::string(event),
                       legible(std::string(subject)), legible(std::string(detail)), {}};
    VTPM_ASSIGN(record.chain, chained(last ? ByteView(last->chain) : ByteView(), record));
    return store_.append_audit_record(record);
}

Result<Bytes> Audit::head() {
    VTPM_ASSIGN(const auto last, store_.last_audit_record());
    return last ? last->chain : Bytes();
}

Result<bool> Audit::has(ByteView head) {
    if (head.empty()) return true;
    return store_.has_audit_record(head);
}

Result<> verify_chain(const std::vector<AuditRecord> &records) {
    Bytes before;
    std::int64_t number = 1;
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
