// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/guest_attestations.hpp"

#include <algorithm>

#include "shared-protocol/attest_command.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::seconds kKept{60};  // what nobody fetches

tl::unexpected<Error> not_yet() { return fail(ErrorCode::kUnavailable, "the attestation is being made: ask again"); }

}  // namespace

Result<std::string> GuestAttestations::ask(const Uuid &vtpm, ByteView nonce, Clock::time_point now) {
    if (!enabled_) return fail(ErrorCode::kRefused, "guest_attestation = false: guests get none");
    if (nonce.size() < kMinAttestNonce || nonce.size() > kMaxAttestNonce)
        return fail(ErrorCode::kInvalid, "a nonce of {} bytes", nonce.size());
    const auto found = requests_.find(vtpm);
    if (found == requests_.end()) return begin(vtpm, nonce, now);
    Request &request = found->second;
    if (request.made && !request.made->has_value()) return not_yet();
    if (request.made && std::ranges::equal(request.nonce, nonce)) {
        const auto made = std::exchange(request.made, nullptr);
        return std::move(**made);
    }
    if (now - request.begun < kInterval) return not_yet();
    return begin(vtpm, nonce, now);
}

Result<std::string> GuestAttestations::begin(const Uuid &vtpm, ByteView nonce, Clock::time_point now) {
    if (busy_) return not_yet();
    forget_old(now);
    Request request{Bytes(nonce.begin(), nonce.end()), now, std::make_shared<std::optional<Result<std::string>>>()};
    const auto result = std::make_shared<std::optional<Result<std::string>>>();
    const auto job = [this, vtpm, nonce = request.nonce, result] {
        *result = attestor_.attest(vtpm, nonce, std::nullopt, Attestor::Asked::kByTheGuest)
                      .map([](const Attestation &attestation) { return attestation.to_json(); });
    };
    // The slot is filled in the loop.
    worker_.run(job, [this, made = request.made, result] {
        *made = std::move(*result);
        busy_ = false;
    });
    busy_ = true;
    requests_.insert_or_assign(vtpm, std::move(request));
    return not_yet();
}

void GuestAttestations::forget_old(Clock::time_point now) {
    std::erase_if(requests_, [&](const auto &entry) {
        const Request &request = entry.second;
        const auto age = now - request.begun;
        return request.made ? request.made->has_value() && age >= kKept : age >= kInterval;
    });
}

}  // namespace vtpm
