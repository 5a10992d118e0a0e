// SPDX-License-Identifier: Apache-2.0
#include "manager/ca/reissue.hpp"

#include <tss2/tss2_tpm2_types.h>

#include "manager/ca/signed_ca.hpp"

namespace vtpm {

Reissue::Reissue(const std::vector<CertifiedKey> &keys, const std::vector<EkTemplate> &kinds, ByteView chain)
    : TpmDialogue("the TPM") {
    for (const EkTemplate kind : kinds) remove(ek_certificate_index(kind));
    for (std::size_t at = 0; at < kMaxCaCertificates; at += kMaxIndex)
        remove(static_cast<std::uint32_t>(kEkCertificateChainIndex + at / kMaxIndex));
    write_certificates(keys, kinds, chain);
    shut_down();
}

// One of ours. Where there is none, the guest's owner may have defined one: that is left, and in the way if the index
// is needed.
void Reissue::remove(std::uint32_t index) {
    // TPM2B_NV_PUBLIC: size, nvIndex, nameAlg, attributes.
    const auto take = [this, index](ByteView response) -> Result<> {
        constexpr std::size_t kAttributes = 2 + 4 + 2;
        if (response.size() < kAttributes + 4) return malformed("TPM2_NV_ReadPublic");
        if ((big_endian(response.subspan(kAttributes, 4)) & TPMA_NV_PLATFORMCREATE) == 0) return {};
        now("TPM2_NV_UndefineSpace", authorized_command(TPM2_CC_NV_UndefineSpace, {TPM2_RH_PLATFORM, index}, {}));
        return {};
    };
    then("TPM2_NV_ReadPublic", plain_command(TPM2_CC_NV_ReadPublic, BigEndian().u32(index)), take,
         OnFailure::kGoOn);  // there is none
}

}  // namespace vtpm
