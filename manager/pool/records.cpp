// SPDX-License-Identifier: Apache-2.0
#include "manager/pool/records.hpp"

#include <algorithm>

#include "base/big_endian.hpp"

namespace vtpm::pool {
namespace {

constexpr std::uint8_t kFormat = 1;
constexpr std::size_t kSessionSize = 1 + sizeof(Nonce) + 8 + sizeof(Nonce);
constexpr std::size_t kOwnerHead = 1 + sizeof(Nonce) + sizeof(Nonce);
constexpr std::size_t kHostNameMost = 64;

Nonce nonce_at(ByteView bytes, std::size_t at) {
    Nonce nonce;
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), nonce.size(), nonce.begin());
    return nonce;
}

}  // namespace

Bytes SessionRecord::encode() const { return BigEndian().u8(kFormat).raw(session).number(count, 8).raw(nonce).bytes(); }

Result<SessionRecord> SessionRecord::decode(ByteView bytes) {
    if (bytes.size() != kSessionSize || bytes[0] != kFormat)
        return fail(ErrorCode::kInvalid, "the pool's record of a session is malformed ({} bytes)", bytes.size());
    return SessionRecord{nonce_at(bytes, 1), big_endian(bytes.subspan(1 + sizeof(Nonce), 8)),
                         nonce_at(bytes, 1 + sizeof(Nonce) + 8)};
}

Bytes OwnerRecord::encode() const {
    return BigEndian().u8(kFormat).raw(session).raw(opening).raw(bytes_of(host)).bytes();
}

Result<OwnerRecord> OwnerRecord::decode(ByteView bytes) {
    if (bytes.size() <= kOwnerHead || bytes[0] != kFormat)
        return fail(ErrorCode::kInvalid, "the pool's record of a vTPM's host is malformed ({} bytes)", bytes.size());
    const ByteView name = bytes.subspan(kOwnerHead);
    OwnerRecord owner{{name.begin(), name.end()}, nonce_at(bytes, 1), nonce_at(bytes, 1 + sizeof(Nonce))};
    if (!is_host_name(owner.host))
        return fail(ErrorCode::kInvalid, "the pool's record of a vTPM's host has no host's name");
    return owner;
}

bool is_host_name(std::string_view name) {
    return !name.empty() && name.size() <= kHostNameMost && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    });
}

std::string session_key(std::string_view host) { return fmt::format("sessions/{}", host); }
std::string owner_key(const Uuid &vtpm) { return fmt::format("owners/{}", vtpm.to_string()); }
std::string permanent_key(const Uuid &vtpm) { return fmt::format("states/{}/p", vtpm.to_string()); }
std::string volatile_key(const Uuid &vtpm) { return fmt::format("states/{}/v", vtpm.to_string()); }

}  // namespace vtpm::pool
