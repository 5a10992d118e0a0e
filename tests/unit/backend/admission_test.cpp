// SPDX-License-Identifier: Apache-2.0
#include "backend/device/admission.hpp"

#include "tests/catch.hpp"

namespace vtpm {
namespace {

const Uuid kImage = *Uuid::parse("99999999-2222-3333-4444-555555555555");
const Uuid kAnother = *Uuid::parse("88888888-2222-3333-4444-555555555555");

const DomainFacts kNew{.paused = true, .incarnation = {kImage, 1}};
const DomainFacts kRestored{.paused = true, .incarnation = {kImage, 2}};
const DomainFacts kRunning{.has_run = true, .incarnation = {kImage, 1}};
const DomainFacts kRestoredLongAgo{.has_run = true, .incarnation = {kImage, 2}};
const DomainFacts kSoftReset{.has_run = true, .paused = true, .incarnation = {kImage, 1}};
const DomainFacts kSource{.suspended = true, .has_run = true, .incarnation = {kImage, 1}};
const DomainFacts kAnothersSource{.suspended = true, .has_run = true, .incarnation = {kAnother, 1}};

using Facts = Result<DomainFacts>;
const Facts kGone = fail(ErrorCode::kNotFound, "gone");
const Facts kSilent = fail(ErrorCode::kUnavailable, "silent");

// How it begins: 'P'ower-on, 'R'esume; or why not: 'X' refused, 'U' in use, 'w' may be asked again, '-' no domain.
char verdict(const Facts &facts, const std::optional<Facts> &other) {
    const auto admitted = admit(7, facts, other);
    if (admitted) return *admitted == Beginning::kPowerOn ? 'P' : 'R';
    switch (admitted.error().code) {
        case ErrorCode::kRefused:
            return 'X';
        case ErrorCode::kInUse:
            return 'U';
        case ErrorCode::kUnavailable:
            return 'w';
        default:
            return '-';
    }
}

std::string verdicts(const Facts &facts) {
    std::string text;
    const std::vector<std::optional<Facts>> others{std::nullopt,           Facts(kRunning), Facts(kSource),
                                                   Facts(kAnothersSource), kGone,           kSilent};
    for (const auto &other : others) text += verdict(facts, other);
    return text;
}

}  // namespace

TEST_CASE("who may have a vTPM, and how it begins") {
    // It runs: nowhere; for a guest that runs; one that is suspended; one with another memory; one that has gone; one
    // of which Xen says nothing now.
    CHECK(verdicts(kNew) == "PUUUww");
    CHECK(verdicts(kRunning) == "PUUUww");  // a hot attach
    CHECK(verdicts(kRestoredLongAgo) == "PUUUww");
    CHECK(verdicts(kRestored) == "RURURw");
    CHECK(verdicts(kSoftReset) == "XXXXXX");
    CHECK(verdicts(kGone) == "------");
    CHECK(verdicts(kSilent) == "wwwwww");
}

}  // namespace vtpm
