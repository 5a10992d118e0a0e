// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/manifest.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <string_view>

namespace vtpm {
namespace {

void append(Bytes &out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

void append_number(Bytes &out, std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void append_sized(Bytes &out, ByteView bytes) {
    append_number(out, bytes.size());
    append(out, bytes);
}

// Its own inverse, and in any order: a sum for keyed digests that nobody ever sees, and that each stand in it once.
void add(Manifest::Sum &sum, const Manifest::Sum &digest) {
    std::ranges::transform(sum, digest, sum.begin(), [](std::uint8_t a, std::uint8_t b) { return a ^ b; });
}

}  // namespace

Epoch epoch_of(ByteView bytes) {
    Epoch epoch;
    std::ranges::copy(bytes, epoch.writable().begin());
    return epoch;
}

Result<Epoch> random_epoch() {
    Epoch epoch;
    VTPM_TRY(random_bytes(epoch.writable()));
    return epoch;
}

bool operator==(const Epoch &left, const Epoch &right) {
    return CRYPTO_memcmp(left.view().data(), right.view().data(), kEpochSize) == 0;
}

Result<Key> epoch_authorization(const Key &group_key) { return derive_key(group_key, "xen-vtpm epoch authorization"); }

Result<Manifest> Manifest::over(const Key &group_key, const GroupRecord &group, const std::vector<VtpmRecord> &vtpms) {
    Manifest manifest;
    manifest.associated_ = fmt::format("xen-vtpm manifest 1, index {:#010x}, group {}", group.nv_index, group.name);
    VTPM_ASSIGN(manifest.rows_key_, derive_key(group_key, "xen-vtpm manifest rows"));
    VTPM_ASSIGN(manifest.ca_key_, derive_key(group_key, "xen-vtpm manifest CA"));
    VTPM_ASSIGN(manifest.envelope_key_, derive_key(group_key, "xen-vtpm manifest envelope"));
    Change all(manifest);
    VTPM_TRY(all.put(group.ca));
    for (const VtpmRecord &vtpm : vtpms) VTPM_TRY(all.put(vtpm));
    manifest.adopt(std::move(all));
    return manifest;
}

// Two epochs, the sum, and the audit log's end, which is empty or 32 bytes.
Result<Manifest::Epochs> Manifest::verify(ByteView envelope) const {
    constexpr std::size_t kFixed = 2 * kEpochSize + sizeof(Sum);
    const auto plaintext = decrypt(envelope_key_, bytes_of(associated_), envelope);
    if (!plaintext || plaintext->view().size() < kFixed)
        return fail(ErrorCode::kRefused, "its manifest is damaged or not its own");
    const ByteView content = plaintext->view();
    if (!std::ranges::equal(content.subspan(2 * kEpochSize, sizeof(Sum)), sum_))
        return fail(ErrorCode::kRefused,
                    "the inventory of its vTPMs is not as it was last written: rows were put back, changed or removed");
    const ByteView head = content.subspan(kFixed);
    return Epochs{epoch_of(content.first(kEpochSize)), epoch_of(content.subspan(kEpochSize, kEpochSize)),
                  Bytes(head.begin(), head.end())};
}

Result<Bytes> Manifest::seal(const Epoch &present, const Epoch &next, const Sum &sum) const {
    SecretBytes content(2 * kEpochSize + sum.size() + audit_head_.size());
    auto at = content.writable().begin();
    for (const ByteView part : {present.view(), next.view(), ByteView(sum), ByteView(audit_head_)})
        at = std::ranges::copy(part, at).out;
    return encrypt(envelope_key_, bytes_of(associated_), content.view());
}

void Manifest::adopt(Change &&change) {
    sum_ = change.sum_;
    ca_ = change.ca_;
    for (auto &[uuid, row] : change.rows_) {
        if (row)
            rows_.insert_or_assign(uuid, std::move(*row));
        else
            rows_.erase(uuid);
    }
}

// Every column, each with its length where that is not fixed.
Result<Manifest::Sum> Manifest::digest(const VtpmRecord &vtpm) const {
    Bytes message(vtpm.uuid.bytes.begin(), vtpm.uuid.bytes.end());
    message.push_back(static_cast<std::uint8_t>(vtpm.version));
    for (const std::uint64_t value : {static_cast<std::uint64_t>(vtpm.created), vtpm.sequence, vtpm.volatile_sequence})
        append_number(message, value);
    for (const Bytes *bytes : {&vtpm.wrapped_key, &vtpm.tag, &vtpm.volatile_tag, &vtpm.endorsement})
        append_sized(message, *bytes);
    append_sized(message, bytes_of(vtpm.profile.pcr_banks.to_string()));
    append_sized(message, bytes_of(vtpm.profile.algorithms));
    Sum digest{};
    VTPM_TRY(hmac(rows_key_, message, digest));
    return digest;
}

Result<Manifest::Sum> Manifest::digest(const CaRecord &ca) const {
    Sum digest{};
    if (ca.certificate.empty()) return digest;
    Bytes message;
    for (const Bytes *bytes : {&ca.key.public_area, &ca.key.private_area, &ca.certificate})
        append_sized(message, *bytes);
    VTPM_TRY(hmac(ca_key_, message, digest));
    return digest;
}

Result<> Manifest::Change::put(const CaRecord &ca) {
    VTPM_ASSIGN(const Sum digest, manifest_->digest(ca));
    add(sum_, ca_);
    add(sum_, digest);
    ca_ = digest;
    return {};
}

Result<> Manifest::Change::put(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(const Sum digest, manifest_->digest(vtpm));
    if (const Row *before = find(vtpm.uuid)) add(sum_, before->digest);
    add(sum_, digest);
    rows_.insert_or_assign(vtpm.uuid, Row{vtpm, digest});
    return {};
}

Result<> Manifest::Change::put(const StateWrite &state) {
    VTPM_ASSIGN(const Row *before, row(state.uuid));
    VtpmRecord vtpm = before->vtpm;
    apply(state, vtpm);
    return put(vtpm);
}

Result<> Manifest::Change::end_volatile_state(const Uuid &uuid) {
    VTPM_ASSIGN(const Row *before, row(uuid));
    VtpmRecord vtpm = before->vtpm;
    vtpm.volatile_tag.clear();
    return put(vtpm);
}

Result<> Manifest::Change::remove(const Uuid &uuid) {
    VTPM_ASSIGN(const Row *before, row(uuid));
    add(sum_, before->digest);
    rows_.insert_or_assign(uuid, std::nullopt);
    return {};
}

const Manifest::Row *Manifest::Change::find(const Uuid &uuid) const {
    if (const auto changed = rows_.find(uuid); changed != rows_.end())
        return changed->second ? &*changed->second : nullptr;
    const auto found = manifest_->rows_.find(uuid);
    return found == manifest_->rows_.end() ? nullptr : &found->second;
}

Result<const Manifest::Row *> Manifest::Change::row(const Uuid &uuid) const {
    const Row *found = find(uuid);
    if (found == nullptr) return fail(ErrorCode::kNotFound, "the group has no vTPM {}", uuid.to_string());
    return found;
}

Result<Bytes> Manifest::Change::seal() const { return manifest_->seal(manifest_->epoch_, manifest_->epoch_, sum_); }

}  // namespace vtpm
