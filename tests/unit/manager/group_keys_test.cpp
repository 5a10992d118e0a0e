// SPDX-License-Identifier: Apache-2.0
#include "manager/keys/group_keys.hpp"

#include <algorithm>
#include <fstream>

#include "expect.hpp"
#include "fake_sealer.hpp"
#include "manager/keys/file_sealer.hpp"
#include "temporary_directory.hpp"

using namespace vtpm;
using Catch::Matchers::Contains;

namespace {

struct Fixture {
    TemporaryDirectory directory;
    FakeTpm tpm;
    Store store = expect(Store::open(directory.path()));

    [[nodiscard]] GroupKeys keys(const char *sealing = "tpm") { return {store, sealing, tpm.opener()}; }
    static Bytes default_key(const GroupKeys &keys) {
        const ByteView view = expect(keys.key("default"))->view();
        return {view.begin(), view.end()};
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "before the keys are unsealed there is none, and why is said") {
    REQUIRE(expect_error(keys().key("default")).code == ErrorCode::kUnavailable);
}

TEST_CASE_METHOD(Fixture, "the second start has the keys of the first") {
    GroupKeys first = keys();
    expect(first.unlock());
    GroupKeys second = keys();
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));
}

TEST_CASE_METHOD(Fixture, "another TPM is refused for every vTPM, and the store stays as it is") {
    GroupKeys first = keys();
    expect(first.unlock());
    tpm.identity = {'t', 'w', 'o'};
    GroupKeys second = keys();
    REQUIRE(expect_error(second.unlock()).code == ErrorCode::kRefused);
    REQUIRE_THAT(expect_error(second.key("default")).text, Contains("not the hardware TPM"));
    tpm.identity = {'o', 'n', 'e'};
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));
}

TEST_CASE_METHOD(Fixture, "a TPM that is away at the start is found later") {
    tpm.away = true;
    GroupKeys later = keys();
    REQUIRE(expect_error(later.unlock()).code == ErrorCode::kUnavailable);
    tpm.away = false;
    expect(later.unlock());
    expect(later.key("default"));
}

TEST_CASE_METHOD(Fixture, "a store sealed by the TPM is not opened by a file, nor the other way round") {
    expect(keys("tpm").unlock());
    REQUIRE_THAT(expect_error(keys("file").unlock()).text, Contains("sealed by 'tpm'"));
}

TEST_CASE_METHOD(Fixture, "an unknown group has no key") {
    GroupKeys some = keys();
    expect(some.unlock());
    REQUIRE(expect_error(some.key("tenant")).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a key file seals, and another one is refused") {
    const std::string path = directory / "sealing.key";
    const OpenSealer opener = [&](ByteView pinned) { return open_file_sealer(path, pinned); };
    GroupKeys first(store, "file", opener);
    expect(first.unlock());
    GroupKeys second(store, "file", opener);
    expect(second.unlock());
    REQUIRE(default_key(first) == default_key(second));

    std::filesystem::rename(path, directory / "away");
    REQUIRE(expect_error(second.unlock()).code == ErrorCode::kRefused);
    REQUIRE_FALSE(std::filesystem::exists(path));
    std::ofstream(path) << std::string(kKeySize, 'x');
    REQUIRE_THAT(expect_error(second.unlock()).text, Contains("not the key that sealed"));
    std::filesystem::resize_file(path, 5);
    REQUIRE_THAT(expect_error(second.unlock()).text, Contains("truncated"));
}
