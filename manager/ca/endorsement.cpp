// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/endorsement.hpp"

#include "shared-protocol/codec.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxKeys = 8;
constexpr std::uint8_t kReissue = 0x80;  // beside the number of keys

}  // namespace

Bytes encode_endorsement(const Endorsement &endorsement) {
    const auto &keys = endorsement.keys;
    if (keys.empty()) return {};
    Bytes buffer(kMaxEndorsement);
    Encoder encoder(buffer);
    encoder.u8(static_cast<std::uint8_t>(keys.size() | (endorsement.reissue ? kReissue : 0U)));
    for (const CertifiedKey &key : keys) {
        encoder.bytes(key.public_area);
        encoder.bytes(key.certificate);
    }
    const ByteView encoded = encoder.message();
    require(!encoded.empty(), "three keys and their certificates are small");
    return {encoded.begin(), encoded.end()};
}

Result<Endorsement> decode_endorsement(ByteView bytes) {
    Endorsement endorsement;
    if (bytes.empty()) return endorsement;
    endorsement.reissue = awaits_reissue(bytes);
    Decoder decoder(bytes);
    const std::size_t count = decoder.u8() & ~kReissue;
    if (count > kMaxKeys) decoder.reject();
    for (std::size_t i = 0; i < std::min(count, kMaxKeys); ++i) {
        const ByteView area = decoder.bytes(kMaxEndorsement);
        const ByteView certificate = decoder.bytes(kMaxEndorsement);
        endorsement.keys.push_back({Bytes(area.begin(), area.end()), Bytes(certificate.begin(), certificate.end())});
    }
    if (!decoder.complete()) return fail(ErrorCode::kRefused, "the vTPM's endorsement keys in the store are damaged");
    return endorsement;
}

bool awaits_reissue(ByteView bytes) { return !bytes.empty() && (bytes.front() & kReissue) != 0; }

}  // namespace vtpm
