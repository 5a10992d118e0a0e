// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/envelope.hpp"

#include <algorithm>

#include "expect.hpp"

namespace vtpm::envelope_test {

namespace {

struct Fixture {
    Key key = expect(random_key());
    VtpmIdentity vtpm{Uuid::random(), TpmVersion::k20, "default"};
    Bytes state = {'s', 't', 'a', 't', 'e'};
    Bytes envelope = expect(seal_state(key, vtpm, StateKind::kPermanent, 7, state));

    [[nodiscard]] Result<SecretBytes> open(const Bytes &stored) const {
        return open_state(key, vtpm, StateKind::kPermanent, 7, stored);
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "what was sealed opens again") {
    REQUIRE(std::ranges::equal(expect(open(envelope)).view(), state));
}

TEST_CASE_METHOD(Fixture, "an empty state is a state") {
    const Bytes empty = expect(seal_state(key, vtpm, StateKind::kPermanent, 7, {}));
    REQUIRE(expect(open(empty)).empty());
}

TEST_CASE_METHOD(Fixture, "an envelope with any one bit flipped is refused") {
    for (std::size_t bit = 0; bit < envelope.size() * 8; ++bit) {
        Bytes changed = envelope;
        changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ (1U << (bit % 8)));
        REQUIRE(expect_error(open(changed)).code == ErrorCode::kRefused);
    }
}

TEST_CASE_METHOD(Fixture, "an envelope cut at any byte is refused") {
    for (std::size_t size = 0; size < envelope.size(); ++size)
        REQUIRE(
            expect_error(open(Bytes(envelope.begin(), envelope.begin() + static_cast<std::ptrdiff_t>(size)))).code ==
            ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "an envelope with a byte more is refused") {
    envelope.push_back(0);
    REQUIRE_THAT(expect_error(open(envelope)).text, Contains("length differs"));
}

TEST_CASE_METHOD(Fixture, "another vTPM's envelope is refused, and its owner named") {
    VtpmIdentity other = vtpm;
    other.uuid = Uuid::random();
    const Error error = expect_error(open_state(key, other, StateKind::kPermanent, 7, envelope));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("belongs to vTPM " + vtpm.uuid.to_string()));
}

TEST_CASE_METHOD(Fixture, "an older envelope put back is refused, and both sequences named") {
    const Error error = expect_error(open_state(key, vtpm, StateKind::kPermanent, 8, envelope));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("its sequence is 7, the inventory says 8"));
}

TEST_CASE_METHOD(Fixture, "an envelope of another group, kind, TPM version or key is refused") {
    VtpmIdentity other = vtpm;
    other.group = "defaulf";
    REQUIRE_THAT(expect_error(open_state(key, other, StateKind::kPermanent, 7, envelope)).text,
                 Contains("another group"));
    REQUIRE_THAT(expect_error(open_state(key, vtpm, StateKind::kVolatile, 7, envelope)).text,
                 Contains("something else"));
    other = vtpm;
    other.version = TpmVersion::k12;
    REQUIRE_THAT(expect_error(open_state(key, other, StateKind::kPermanent, 7, envelope)).text,
                 Contains("another TPM version"));
    REQUIRE_THAT(expect_error(open_state(expect(random_key()), vtpm, StateKind::kPermanent, 7, envelope)).text,
                 Contains("not authentic"));
}

TEST_CASE_METHOD(Fixture, "the same state sealed twice gives two envelopes") {
    REQUIRE(expect(seal_state(key, vtpm, StateKind::kPermanent, 7, state)) != envelope);
}

TEST_CASE_METHOD(Fixture, "a wrapped key opens for its vTPM only, and not with any bit flipped") {
    const Key vtpm_key = expect(random_key());
    const Bytes wrapped = expect(wrap_key(key, vtpm, {}, vtpm_key));
    REQUIRE(std::ranges::equal(expect(unwrap_key(key, vtpm, {}, wrapped)).view(), vtpm_key.view()));
    VtpmIdentity other = vtpm;
    other.uuid = Uuid::random();
    REQUIRE(expect_error(unwrap_key(key, other, {}, wrapped)).code == ErrorCode::kRefused);
    for (std::size_t i = 0; i < wrapped.size(); ++i) {
        Bytes changed = wrapped;
        changed[i] ^= 0x10;
        REQUIRE(expect_error(unwrap_key(key, vtpm, {}, changed)).code == ErrorCode::kRefused);
    }
}

TEST_CASE_METHOD(Fixture, "a key that is bound opens as it is bound, and not as one that is not") {
    const Key vtpm_key = expect(random_key());
    const Bytes binding(32, 1);
    const Bytes other(32, 2);
    const Bytes bound = expect(wrap_key(key, vtpm, binding, vtpm_key));
    REQUIRE(std::ranges::equal(expect(unwrap_key(key, vtpm, binding, bound)).view(), vtpm_key.view()));
    REQUIRE_THAT(expect_error(unwrap_key(key, vtpm, {}, bound)).text, Contains("bound to launches that an approver"));
    REQUIRE_THAT(expect_error(unwrap_key(key, vtpm, other, bound)).text, Contains("to another approver"));
    REQUIRE(expect_error(unwrap_key(key, vtpm, binding, expect(wrap_key(key, vtpm, {}, vtpm_key)))).code ==
            ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a group's key encrypts nothing itself, but what it once did opens") {
    const Key vtpm_key = expect(random_key());
    const Bytes binding = GENERATE(Bytes(), Bytes(32, 1));
    const Bytes wrapped = expect(wrap_key(key, vtpm, binding, vtpm_key));
    Bytes header(wrapped.begin(), wrapped.end() - static_cast<std::ptrdiff_t>(kKeySize + kCipherOverhead));
    const auto box = ByteView(wrapped).subspan(header.size());
    REQUIRE(expect_error(decrypt(key, header, box)).code == ErrorCode::kRefused);

    header[10] = static_cast<std::uint8_t>(header[10] - 2);  // the content, in a store of schema 13
    Bytes former = header;
    for (const std::uint8_t byte : expect(encrypt(key, header, vtpm_key.view()))) former.push_back(byte);
    REQUIRE(std::ranges::equal(expect(unwrap_key(key, vtpm, binding, former)).view(), vtpm_key.view()));
    REQUIRE(expect_error(unwrap_key(key, vtpm, Bytes(32, 2), former)).code == ErrorCode::kRefused);

    Bytes renamed = header;  // what was wrapped as it is now is not to be taken for the former
    renamed.insert(renamed.end(), box.begin(), box.end());
    REQUIRE(expect_error(unwrap_key(key, vtpm, binding, renamed)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a state is not a key") {
    const Bytes as_state = expect(seal_state(key, vtpm, StateKind::kPermanent, 0, Bytes(kKeySize)));
    REQUIRE(expect_error(unwrap_key(key, vtpm, {}, as_state)).code == ErrorCode::kRefused);
}

}  // namespace vtpm::envelope_test
