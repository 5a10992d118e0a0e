// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "manager/keys/sealer.hpp"

// Seals nothing: for what is above the sealer. Its members are what the test makes of it.
struct FakeTpm {
    vtpm::Bytes identity{'o', 'n', 'e'};
    bool away = false;
    std::string refused;  // what is sealed to these PCRs does not open

    [[nodiscard]] vtpm::OpenSealer opener();
};

class FakeSealer final : public vtpm::Sealer {
public:
    FakeSealer(vtpm::Bytes identity, const std::string *refused) : identity_(std::move(identity)), refused_(refused) {}
    [[nodiscard]] vtpm::ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string description() const override { return "a fake"; }
    vtpm::Result<vtpm::SealedKey> seal(const vtpm::Key &key, const vtpm::PcrSelection &pcrs) override {
        return vtpm::SealedKey{pcrs.to_string(), {{}, {}, vtpm::Bytes(key.view().begin(), key.view().end())}};
    }
    vtpm::Result<vtpm::Key> unseal(const vtpm::SealedKey &sealed) override {
        if (!sealed.policy.empty() && sealed.policy == *refused_)
            return vtpm::fail(vtpm::ErrorCode::kRefused, "other PCRs");
        return vtpm::key_from(sealed.object.private_area);
    }

private:
    vtpm::Bytes identity_;
    const std::string *refused_;
};

inline vtpm::OpenSealer FakeTpm::opener() {
    return [this](vtpm::ByteView pinned) -> vtpm::Result<std::unique_ptr<vtpm::Sealer>> {
        if (away) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "no TPM");
        if (!pinned.empty() && !std::ranges::equal(pinned, identity))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "this is not the hardware TPM that sealed this store");
        return std::make_unique<FakeSealer>(identity, &refused);
    };
}
