// SPDX-License-Identifier: Apache-2.0
// Ownership of what OpenSSL hands out.
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <memory>

#include "base/result.hpp"

namespace vtpm {

template <auto Free>
struct FreeWith {
    template <typename T>
    void operator()(T *object) const {
        (void)Free(object);
    }
};

using Bio = std::unique_ptr<BIO, FreeWith<BIO_free>>;
using BigNumber = std::unique_ptr<BIGNUM, FreeWith<BN_clear_free>>;
using EcdsaSignature = std::unique_ptr<ECDSA_SIG, FreeWith<ECDSA_SIG_free>>;
using EvpKey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeWith<EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeWith<EVP_MD_CTX_free>>;
using Parameters = std::unique_ptr<OSSL_PARAM, FreeWith<OSSL_PARAM_free>>;
using ParametersBuilder = std::unique_ptr<OSSL_PARAM_BLD, FreeWith<OSSL_PARAM_BLD_free>>;

[[nodiscard]] inline tl::unexpected<Error> openssl_failed(const char *what) {
    return fail(ErrorCode::kSystem, "OpenSSL: {} failed", what);
}

}  // namespace vtpm
