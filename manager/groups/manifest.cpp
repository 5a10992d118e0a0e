// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/manifest.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <string_view>

#include "shared-protocol/codec.hpp"

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

// With the version of what is in the envelope.
Bytes associated(int version, std::string_view place) {
    const std::string text = fmt::format("xen-vtpm manifest {}, {}", version, place);
    return {text.begin(), text.end()};
}

tl::unexpected<Error> changed_row(const Uuid &uuid) {
    return fail(ErrorCode::kRefused, "vTPM {}: its row in the store is not as it was last written", uuid.to_string());
}

tl::unexpected<Error> unknown(const Uuid &uuid) {
    return fail(ErrorCode::kNotFound, "the group has no vTPM {}", uuid.to_string());
}

constexpr std::size_t kMaxField = 1024;  // an approver's RSA-3072 key takes 400 bytes
constexpr std::size_t kFields = 11;      // of Terms and the audit log's end, but for the list of groups
constexpr std::size_t kGroupIdSize = 16;
constexpr std::size_t kMaxListed = 128;  // a group's name and its id, each with its length

std::size_t size_of(const GroupList &groups) { return 32 + kMaxListed * (groups.ids.size() + groups.gone.size()); }

constexpr int kKnowsGroups = 3;
constexpr int kKnowsGone = 4;

// That is written: a former program reads it while it can.
int groups_version(const GroupList &groups) { return groups.gone.empty() ? kKnowsGroups : kKnowsGone; }

void encode(Encoder &out, const Terms &terms) {
    out.bytes(bytes_of(terms.pcrs));
    out.bytes(terms.approver);
    out.u32(terms.generation);
    out.bytes(bytes_of(terms.sealing));
    out.bytes(terms.identity);
    out.bytes(bytes_of(terms.store_id));
    out.u64(static_cast<std::uint64_t>(terms.created));
    out.bytes(terms.recovery);
    out.bytes(terms.beginning);
    out.bytes(terms.id);
    out.u64(terms.groups.number);
    out.u32(static_cast<std::uint32_t>(terms.groups.ids.size()));
    for (const auto &[name, id] : terms.groups.ids) {
        out.bytes(bytes_of(name));
        out.bytes(id);
    }
    if (groups_version(terms.groups) < kKnowsGone) return;
    out.u32(static_cast<std::uint32_t>(terms.groups.gone.size()));
    for (const Bytes &id : terms.groups.gone) out.bytes(id);
}

