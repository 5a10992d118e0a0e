// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/tpm_sealer.hpp"

#include "manager/hardware_tpm/hardware_tpm.hpp"

namespace vtpm {
namespace {

class TpmSealer final : public Sealer {
public:
    explicit TpmSealer(HardwareTpm tpm) : tpm_(std::move(tpm)) {}

    [[nodiscard]] ByteView identity() const override { return tpm_.storage_key_name(); }
    [[nodiscard]] std::string description() const override { return tpm_.description(); }

    Result<SealedKey> seal(const Key &key, const PcrSelection &pcrs) override {
        VTPM_ASSIGN(SealedObject object, tpm_.seal(key.view(), pcrs));
        return SealedKey{pcrs.to_string(), std::move(object)};
    }

    Result<Key> unseal(const SealedKey &sealed) override {
        const auto pcrs = PcrSelection::parse(sealed.policy);
        if (!pcrs) return fail(ErrorCode::kRefused, "the policy of the sealed group key is damaged: {}", sealed.policy);
        VTPM_ASSIGN(const SecretBytes plaintext, tpm_.unseal(sealed.object, *pcrs));
        return key_from(plaintext.view());
    }

private:
    HardwareTpm tpm_;
};

}  // namespace

Result<std::unique_ptr<Sealer>> open_tpm_sealer(const std::string &tcti, ByteView pinned) {
    VTPM_ASSIGN(HardwareTpm tpm, HardwareTpm::open(tcti, pinned));
    return std::make_unique<TpmSealer>(std::move(tpm));
}

}  // namespace vtpm
