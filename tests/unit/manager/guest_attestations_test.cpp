// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/guest_attestations.hpp"

#include "manager_in_process.hpp"
#include "temporary_directory.hpp"

namespace vtpm::guest_attestations_test {

namespace {

const Bytes kNonce(16, 1);
const Bytes kOther(16, 2);

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    ManagerInProcess manager{directory.path(), tpm};
    GuestAttestations &attestations = manager.attestations;
    GuestAttestations::Clock::time_point now{};
    Uuid one = Uuid::random();
    Uuid two = Uuid::random();

    ErrorCode ask(const Uuid &uuid, const Bytes &nonce) {
        return expect_error(attestations.ask(uuid, nonce, now)).code;
    }
};

constexpr ErrorCode kNotYet = ErrorCode::kUnavailable;
constexpr ErrorCode kNone = ErrorCode::kNotFound;  // the worker's answer: these vTPMs are unknown

}  // namespace

TEST_CASE_METHOD(Fixture, "a guest is answered when its attestation is made, once") {
    REQUIRE(ask(one, kNonce) == kNotYet);
    REQUIRE(ask(one, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(one, kNonce) == kNone);
    REQUIRE(ask(one, kNonce) == kNotYet);  // too soon for another
    manager.work();
    REQUIRE(ask(one, kNonce) == kNotYet);
    now += GuestAttestations::kInterval;
    REQUIRE(ask(one, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(one, kNonce) == kNone);
}

TEST_CASE_METHOD(Fixture, "one guest at a time, after a pause, in the order in which they asked") {
    const Uuid three = Uuid::random();
    REQUIRE(ask(one, kNonce) == kNotYet);
    REQUIRE(ask(two, kNonce) == kNotYet);
    REQUIRE(ask(three, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(one, kNonce) == kNone);
    REQUIRE(ask(three, kNonce) == kNotYet);  // the TPM is left alone for a while
    manager.work();
    now += std::chrono::seconds(1);
    REQUIRE(ask(three, kNonce) == kNotYet);  // the other one's begins only now
    manager.work();
    REQUIRE(ask(three, kNonce) == kNotYet);
    REQUIRE(ask(two, kNonce) == kNone);
    now += std::chrono::seconds(1);
    REQUIRE(ask(three, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(three, kNonce) == kNone);
}

TEST_CASE_METHOD(Fixture, "who asked and does not ask again loses its turn") {
    REQUIRE(ask(one, kNonce) == kNotYet);
    REQUIRE(ask(two, kNonce) == kNotYet);
    manager.work();
    now += std::chrono::minutes(1);
    const Uuid three = Uuid::random();
    REQUIRE(ask(three, kNonce) == kNotYet);
    now += std::chrono::seconds(1);
    REQUIRE(ask(three, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(three, kNonce) == kNone);
}

TEST_CASE_METHOD(Fixture, "another nonce does not get the answer to the first") {
    REQUIRE(ask(one, kNonce) == kNotYet);
    manager.work();
    REQUIRE(ask(one, kOther) == kNotYet);
    REQUIRE(ask(one, kNonce) == kNone);
}

TEST_CASE_METHOD(Fixture, "a nonce that no verifier should use is none") {
    REQUIRE(ask(one, Bytes(7, 1)) == ErrorCode::kInvalid);
    REQUIRE(ask(one, Bytes(65, 1)) == ErrorCode::kInvalid);
}

}  // namespace vtpm::guest_attestations_test
