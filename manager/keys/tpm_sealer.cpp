// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/tpm_sealer.hpp"

#include "manager/hardware_tpm/hardware_tpm.hpp"

namespace vtpm {
namespace {

class TpmSealer final : public Sealer {
public:
    TpmSealer(HardwareTpm tpm, PcrSelection pcrs) : tpm_(std::move(tpm)), pcrs_(std::move(pcrs)) {}

    [[nodiscard]] ByteView identity() const override { return tpm_.storage_key_name(); }
    [[nodiscard]] std::string description() const override { return tpm_.description(); }

    Result<SealedKey> seal(const Key &key) override {
        VTPM_ASSIGN(SealedObject object, tpm_.seal(key.view(), pcrs_));
        return SealedKey{pcrs_.to_string(), std::move(object.public_area), std::move(object.private_area)};
    }

    Result<Key> unseal(const SealedKey &sealed) override {
        const auto pcrs = PcrSelection::parse(sealed.policy);
        if (!pcrs) return fail(ErrorCode::kRefused, "the policy of the sealed group key is damaged: {}", sealed.policy);
        VTPM_ASSIGN(const SecretBytes plaintext, tpm_.unseal({sealed.public_area, sealed.private_area}, *pcrs));
        return key_from(plaintext.view());
    }

private:
    HardwareTpm tpm_;
    PcrSelection pcrs_;
};

}  // namespace

Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, const PcrSelection &pcrs, ByteView pinned) {
    VTPM_ASSIGN(HardwareTpm tpm, HardwareTpm::open(tcti, pinned));
    return std::make_unique<TpmSealer>(std::move(tpm), pcrs);
}

}  // namespace vtpm
