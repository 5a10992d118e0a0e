// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <ctime>

#include "manager/keys/sealer.hpp"
#include "manager/policy/present_boot.hpp"

// Seals nothing: for what is above the sealer. Its members are what the test makes of it.
struct FakeTpm {
    vtpm::Bytes identity{'o', 'n', 'e'};
    bool away = false;
    std::string refused;    // what is sealed to these PCRs does not open
    std::uint8_t boot = 1;  // every byte of every PCR

    [[nodiscard]] vtpm::OpenSealer opener();
};

class FakeSealer final : public vtpm::Sealer {
public:
    FakeSealer(vtpm::Bytes identity, const std::string *refused, const std::uint8_t *boot)
        : identity_(std::move(identity)), refused_(refused), boot_(boot) {}
    [[nodiscard]] vtpm::ByteView identity() const override { return identity_; }
    [[nodiscard]] std::string description() const override { return "a fake"; }
    vtpm::Result<vtpm::SealedObject> seal(const vtpm::Key &key, const vtpm::KeyPolicy &) override {
        return vtpm::SealedObject{{}, {}, vtpm::Bytes(key.view().begin(), key.view().end())};
    }
    vtpm::Result<vtpm::Key> unseal(const vtpm::SealedObject &object, const vtpm::KeyPolicy &policy,
                                   const std::vector<vtpm::BootPolicy> &approvals) override {
        if (policy.approver) VTPM_TRY(approval(policy, approvals));
        if (!policy.pcrs.empty() && policy.pcrs.to_string() == *refused_)
            return vtpm::fail(vtpm::ErrorCode::kRefused, "other PCRs");
        return vtpm::key_from(object.private_area);
    }
    vtpm::Result<vtpm::PcrValues> read(const vtpm::PcrSelection &pcrs) override {
        if (pcrs.to_string().starts_with("sha512"))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "hardware TPM: it has not all of the PCRs");
        vtpm::PcrValues values;
        for (const unsigned pcr : pcrs.numbers()) values[pcr] = vtpm::Bytes(32, *boot_);
        return values;
    }

private:
    // As a TPM does it: an approval for another group, or for another generation of its key, counts for nothing.
    vtpm::Result<> approval(const vtpm::KeyPolicy &policy, const std::vector<vtpm::BootPolicy> &approvals) {
        const auto read_pcrs = [this](const vtpm::PcrSelection &pcrs) { return read(pcrs); };
        VTPM_ASSIGN(const vtpm::BootPolicy *boot,
                    vtpm::approval_of_present_boot(approvals, *policy.approver, read_pcrs, std::time(nullptr)));
        if (boot->approval().group == policy.group && boot->approval().generation == policy.generation) return {};
        return vtpm::fail(vtpm::ErrorCode::kRefused, "for something else");
    }

    vtpm::Bytes identity_;
    const std::string *refused_;
    const std::uint8_t *boot_;
};

inline vtpm::OpenSealer FakeTpm::opener() {
    return [this](vtpm::ByteView pinned) -> vtpm::Result<std::unique_ptr<vtpm::Sealer>> {
        if (away) return vtpm::fail(vtpm::ErrorCode::kUnavailable, "no TPM");
        if (!pinned.empty() && !std::ranges::equal(pinned, identity))
            return vtpm::fail(vtpm::ErrorCode::kRefused, "this is not the hardware TPM that sealed this store");
        return std::make_unique<FakeSealer>(identity, &refused, &boot);
    };
}
