// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/endorsement.hpp"

#include "shared-protocol/codec.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kMaxKeys = 8;

}  // namespace

Bytes encode_endorsement(const std::vector<CertifiedKey> &keys) {
    if (keys.empty()) return {};
    Bytes buffer(kMaxEndorsement);
    Encoder encoder(buffer);
    encoder.u8(static_cast<std::uint8_t>(keys.size()));
    for (const CertifiedKey &key : keys) {
        encoder.bytes(key.public_area);
        encoder.bytes(key.certificate);
    }
    const ByteView encoded = encoder.message();
    require(!encoded.empty(), "three keys and their certificates are small");
    return {encoded.begin(), encoded.end()};
}

Result<std::vector<CertifiedKey>> decode_endorsement(ByteView bytes) {
    Decoder decoder(bytes);
    const std::uint8_t count = decoder.u8();
    if (count > kMaxKeys) decoder.reject();
    std::vector<CertifiedKey> keys;
    for (unsigned i = 0; i < std::min<std::size_t>(count, kMaxKeys); ++i) {
        const ByteView area = decoder.bytes(kMaxEndorsement);
        const ByteView certificate = decoder.bytes(kMaxEndorsement);
        keys.push_back({Bytes(area.begin(), area.end()), Bytes(certificate.begin(), certificate.end())});
    }
    if (!decoder.complete()) return fail(ErrorCode::kRefused, "the vTPM's endorsement keys in the store are damaged");
    return keys;
}

}  // namespace vtpm
