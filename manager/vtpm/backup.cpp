// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/backup.hpp"

#include "base/legible.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/crypto/pem.hpp"
#include "shared-protocol/codec.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kLabel = "XEN VTPM BACKUP";
constexpr std::uint16_t kBackupVersion = 5;
constexpr std::uint16_t kWithoutApprover = 4;  // the versions before
constexpr std::uint16_t kWithoutLaunch = 3;
constexpr std::size_t kMaxText = 64;  // a group's name, a store's id
constexpr std::size_t kMaxWrappedKey = 256;
constexpr std::size_t kMaxApprover = 1024;  // kMaxArea (public_area.hpp)
constexpr std::size_t kMaxHeader = kMaxEndorsement + 2048;
constexpr std::size_t kMaxFile = kMaxState + 2 * kMaxHeader;

Result<Bytes> encode_header(const BackupHeader &header) {
    Bytes buffer(kMaxHeader);
    Encoder encoder(buffer);
    encoder.u16(kBackupVersion);
    encoder.uuid(header.uuid);
    encoder.u8(static_cast<std::uint8_t>(header.version));
    encoder.text(header.profile.pcr_banks.to_string(), kMaxText);
    encoder.text(header.profile.algorithms, kMaxAlgorithms);
    encoder.text(header.group, kMaxText);
    encoder.text(header.store_id, kMaxText);
    encoder.u64(static_cast<std::uint64_t>(header.time));
    encoder.bytes(header.endorsement);
    encoder.bytes(header.wrapped_group_key);
    encoder.text(to_string(header.launch), kMaxText);
    encoder.bytes(header.launch_approver);
    const ByteView message = encoder.message();
    if (message.empty()) return fail(ErrorCode::kSystem, "the backup's header is too large");
    return Bytes(message.begin(), message.end());
}

Result<BackupHeader> decode_header(ByteView bytes) {
    Decoder decoder(bytes);
    const std::uint16_t format = decoder.u16();
    if (format < kWithoutLaunch || format > kBackupVersion)
        return fail(ErrorCode::kInvalid, "the backup's format is version {}, this program knows {} to {}", format,
                    kWithoutLaunch, kBackupVersion);
    BackupHeader header;
    header.uuid = decoder.uuid();
    const std::uint8_t version = decoder.u8();
    if (version != static_cast<std::uint8_t>(TpmVersion::k12) && version != static_cast<std::uint8_t>(TpmVersion::k20))
        decoder.reject();
    header.version = static_cast<TpmVersion>(version);
    const auto pcr_banks = PcrBanks::parse(decoder.text(kMaxText));
    if (pcr_banks)
        header.profile.pcr_banks = *pcr_banks;
    else
        decoder.reject();
    header.profile.algorithms = decoder.text(kMaxAlgorithms);
    header.group = legible(std::string(decoder.text(kMaxText)));
    header.store_id = legible(std::string(decoder.text(kMaxText)));
    header.time = static_cast<std::int64_t>(decoder.u64());
    if (header.time < 0 || header.time > kLastUtc) decoder.reject();
    const ByteView endorsement = decoder.bytes(kMaxEndorsement);
    header.endorsement.assign(endorsement.begin(), endorsement.end());
    const ByteView wrapped = decoder.bytes(kMaxWrappedKey);
    header.wrapped_group_key.assign(wrapped.begin(), wrapped.end());
    if (format > kWithoutLaunch) {
        const auto launch = parse_launch_policy(decoder.text(kMaxText));
        if (launch)
            header.launch = *launch;
        else
            decoder.reject();
    }
    if (format > kWithoutApprover) {
        const ByteView approver = decoder.bytes(kMaxApprover);
        header.launch_approver.assign(approver.begin(), approver.end());
    }
    if ((header.launch == LaunchPolicy::kRequireApproved) != !header.launch_approver.empty()) decoder.reject();
    if (!decoder.complete()) return fail(ErrorCode::kInvalid, "the backup is damaged");
    return header;
}

Result<Key> backup_key(const Key &group_key) { return derive_key(group_key, "xen-vtpm vTPM backup"); }

}  // namespace

Result<std::string> make_backup(const Key &group_key, const BackupHeader &header, ByteView state) {
    VTPM_ASSIGN(const Bytes encoded, encode_header(header));
    VTPM_ASSIGN(const Key key, backup_key(group_key));
    VTPM_ASSIGN(const Bytes box, encrypt(key, encoded, state));
    // The header with its length, and the box.
    Bytes payload(kMaxHeader + sizeof(std::uint32_t));
    Encoder encoder(payload);
    encoder.bytes(encoded);
    payload.resize(encoder.message().size());
    payload.insert(payload.end(), box.begin(), box.end());
    return to_pem(kLabel, payload);
}

Result<Backup> parse_backup(std::string_view pem) {
    if (pem.size() > 2 * kMaxFile) return fail(ErrorCode::kInvalid, "the backup is larger than any could be");
    if (pem_label(pem) != kLabel) return fail(ErrorCode::kInvalid, "this is not a file that xen-vtpm export made");
    const auto block = first_pem_block(pem);
    if (!block) return fail(ErrorCode::kInvalid, "the backup is damaged: its PEM block does not end as it began");
    const Bytes &payload = block->der;
    Decoder decoder(payload);
    const ByteView encoded = decoder.bytes(kMaxHeader);
    const std::size_t used = encoded.size() + sizeof(std::uint32_t);
    if (encoded.empty() || payload.size() < used) return fail(ErrorCode::kInvalid, "the backup is damaged");
    VTPM_ASSIGN(BackupHeader header, decode_header(encoded));
    return Backup{std::move(header), Bytes(encoded.begin(), encoded.end()),
                  Bytes(payload.begin() + static_cast<std::ptrdiff_t>(used), payload.end())};
}

Result<SecretBytes> open_backup(const Key &group_key, const Backup &backup) {
    VTPM_ASSIGN(const Key key, backup_key(group_key));
    auto state = decrypt(key, backup.encoded_header, backup.box);
    if (!state)
        return fail(state.error().code, "the backup of vTPM {}: {}", backup.header.uuid.to_string(),
                    state.error().text);
    if (state->empty() || state->view().size() > kMaxState)
        return fail(ErrorCode::kRefused, "the backup of vTPM {} holds no state", backup.header.uuid.to_string());
    return state;
}

}  // namespace vtpm