Bytes copied(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

Terms decode_terms(Decoder &in) {
    Terms terms;
    terms.pcrs = in.text(kMaxField);
    terms.approver = copied(in.bytes(kMaxField));
    terms.generation = in.u32();
    terms.sealing = in.text(kMaxField);
    terms.identity = copied(in.bytes(kMaxField));
    terms.store_id = in.text(kMaxField);
    terms.created = static_cast<std::int64_t>(in.u64());
    terms.recovery = copied(in.bytes(kMaxField));
    terms.beginning = copied(in.bytes(kMaxField));
    return terms;
}

GroupList decode_groups(Decoder &in) {
    GroupList groups;
    groups.number = in.u64();
    for (std::uint32_t count = in.u32(); count > 0; --count) {
        std::string name(in.text(kMaxField));
        groups.ids.insert_or_assign(std::move(name), copied(in.bytes(kMaxField)));
    }
    return groups;
}

Manifest::Content decode_epochs(Decoder &in) {
    Manifest::Content content;
    const ByteView present = in.raw(kEpochSize);
    const ByteView next = in.raw(kEpochSize);
    const ByteView sum = in.raw(sizeof(Manifest::Sum));
    content.present = epoch_of(present);
    content.next = epoch_of(next);
    std::ranges::copy(sum, content.sum.begin());
    return content;
}

// Version 1 ends with the audit log's end, which is empty or 32 bytes, and knows no terms.
std::optional<Manifest::Content> decode_1(ByteView plaintext) {
    constexpr std::size_t kHead = 2 * kEpochSize + sizeof(Manifest::Sum);
    if (plaintext.size() < kHead) return std::nullopt;
    Decoder in(plaintext.first(kHead));
    Manifest::Content content = decode_epochs(in);
    content.audit_head = copied(plaintext.subspan(kHead));
    return content;
}

Manifest::Content decode_with_terms(Decoder &in) {
    Manifest::Content content = decode_epochs(in);
    content.audit_head = copied(in.bytes(kMaxField));
    content.terms = decode_terms(in);
    return content;
}

// Version 2 knows no other groups.
std::optional<Manifest::Content> decode_2(ByteView plaintext) {
    Decoder in(plaintext);
    Manifest::Content content = decode_with_terms(in);
    if (!in.complete()) return std::nullopt;
    return content;
}

Manifest::Content decode_with_groups(Decoder &in) {
    Manifest::Content content = decode_with_terms(in);
    content.terms->id = copied(in.bytes(kMaxField));
    content.terms->groups = decode_groups(in);
    return content;
}

std::optional<Manifest::Content> decode_3(ByteView plaintext) {
    Decoder in(plaintext);
    Manifest::Content content = decode_with_groups(in);
    if (!in.complete()) return std::nullopt;
    return content;
}

std::optional<Manifest::Content> decode_4(ByteView plaintext) {
    Decoder in(plaintext);
    Manifest::Content content = decode_with_groups(in);
    for (std::uint32_t count = in.u32(); count > 0; --count)
        content.terms->groups.gone.insert(copied(in.bytes(kMaxField)));
    if (!in.complete()) return std::nullopt;
    return content;
}

using Decode = std::optional<Manifest::Content> (*)(ByteView);
constexpr std::pair<int, Decode> kDecoders[] = {
    {kKnowsGone, decode_4}, {kKnowsGroups, decode_3}, {2, decode_2}, {1, decode_1}};

}  // namespace

bool is_none(const Epoch &epoch) { return epoch == Epoch(); }

Bytes digest_of(ByteView bytes) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(bytes.data(), bytes.size(), digest.data());
    return digest;
}

GroupRecord as_remembered(GroupRecord group, const Terms &terms) {
    group.pcrs = terms.pcrs;
    group.approver = terms.approver;
    group.generation = terms.generation;
    return group;
}

Terms terms_of(const GroupRecord &group, std::string_view sealing, ByteView identity, std::string_view store_id) {
    return {group.pcrs,       group.approver,
            group.generation, std::string(sealing),
            copied(identity), std::string(store_id),
            group.created,    group.recovery.empty() ? Bytes() : digest_of(group.recovery)};
}

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

void GroupList::erase(const std::string &name) {
    const auto found = ids.find(name);
    if (found == ids.end()) return;
    gone.insert(std::move(found->second));
    ids.erase(found);
}

void GroupList::join(const GroupList &other) {
    ids.insert(other.ids.begin(), other.ids.end());
    gone.insert(other.gone.begin(), other.gone.end());
    std::erase_if(ids, [&](const auto &entry) { return gone.contains(entry.second); });
}

GroupList next_of(GroupList groups) {
    if (groups.number == 0) return {};
    ++groups.number;
    return groups;
}

Result<Bytes> random_group_id() {
    Bytes id(kGroupIdSize);
    VTPM_TRY(random_bytes(id));
    return id;
}

bool operator==(const Epoch &left, const Epoch &right) {
    return CRYPTO_memcmp(left.view().data(), right.view().data(), kEpochSize) == 0;
}

Result<Key> epoch_authorization(const Key &group_key) { return derive_key(group_key, "xen-vtpm epoch authorization"); }
Result<Key> ca_authorization(const Key &group_key) { return derive_key(group_key, "xen-vtpm CA authorization"); }

