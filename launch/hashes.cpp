// SPDX-License-Identifier: Apache-2.0
#include "launch/hashes.hpp"

#include <algorithm>

namespace vtpm::launch {
namespace {

tl::unexpected<Error> hash_failure(Hash hash) {
    return fail(ErrorCode::kSystem, "OpenSSL cannot compute {}", name_of(hash));
}

}  // namespace

std::size_t digest_size(Hash hash) {
    switch (hash) {
        case Hash::kSha1:
            return 20;
        case Hash::kSha256:
            return 32;
        case Hash::kSha384:
            return 48;
        case Hash::kSha512:
            return 64;
    }
    return 0;
}

const char *name_of(Hash hash) {
    switch (hash) {
        case Hash::kSha1:
            return "sha1";
        case Hash::kSha256:
            return "sha256";
        case Hash::kSha384:
            return "sha384";
        case Hash::kSha512:
            return "sha512";
    }
    return "";
}

std::optional<Hash> hash_named(std::string_view name) {
    const auto *const found = std::ranges::find_if(kAllHashes, [&](Hash hash) { return name == name_of(hash); });
    return found != kAllHashes.end() ? std::optional(*found) : std::nullopt;
}

std::optional<Hash> hash_of_algorithm(std::uint16_t algorithm) {
    const auto *const found = std::ranges::find(kAllHashes, static_cast<Hash>(algorithm));
    return found != kAllHashes.end() ? std::optional(*found) : std::nullopt;
}

const EVP_MD *openssl_hash(Hash hash) {
    switch (hash) {
        case Hash::kSha1:
            return EVP_sha1();
        case Hash::kSha256:
            return EVP_sha256();
        case Hash::kSha384:
            return EVP_sha384();
        case Hash::kSha512:
            return EVP_sha512();
    }
    return nullptr;
}

Result<Hasher> Hasher::begin(const Banks &banks) {
    Hasher hasher;
    for (const Hash bank : banks) {
        auto &context = hasher.contexts_[bank];
        context.reset(EVP_MD_CTX_new());
        if (!context || EVP_DigestInit_ex(context.get(), openssl_hash(bank), nullptr) != 1) return hash_failure(bank);
    }
    return hasher;
}

Result<> Hasher::add(ByteView bytes) {
    constexpr std::size_t kStep = 32UL * 1024;  // all hashes see it while it is in the processor's nearest cache
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kStep)))
        for (const auto &[bank, context] : contexts_)
            if (EVP_DigestUpdate(context.get(), bytes.data(), std::min(bytes.size(), kStep)) != 1)
                return hash_failure(bank);
    return {};
}

Result<Digests> Hasher::end() {
    Digests digests;
    for (const auto &[bank, context] : contexts_) {
        Bytes &digest = digests[bank];
        digest.resize(digest_size(bank));
        if (EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) return hash_failure(bank);
    }
    contexts_.clear();
    return digests;
}

Result<Digests> digests_of(ByteView bytes, const Banks &banks) {
    VTPM_ASSIGN(Hasher hasher, Hasher::begin(banks));
    VTPM_TRY(hasher.add(bytes));
    return hasher.end();
}

}  // namespace vtpm::launch
