// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/file_sealer.hpp"

#include <fcntl.h>
#include <openssl/sha.h>

#include <algorithm>

#include "base/unique_fd.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kAssociated = "xen-vtpm group key";

// The file's key by its digest.
Bytes identity_of(const Key &key) {
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(key.view().data(), key.view().size(), digest.data());
    return digest;
}

class FileSealer final : public Sealer {
public:
    FileSealer(std::string path, Key key)
        : path_(std::move(path)), key_(std::move(key)), identity_(identity_of(key_)) {}

    [[nodiscard]] ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string_view sealing() const override { return "file"; }
    [[nodiscard]] std::string description() const override { return fmt::format("the file {}, NOT a TPM", path_); }

    Result<SealedObject> seal(const Key &key, const KeyPolicy &policy, Opens) override {
        if (policy.approver || !policy.pcrs.empty()) return no_pcrs();
        VTPM_ASSIGN(Bytes box, encrypt(key_, bytes_of(kAssociated), key.view()));
        return SealedObject{{}, {}, std::move(box)};
    }

    // A file forgets nothing: who has copies of both has the key.
    Result<> advance(const SealedObject &, const KeyPolicy &) override { return {}; }

    Result<Key> unseal(const SealedObject &object, const KeyPolicy &, const std::vector<BootPolicy> &) override {
        const auto plaintext = decrypt(key_, bytes_of(kAssociated), object.private_area);
        if (!plaintext) return fail(ErrorCode::kRefused, "the group key: {}", plaintext.error().text);
        return key_from(plaintext->view());
    }

    Result<> require_approved(const KeyPolicy &, const std::vector<BootPolicy> &) override { return no_pcrs(); }
    Result<PcrValues> read(const PcrSelection &) override { return no_pcrs(); }

    Result<SecretBytes> random(std::size_t size) override {
        SecretBytes bytes(size);
        VTPM_TRY(random_bytes(bytes.writable()));
        return bytes;
    }
    [[nodiscard]] bool has_signing_keys() const override { return false; }
    Result<TpmKey> create_signing_key(const Key &) override { return no_signing_keys(); }
    Result<TpmKey> change_authorization(const TpmKey &, const Key &, const Key &) override { return no_signing_keys(); }
    Result<Bytes> sign(const TpmKey &, const Key &, ByteView) override { return no_signing_keys(); }
    Result<HostIdentity> host(std::optional<EkTemplate> /*wanted*/) override { return no_signing_keys(); }
    Result<SecretBytes> activate(const Credential &) override { return no_signing_keys(); }
    Result<HostEvidence> attest(const PcrSelection &, const TpmKey &, const Key &, ByteView) override {
        return no_signing_keys();
    }

    // A file beside the store would be put back with it.
    Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &) override { return 0; }
    Result<std::vector<std::uint32_t>> used_indices() override { return std::vector<std::uint32_t>(); }
    [[nodiscard]] std::uint32_t other_index(std::uint32_t) const override { return 0; }
    Result<SecretBytes> read_epoch(std::uint32_t, const Key &) override { return no_index(); }
    Result<> write_epoch(std::uint32_t, const Key &, ByteView) override { return no_index(); }
    Result<> remove_epoch(std::uint32_t) override { return {}; }
    Result<> remove_counter(std::uint32_t) override { return {}; }

private:
    static tl::unexpected<Error> no_pcrs() {
        return fail(ErrorCode::kRefused, "a key file knows no PCRs: sealing = \"tpm\" does");
    }

    static tl::unexpected<Error> no_signing_keys() {
        return fail(ErrorCode::kRefused, "sealing = \"file\" certifies nothing: sealing = \"tpm\" does");
    }
    static tl::unexpected<Error> no_index() { return fail(ErrorCode::kRefused, "a key file has no NV indices"); }

    std::string path_;
    Key key_;
    Bytes identity_;
};

Result<Key> read_key(const std::string &path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return fail(ErrorCode::kRefused, "the sealing key {} cannot be read: {}", path, std::strerror(errno));
    Key key;
    const MutableBytes bytes = key.writable();
    if (::read(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
        return fail(ErrorCode::kRefused, "the sealing key {} is truncated", path);
    return key;
}

// O_EXCL: a key that is there was made for another store, and is not overwritten.
Result<Key> create_key(const std::string &path) {
    VTPM_ASSIGN(Key key, random_key());
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fail_errno("create the sealing key {}", path);
    const ByteView bytes = key.view();
    if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
        ::fsync(file.get()) != 0)
        return fail_errno("write the sealing key {}", path);
    return key;
}

}  // namespace

Result<std::unique_ptr<Sealer>> open_file_sealer(const std::string &path, ByteView pinned) {
    // A first start that ended between the key and the store finds its own key again.
    const bool create = pinned.empty() && ::access(path.c_str(), F_OK) != 0;
    VTPM_ASSIGN(Key key, create ? create_key(path) : read_key(path));
    auto sealer = std::make_unique<FileSealer>(path, std::move(key));
    if (!pinned.empty() && !std::ranges::equal(pinned, sealer->identity()))
        return fail(ErrorCode::kRefused, "{} is not the key that sealed this store", path);
    return std::unique_ptr<Sealer>(std::move(sealer));
}

}  // namespace vtpm