Result<Manifest> Manifest::without_rows(const Key &group_key, const GroupRecord &group, Store &store, Terms terms) {
    Manifest manifest(store);
    manifest.place_ = fmt::format("index {:#010x}, group {}", group.nv_index, group.name);
    manifest.terms_ = std::move(terms);
    VTPM_ASSIGN(manifest.rows_key_, derive_key(group_key, "xen-vtpm manifest rows"));
    VTPM_ASSIGN(manifest.ca_key_, derive_key(group_key, "xen-vtpm manifest CA"));
    VTPM_ASSIGN(manifest.envelope_key_, derive_key(group_key, "xen-vtpm manifest envelope"));
    Draft ca(manifest);
    VTPM_TRY(ca.put(group.ca));
    manifest.adopt(std::move(ca));
    return manifest;
}

Result<Manifest> Manifest::over(const Key &group_key, const GroupRecord &group, Store &store, Terms terms) {
    VTPM_ASSIGN(Manifest manifest, without_rows(group_key, group, store, std::move(terms)));
    VTPM_TRY(store.each_vtpm_of(group.name, [&](const VtpmRecord &vtpm) -> Result<> {
        VTPM_ASSIGN(const Sum digest, manifest.digest(vtpm));
        add(manifest.sum_, digest);
        if (manifest.digests_.emplace(vtpm.uuid, digest).second) return {};
        return fail(ErrorCode::kRefused, "store: vTPM {} has two rows: it is damaged", vtpm.uuid.to_string());
    }));
    return manifest;
}

Result<Manifest::Content> Manifest::read(ByteView envelope) const {
    for (const auto &[version, decode] : kDecoders) {
        const auto plaintext = decrypt(envelope_key_, associated(version, place_), envelope);
        if (!plaintext) continue;
        if (auto content = decode(plaintext->view())) return std::move(*content);
    }
    return fail(ErrorCode::kRefused, "its manifest is damaged or not its own");
}

Result<> Manifest::verify_rows(const Content &content) const {
    if (content.sum == sum_) return {};
    return fail(ErrorCode::kRefused,
                "the inventory of its vTPMs is not as it was last written: rows were put back, changed or removed");
}

Result<> Manifest::require_present(const VtpmRecord &vtpm) const {
    const auto known = digests_.find(vtpm.uuid);
    VTPM_ASSIGN(const Sum digest, this->digest(vtpm));
    if (known != digests_.end() && known->second == digest) return {};
    return changed_row(vtpm.uuid);
}

Result<> Manifest::verify(const VtpmRecord &vtpm) {
    VTPM_TRY(require_present(vtpm));
    remember(vtpm);
    return {};
}

Result<Bytes> Manifest::seal(const Epoch &present, const Epoch &next, const Sum &sum, const Terms &terms) const {
    SecretBytes buffer(2 * kEpochSize + sum.size() + kFields * kMaxField + size_of(terms.groups));
    Encoder out(buffer.writable());
    for (const ByteView part : {present.view(), next.view(), ByteView(sum)}) out.raw(part);
    out.bytes(audit_head_);
    encode(out, terms);
    if (out.message().empty())
        return fail(ErrorCode::kRefused, "store: the row of a group is damaged: it is too large");
    return encrypt(envelope_key_, associated(groups_version(terms.groups), place_), out.message());
}

void Manifest::adopt(Draft &&draft) {
    sum_ = draft.sum_;
    ca_ = draft.ca_;
    terms_ = std::move(draft.terms_);
    for (auto &[uuid, row] : draft.rows_) {
        if (row) {
            digests_.insert_or_assign(uuid, row->digest);
            remember(std::move(row->vtpm));
        } else {
            digests_.erase(uuid);
            recent_.erase(uuid);
        }
    }
}

