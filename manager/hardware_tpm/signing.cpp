// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/tpm/ca_key.hpp"
#include "manager/tpm/tpm_signature.hpp"

namespace vtpm {

Result<TpmKey> HardwareTpm::create_signing_key(ByteView authorization) {
    return create(SensitiveCreate(authorization, {}), TPM2B_PUBLIC{0, ca_key_form()});
}

Result<ESYS_TR> HardwareTpm::loaded(const TpmKey &key, ByteView authorization) {
    if (!loaded_ || loaded_->key != key) {
        loaded_.reset();
        VTPM_ASSIGN(EsysHandle handle, load(key.public_area, key.private_area));
        loaded_.emplace(LoadedKey{key, std::move(handle)});
    }
    const ESYS_TR handle = loaded_->handle.get();
    const Authorization auth(authorization);
    VTPM_TRY(checked("Esys_TR_SetAuth", [&] { return Esys_TR_SetAuth(esys_.get(), handle, &auth); }));
    return handle;
}

Result<TpmKey> HardwareTpm::change_authorization(const TpmKey &key, ByteView former, ByteView next) {
    VTPM_ASSIGN(const ESYS_TR object, loaded(key, former));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const Authorization authorization(next);
    EsysPtr<TPM2B_PRIVATE> private_area;
    VTPM_TRY(checked("TPM2_ObjectChangeAuth", [&] {
        return Esys_ObjectChangeAuth(esys_.get(), object, primary_.handle.get(), command, ESYS_TR_NONE, ESYS_TR_NONE,
                                     &authorization, out(private_area));
    }));
    TpmKey changed{key.public_area, {}};
    VTPM_ASSIGN(changed.private_area, marshalled(*private_area, Tss2_MU_TPM2B_PRIVATE_Marshal));
    return changed;
}

Result<Bytes> HardwareTpm::sign(const TpmKey &key, ByteView authorization, ByteView digest) {
    VTPM_ASSIGN(const ESYS_TR signer, loaded(key, authorization));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    TPM2B_DIGEST hashed{static_cast<UINT16>(digest.size()), {}};
    std::ranges::copy(digest, hashed.buffer);
    TPMT_SIG_SCHEME scheme{};
    scheme.scheme = TPM2_ALG_NULL;  // the key's
    TPMT_TK_HASHCHECK not_by_the_tpm{};
    not_by_the_tpm.tag = TPM2_ST_HASHCHECK;
    not_by_the_tpm.hierarchy = TPM2_RH_NULL;
    EsysPtr<TPMT_SIGNATURE> signature;
    VTPM_TRY(checked("TPM2_Sign", [&] {
        return Esys_Sign(esys_.get(), signer, command, ESYS_TR_NONE, ESYS_TR_NONE, &hashed, &scheme, &not_by_the_tpm,
                         out(signature));
    }));
    return ecdsa_of(*signature);
}

}  // namespace vtpm
