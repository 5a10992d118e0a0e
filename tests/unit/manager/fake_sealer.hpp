// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "manager/keys/sealer.hpp"

// Seals nothing: for what is above the sealer. `away` and `identity` are what the test makes of it.
struct FakeTpm {
    vtpm::Bytes identity{'o', 'n', 'e'};
    bool away = false;

    [[nodiscard]] vtpm::OpenSealer opener();
};

class FakeSealer final : public vtpm::Sealer {
public:
    explicit FakeSealer(vtpm::Bytes identity) : identity_(std::move(identity)) {}
    [[nodiscard]] vtpm::ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string description() const override { return "a fake"; }
    vtpm::Result<vtpm::SealedKey> seal(const vtpm::Key &key) override {
        return vtpm::SealedKey{"", {}, vtpm::Bytes(key.view().begin(), key.view().end())};
    }
    vtpm::Result<vtpm::Key> unseal(const vtpm::SealedKey &sealed) override {
        return vtpm::key_from(sealed.private_area);
    }

private:
    vtpm::Bytes identity_;
};

inline vtpm::OpenSealer FakeTpm::opener() {
    return [this](vtpm::ByteView pinned) -> vtpm::Result<std::unique_ptr<vtpm::Sealer>> {
        if (away) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "no TPM");
        if (!pinned.empty() && !std::ranges::equal(pinned, identity))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "this is not the hardware TPM that sealed this store");
        return std::make_unique<FakeSealer>(identity);
    };
}
