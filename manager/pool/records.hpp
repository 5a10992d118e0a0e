// SPDX-License-Identifier: Apache-2.0
// The two records by which hosts keep apart, and where they lie.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.hpp"
#include "base/uuid.hpp"
#include "manager/pool/transaction.hpp"

namespace vtpm::pool {

// 128 random bits: of a session, or to make a value one that no other is.
using Nonce = std::array<std::uint8_t, 16>;
using MakeNonce = std::function<Nonce()>;

// A host that may write and serve. Each of its transactions puts another one in the former's place; who deletes it has
// fenced the host.
struct SessionRecord {
    Nonce session{};          // the same from its begin to its end
    std::uint64_t count = 0;  // of its transactions
    Nonce nonce{};

    [[nodiscard]] Bytes encode() const;
    static Result<SessionRecord> decode(ByteView bytes);
    [[nodiscard]] SessionRecord next(const MakeNonce &nonce_of) const { return {session, count + 1, nonce_of()}; }
    bool operator==(const SessionRecord &) const = default;
};

// Where a vTPM runs. Absent: nowhere.
struct OwnerRecord {
    std::string host;
    Nonce session{};  // of the host
    Nonce opening{};  // the same for as long as the vTPM's engine runs, in whatever session of this host

    [[nodiscard]] Bytes encode() const;
    static Result<OwnerRecord> decode(ByteView bytes);
    bool operator==(const OwnerRecord &) const = default;
};

// 1 to 64 of a-z, 0-9, '-' and '.'.
bool is_host_name(std::string_view name);

std::string session_key(std::string_view host);
std::string owner_key(const Uuid &vtpm);
std::string permanent_key(const Uuid &vtpm);
// What a vTPM knows beside its NV, while it is on its way from one power-on's host to another.
std::string volatile_key(const Uuid &vtpm);

}  // namespace vtpm::pool