void Manifest::remember(VtpmRecord vtpm) {
    const Uuid uuid = vtpm.uuid;
    recent_.insert_or_assign(uuid, std::move(vtpm));
    if (recent_.size() <= kMostRecent) return;
    const auto first = recent_.begin();
    recent_.erase(first->first == uuid ? std::next(first) : first);
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
    // Rows of before schema 11 have none of these, those of before schema 12 the first two at most, and those of before
    // schema 14 the first four.
    const bool named = !vtpm.alias.empty() || !vtpm.guest.empty() || vtpm.last_used != 0;
    const bool bound = named || !vtpm.launch_approver.empty() || !vtpm.launch_binding.empty();
    if (vtpm.launch != LaunchPolicy::kOff || !vtpm.event_log_digest.empty() || bound) {
        append_sized(message, bytes_of(to_string(vtpm.launch)));
        append_sized(message, vtpm.event_log_digest);
    }
    if (bound) {
        append_sized(message, vtpm.launch_approver);
        append_sized(message, vtpm.launch_binding);
    }
    if (named) {
        append_sized(message, bytes_of(vtpm.alias));
        append_sized(message, bytes_of(vtpm.guest));
        append_number(message, static_cast<std::uint64_t>(vtpm.last_used));
    }
    Sum digest{};
    VTPM_TRY(hmac(rows_key_, message, digest));
    return digest;
}

Result<Manifest::Sum> Manifest::digest(const CaRecord &ca) const {
    Sum digest{};
    if (ca.certificates.empty()) return digest;
    Bytes message;
    for (const Bytes *bytes : {&ca.key.public_area, &ca.key.private_area, &ca.certificates})
        append_sized(message, *bytes);
    VTPM_TRY(hmac(ca_key_, message, digest));
    return digest;
}

Result<> Manifest::Draft::put(const CaRecord &ca) {
    VTPM_ASSIGN(const Sum digest, manifest_->digest(ca));
    add(sum_, ca_);
    add(sum_, digest);
    ca_ = digest;
    return {};
}

Result<> Manifest::Draft::put(const VtpmRecord &vtpm) {
    VTPM_ASSIGN(const Sum digest, manifest_->digest(vtpm));
    if (const Sum *before = find(vtpm.uuid)) add(sum_, *before);
    add(sum_, digest);
    rows_.insert_or_assign(vtpm.uuid, Row{vtpm, digest});
    return {};
}

Result<> Manifest::Draft::put(const StateWrite &state) {
    VTPM_ASSIGN(VtpmRecord vtpm, row(state.uuid));
    apply(state, vtpm);
    return put(vtpm);
}

Result<> Manifest::Draft::end_volatile_state(const Uuid &uuid) {
    VTPM_ASSIGN(VtpmRecord vtpm, row(uuid));
    vtpm.volatile_tag.clear();
    return put(vtpm);
}

Result<> Manifest::Draft::remove(const Uuid &uuid) {
    const Sum *before = find(uuid);
    if (before == nullptr) return unknown(uuid);
    add(sum_, *before);
    rows_.insert_or_assign(uuid, std::nullopt);
    return {};
}

const Manifest::Sum *Manifest::Draft::find(const Uuid &uuid) const {
    if (const auto changed = rows_.find(uuid); changed != rows_.end())
        return changed->second ? &changed->second->digest : nullptr;
    const auto found = manifest_->digests_.find(uuid);
    return found == manifest_->digests_.end() ? nullptr : &found->second;
}

// From the store if need be, where it must be as it was last written.
Result<VtpmRecord> Manifest::Draft::row(const Uuid &uuid) const {
    const Sum *digest = find(uuid);
    if (digest == nullptr) return unknown(uuid);
    if (const auto changed = rows_.find(uuid); changed != rows_.end()) return changed->second->vtpm;
    if (const auto recent = manifest_->recent_.find(uuid); recent != manifest_->recent_.end()) return recent->second;
    VTPM_ASSIGN(auto stored, manifest_->store_->find_vtpm(uuid));
    if (!stored) return unknown(uuid);
    VTPM_ASSIGN(const Sum present, manifest_->digest(*stored));
    if (present != *digest) return changed_row(uuid);
    return std::move(*stored);
}

Result<Bytes> Manifest::Draft::seal() const {
    return manifest_->seal(manifest_->epoch_, manifest_->epoch_, sum_, terms_);
}

}  // namespace vtpm
