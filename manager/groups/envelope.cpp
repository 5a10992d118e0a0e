// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/envelope.hpp"

#include <algorithm>
#include <array>

namespace vtpm {
namespace {

constexpr std::string_view kMagic = "xvtpm\r\n\x1a";  // shows a text-mode transfer, as PNG's does
constexpr std::uint16_t kEnvelopeVersion = 1;
constexpr std::size_t kMaxGroupName = 64;

// The former keys: of stores of schema 13 and before, under the group's key itself.
enum class Content : std::uint8_t {
    kPermanentState = 1,
    kVolatileState = 2,
    kFormerVtpmKey = 3,
    kFormerBoundVtpmKey = 4,
    kVtpmKey = 5,
    kBoundVtpmKey = 6
};

Content content_of(StateKind kind) {
    return kind == StateKind::kPermanent ? Content::kPermanentState : Content::kVolatileState;
}

Content key_content(ByteView binding) { return binding.empty() ? Content::kVtpmKey : Content::kBoundVtpmKey; }

Content former_key_content(ByteView binding) {
    return binding.empty() ? Content::kFormerVtpmKey : Content::kFormerBoundVtpmKey;
}

bool is_bound(std::uint8_t content) {
    return content == static_cast<std::uint8_t>(Content::kBoundVtpmKey) ||
           content == static_cast<std::uint8_t>(Content::kFormerBoundVtpmKey);
}

struct Header {
    Content content;
    VtpmIdentity vtpm;
    std::uint64_t sequence;
    std::uint32_t length;  // of the plaintext
    ByteView binding{};    // of a bound key
};

using HeaderBuffer = std::array<std::uint8_t, 160>;

// Magic and version first, so that any later version can be told from a damaged envelope.
ByteView encode_header(const Header &header, HeaderBuffer &buffer) {
    Encoder encoder(buffer);
    for (const char c : kMagic) encoder.u8(static_cast<std::uint8_t>(c));
    encoder.u16(kEnvelopeVersion);
    encoder.u8(static_cast<std::uint8_t>(header.content));
    encoder.u8(static_cast<std::uint8_t>(header.vtpm.version));
    encoder.uuid(header.vtpm.uuid);
    encoder.text(header.vtpm.group, kMaxGroupName);
    encoder.u64(header.sequence);
    encoder.u32(header.length);
    encoder.raw(header.binding);
    return encoder.message();
}

Result<Bytes> seal(const Key &key, const Header &header, ByteView plaintext) {
    HeaderBuffer buffer;
    const ByteView encoded = encode_header(header, buffer);
    VTPM_ASSIGN(Bytes envelope, encrypt(key, encoded, plaintext));
    envelope.insert(envelope.begin(), encoded.begin(), encoded.end());
    return envelope;
}

// Why the header of `envelope` is not the expected one, for the administrator; only the tag proves anything.
std::string difference(const Header &expected, ByteView envelope) {
    Decoder decoder(envelope);
    const ByteView magic = decoder.raw(kMagic.size());
    if (!std::equal(magic.begin(), magic.end(), kMagic.begin(), kMagic.end(),
                    [](std::uint8_t byte, char c) { return byte == static_cast<std::uint8_t>(c); }))
        return "it is not an envelope of xen-vtpm";
    if (const auto version = decoder.u16(); version != kEnvelopeVersion)
        return fmt::format("its format is version {}, this program knows {}", version, kEnvelopeVersion);
    if (const std::uint8_t content = decoder.u8(); content != static_cast<std::uint8_t>(expected.content))
        return is_bound(content) ? "it is bound to launches that an approver signs, and its row says something else"
                                 : "it holds something else";
    if (decoder.u8() != static_cast<std::uint8_t>(expected.vtpm.version)) return "it is of another TPM version";
    if (const Uuid uuid = decoder.uuid(); uuid != expected.vtpm.uuid)
        return fmt::format("it belongs to vTPM {}", uuid.to_string());
    if (decoder.text(kMaxGroupName) != expected.vtpm.group) return "it belongs to another group";
    if (const auto sequence = decoder.u64(); sequence != expected.sequence)
        return fmt::format("its sequence is {}, the inventory says {}", sequence, expected.sequence);
    if (decoder.u32() != expected.length) return "its length differs: truncated or extended";
    return "it is bound to another approver, or by another binding, than its row says";
}

// The header is not believed but expected: built from what the inventory says, and compared.
Result<SecretBytes> open(const Key &key, Header expected, ByteView envelope) {
    HeaderBuffer buffer;
    const std::size_t header_size = encode_header(expected, buffer).size();
    if (envelope.size() < header_size + kCipherOverhead) return fail(ErrorCode::kRefused, "it is truncated");
    expected.length = static_cast<std::uint32_t>(envelope.size() - header_size - kCipherOverhead);
    const ByteView encoded = encode_header(expected, buffer);
    if (!std::equal(encoded.begin(), encoded.end(), envelope.begin()))
        return fail(ErrorCode::kRefused, "{}", difference(expected, envelope));
    return decrypt(key, encoded, envelope.subspan(header_size));
}

// What its header says, which decides only as what it is to be opened.
bool is_former_key(ByteView envelope) {
    constexpr std::size_t kContentAt = kMagic.size() + sizeof(kEnvelopeVersion);
    if (envelope.size() <= kContentAt) return false;
    const auto content = static_cast<Content>(envelope[kContentAt]);
    return content == Content::kFormerVtpmKey || content == Content::kFormerBoundVtpmKey;
}

// The group's key itself derives keys, and encrypts nothing.
Result<Key> wrapping_key(const Key &group_key) { return derive_key(group_key, "xen-vtpm vTPM keys"); }

tl::unexpected<Error> cannot_open(std::string_view what, const VtpmIdentity &vtpm, const Error &cause) {
    return fail(cause.code, "{} of vTPM {} cannot be opened: {}", what, vtpm.uuid.to_string(), cause.text);
}

}  // namespace

Result<Bytes> seal_state(const Key &vtpm_key, const VtpmIdentity &vtpm, StateKind kind, std::uint64_t sequence,
                         ByteView state) {
    return seal(vtpm_key, {content_of(kind), vtpm, sequence, static_cast<std::uint32_t>(state.size())}, state);
}

Result<SecretBytes> open_state(const Key &vtpm_key, const VtpmIdentity &vtpm, StateKind kind, std::uint64_t sequence,
                               ByteView envelope) {
    auto state = open(vtpm_key, {content_of(kind), vtpm, sequence, 0}, envelope);
    if (!state) return cannot_open("the state", vtpm, state.error());
    return state;
}

Result<Bytes> wrap_key(const Key &group_key, const VtpmIdentity &vtpm, ByteView binding, const Key &vtpm_key) {
    VTPM_ASSIGN(const Key wrapping, wrapping_key(group_key));
    return seal(wrapping, {key_content(binding), vtpm, 0, kKeySize, binding}, vtpm_key.view());
}

Result<Key> unwrap_key(const Key &group_key, const VtpmIdentity &vtpm, ByteView binding, ByteView wrapped) {
    VTPM_ASSIGN(const Key wrapping, wrapping_key(group_key));
    const auto plaintext = is_former_key(wrapped)
                               ? open(group_key, {former_key_content(binding), vtpm, 0, 0, binding}, wrapped)
                               : open(wrapping, {key_content(binding), vtpm, 0, 0, binding}, wrapped);
    if (!plaintext) return cannot_open("the key", vtpm, plaintext.error());
    return key_from(plaintext->view());
}

}  // namespace vtpm
