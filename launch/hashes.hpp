// SPDX-License-Identifier: Apache-2.0
// The hash algorithms of PCR banks, and digests by several of them at once.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm::launch {

// TPM_ALG_ID (TCG Algorithm Registry, 6.10).
enum class Hash : std::uint16_t { kSha1 = 0x0004, kSha256 = 0x000b, kSha384 = 0x000c, kSha512 = 0x000d };

// In the order in which a log names them.
using Banks = std::vector<Hash>;
using Digests = std::map<Hash, Bytes>;

constexpr std::array kAllHashes{Hash::kSha1, Hash::kSha256, Hash::kSha384, Hash::kSha512};
inline Banks all_banks() { return {kAllHashes.begin(), kAllHashes.end()}; }

std::size_t digest_size(Hash hash);  // bytes
const char *name_of(Hash hash);      // "sha256"
std::optional<Hash> hash_named(std::string_view name);
std::optional<Hash> hash_of_algorithm(std::uint16_t algorithm);
const EVP_MD *openssl_hash(Hash hash);

// Takes bytes once, for all banks. kSystem: OpenSSL failed, for want of memory or by its configuration.
class Hasher {
public:
    static Result<Hasher> begin(const Banks &banks);
    Result<> add(ByteView bytes);
    // The hasher is used up.
    Result<Digests> end();

private:
    struct Release {
        void operator()(EVP_MD_CTX *context) const { EVP_MD_CTX_free(context); }
    };
    std::map<Hash, std::unique_ptr<EVP_MD_CTX, Release>> contexts_;
};

Result<Digests> digests_of(ByteView bytes, const Banks &banks);

}  // namespace vtpm::launch
