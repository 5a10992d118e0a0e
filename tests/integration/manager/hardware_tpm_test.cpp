// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/hardware_tpm.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>
#include <fstream>

#include "manager/attestation/enrolment.hpp"
#include "manager/hardware_tpm/marshal.hpp"
#include "manager/hardware_tpm/session.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "manager/tpm/public_area.hpp"
#include "slow_chip.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/expect.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm::hardware_tpm_test {

namespace {

const Bytes kSecret(32, 'S');

Bytes bytes(ByteView view) { return {view.begin(), view.end()}; }

void extend_pcr(const std::string &tcti, ESYS_TR pcr) {
    const Esys esys = expect(connect_tpm(tcti));
    TPML_DIGEST_VALUES values{};
    values.count = 1;
    values.digests[0].hashAlg = TPM2_ALG_SHA256;
    REQUIRE(Esys_PCR_Extend(esys.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &values) == TSS2_RC_SUCCESS);
}

// How many objects and sessions the TPM holds.
std::uint32_t handles(const std::string &tcti, std::uint32_t first) {
    const Esys esys = expect(connect_tpm(tcti));
    EsysPtr<TPMS_CAPABILITY_DATA> data;
    REQUIRE(Esys_GetCapability(esys.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES, first, 64,
                               nullptr, out(data)) == TSS2_RC_SUCCESS);
    return data->data.handles.count;
}

constexpr std::uint32_t kCounter = 0x0180a800;

// As it is now.
Count count(HardwareTpm &tpm) { return {kCounter, expect(tpm.ensure_counter(kCounter))}; }

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    PcrSelection pcr7 = expect(PcrSelection::parse("sha256:7"));
    PcrSelection none;

    [[nodiscard]] HardwareTpm open(ByteView pinned = {}) const {
        return expect(HardwareTpm::open(swtpm.tcti(), pinned));
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "what the TPM sealed it unseals, also to a later connection") {
    const PcrSelection &pcrs = GENERATE(true, false) ? pcr7 : none;
    Bytes name;
    SealedObject object;
    {
        HardwareTpm tpm = open();
        name = bytes(tpm.storage_key_name());
        object = expect(tpm.seal(kSecret, pcrs, count(tpm)));
        REQUIRE(bytes(expect(tpm.unseal(object, pcrs, count(tpm))).view()) == kSecret);
    }
    HardwareTpm tpm = open(name);
    REQUIRE(bytes(expect(tpm.unseal(object, pcrs, count(tpm))).view()) == kSecret);
}

TEST_CASE_METHOD(Fixture, "a power cycle changes neither the storage key nor what it sealed") {
    const TemporaryDirectory other;
    Bytes name;
    SealedObject object;
    {
        const Swtpm before(other / "tpm");
        HardwareTpm tpm = expect(HardwareTpm::open(before.tcti(), {}));
        name = bytes(tpm.storage_key_name());
        object = expect(tpm.seal(kSecret, pcr7, count(tpm)));
    }
    const Swtpm after(other / "tpm");
    HardwareTpm tpm = expect(HardwareTpm::open(after.tcti(), name));
    REQUIRE(bytes(expect(tpm.unseal(object, pcr7, count(tpm))).view()) == kSecret);
}

TEST_CASE("a saved primary is as good as one made anew, until the TPM is reset, and with this TPM only") {
    const TemporaryDirectory directory;
    const TemporaryDirectory elsewhere;
    SlowChip chip(0);
    SavedPrimary saved;
    Bytes name;
    const auto seals = [](HardwareTpm &tpm) { return expect(tpm.random(8)).view().size() == 8; };
    {
        Swtpm swtpm(directory.path());
        TpmProxy proxy(directory / "tpm", directory / "chip");
        proxy.set(chip.fates());
        for (int i = 0; i < 3; ++i) {
            HardwareTpm tpm = expect(HardwareTpm::open(proxy.tcti(), name, {}, saved));
            name.assign(tpm.storage_key_name().begin(), tpm.storage_key_name().end());
            REQUIRE(seals(tpm));
        }
        REQUIRE(chip.take_count(TPM2_CC_CreatePrimary) == 1);
    }
    Swtpm reset(directory.path());
    HardwareTpm tpm = expect(HardwareTpm::open(reset.tcti(), name, {}, saved));
    REQUIRE(std::ranges::equal(tpm.storage_key_name(), name));
    REQUIRE(seals(tpm));
    Swtpm other(elsewhere.path());
    REQUIRE(expect_error(HardwareTpm::open(other.tcti(), name, {}, saved)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "another TPM is refused by its storage key's Name, and does not unseal") {
    HardwareTpm tpm = open();
    const SealedObject object = expect(tpm.seal(kSecret, none, count(tpm)));
    const Swtpm another(directory / "another");
    const Error error = expect_error(HardwareTpm::open(another.tcti(), tpm.storage_key_name()));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("this is not the hardware TPM that sealed this store"));
    HardwareTpm wrong = expect(HardwareTpm::open(another.tcti(), {}));
    REQUIRE(expect_error(wrong.unseal(object, none, count(wrong))).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a changed PCR is refused and named; another PCR does not matter") {
    HardwareTpm tpm = open();
    const SealedObject to_pcr7 = expect(tpm.seal(kSecret, pcr7, count(tpm)));
    extend_pcr(swtpm.tcti(), ESYS_TR_PCR8);
    expect(tpm.unseal(to_pcr7, pcr7, count(tpm)));
    extend_pcr(swtpm.tcti(), ESYS_TR_PCR7);
    const Error error = expect_error(tpm.unseal(to_pcr7, pcr7, count(tpm)));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("sha256:7") && Contains("PCR 7 was 0000") && !Contains("PCR 8"));
}

TEST_CASE_METHOD(Fixture, "a policy that is said to ask for less does not open") {
    HardwareTpm tpm = open();
    const SealedObject object = expect(tpm.seal(kSecret, pcr7, count(tpm)));
    REQUIRE(expect_error(tpm.unseal(object, none, count(tpm))).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "a sealed object with a byte changed, or cut, is refused") {
    HardwareTpm tpm = open();
    const SealedObject object = expect(tpm.seal(kSecret, none, count(tpm)));
    for (std::size_t i = 0; i < object.private_area.size(); i += 7) {
        SealedObject changed = object;
        changed.private_area[i] ^= 1;
        REQUIRE_FALSE(tpm.unseal(changed, none, count(tpm)));
    }
    SealedObject cut = object;
    cut.private_area.pop_back();
    REQUIRE(expect_error(tpm.unseal(cut, none, count(tpm))).code == ErrorCode::kRefused);
    cut = object;
    cut.public_area.clear();
    REQUIRE(expect_error(tpm.unseal(cut, none, count(tpm))).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "no object and no session stays in the TPM, after success or failure") {
    for (int i = 0; i < 50; ++i) {
        HardwareTpm tpm = open();
        const SealedObject object = expect(tpm.seal(kSecret, pcr7, count(tpm)));
        expect(tpm.unseal(object, pcr7, count(tpm)));
        REQUIRE_FALSE(tpm.unseal(object, none, count(tpm)));
    }
    REQUIRE(handles(swtpm.tcti(), TPM2_TRANSIENT_FIRST) == 0);
    REQUIRE(handles(swtpm.tcti(), TPM2_LOADED_SESSION_FIRST) == 0);
}

TEST_CASE_METHOD(Fixture, "an owner hierarchy with an authorization is refused, and the remedy is said") {
    {
        const Esys esys = expect(connect_tpm(swtpm.tcti()));
        const TPM2B_AUTH password{2, {'p', 'w'}};
        REQUIRE(Esys_HierarchyChangeAuth(esys.get(), ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                         &password) == TSS2_RC_SUCCESS);
    }
    const Error error = expect_error(HardwareTpm::open(swtpm.tcti(), {}));
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("tpm2_changeauth") && Contains("tpm-owner-password"));
    const auto with = [](std::string_view owner) {
        return HierarchyPasswords{SecretBytes(bytes_of(owner)), SecretBytes()};
    };
    REQUIRE(expect_error(HardwareTpm::open(swtpm.tcti(), {}, with("pW"))).code == ErrorCode::kRefused);
    REQUIRE(expect_error(HardwareTpm::open(swtpm.tcti(), {}, with(std::string(65, 'p')))).code == ErrorCode::kInvalid);
    expect(HardwareTpm::open(swtpm.tcti(), {}, with("pw")));
}

TEST_CASE_METHOD(Fixture,
                 "with the hierarchies' passwords the TPM does all that it does without, and they cross no bus") {
    const HierarchyPasswords passwords{SecretBytes(bytes_of("owner's password")),
                                       SecretBytes(bytes_of("endorsement's password"))};
    Bytes name;
    {
        HardwareTpm before = open();
        name.assign(before.storage_key_name().begin(), before.storage_key_name().end());
    }
    {
        const Esys esys = expect(connect_tpm(swtpm.tcti()));
        for (const auto &[hierarchy, password] : {std::pair(ESYS_TR_RH_OWNER, &passwords.owner),
                                                  std::pair(ESYS_TR_RH_ENDORSEMENT, &passwords.endorsement)}) {
            const Authorization auth(password->view());
            REQUIRE(Esys_HierarchyChangeAuth(esys.get(), hierarchy, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                             &auth) == TSS2_RC_SUCCESS);
        }
    }
    const std::string pcap = directory / "bus.pcap";
    ::setenv("TCTI_PCAP_FILE", pcap.c_str(), 1);
    {
        HardwareTpm tpm = expect(HardwareTpm::open("pcap:" + swtpm.tcti(), name, passwords));
        constexpr std::uint32_t kIndex = 0x0180a777;
        expect(tpm.nv_write(kIndex, bytes_of("its own"), bytes_of("content")));
        expect(tpm.nv_remove(kIndex));
        expect(tpm.ensure_counter(0x0180a877));
        const HostIdentity identity = expect(tpm.identity());
        const Challenge challenged = expect(challenge(identity, std::nullopt, 0));
        REQUIRE(std::ranges::equal(expect(tpm.activate(challenged.credential)).view(), challenged.answer.view()));
    }
    ::unsetenv("TCTI_PCAP_FILE");
    std::ifstream file(pcap, std::ios::binary);
    const std::string bus(std::istreambuf_iterator<char>(file), {});
    REQUIRE(bus.size() > 1000);
    REQUIRE(bus.find("'s password") == std::string::npos);
    HardwareTpm half =
        expect(HardwareTpm::open(swtpm.tcti(), name, {SecretBytes(passwords.owner.view()), SecretBytes()}));
    const Error error = expect_error(half.identity());
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text, Contains("tpm-endorsement-password"));
}

TEST_CASE("a TPM that is not there is unavailable") {
    REQUIRE(expect_error(HardwareTpm::open("device:/nonexistent", {})).code == ErrorCode::kUnavailable);
    REQUIRE(expect_error(HardwareTpm::open("swtpm:path=/nonexistent", {})).code == ErrorCode::kUnavailable);
    REQUIRE(expect_error(HardwareTpm::open("no-such-tcti", {})).code == ErrorCode::kUnavailable);
}

TEST_CASE_METHOD(Fixture, "the secret crosses the bus neither way in plain text") {
    const std::string capture = directory / "bus.pcap";
    ::setenv("TCTI_PCAP_FILE", capture.c_str(), 1);
    {
        HardwareTpm tpm = expect(HardwareTpm::open("pcap:" + swtpm.tcti(), {}));
        const SealedObject object = expect(tpm.seal(kSecret, pcr7, count(tpm)));
        expect(tpm.unseal(object, pcr7, count(tpm)));
    }
    std::ifstream file(capture, std::ios::binary);
    const std::string traffic(std::istreambuf_iterator<char>(file), {});
    REQUIRE(traffic.size() > 1000);
    REQUIRE(traffic.find(std::string(8, 'S')) == std::string::npos);
}

TEST_CASE_METHOD(Fixture, "an NV index keeps what was written, for who knows its authorization") {
    constexpr std::uint32_t kIndex = 0x0180a701;
    const Bytes authorization(32, 'a');
    const Bytes wrong(32, 'b');
    {
        HardwareTpm tpm = open();
        REQUIRE(expect_error(tpm.nv_read(kIndex, authorization, 3)).code == ErrorCode::kNotFound);
        expect(tpm.nv_write(kIndex, authorization, Bytes{1, 2, 3}));
        expect(tpm.nv_write(kIndex, authorization, Bytes{4, 5, 6}));
        REQUIRE(expect(tpm.nv_indices(kIndex - 1, kIndex + 1)) == std::vector{kIndex});
    }
    HardwareTpm tpm = open();
    for (int i = 0; i < 40; ++i)  // and no lockout
        REQUIRE(expect_error(tpm.nv_read(kIndex, wrong, 3)).code == ErrorCode::kRefused);
    REQUIRE(expect_error(tpm.nv_write(kIndex, wrong, Bytes{7, 8, 9})).code == ErrorCode::kRefused);
    REQUIRE(bytes(expect(tpm.nv_read(kIndex, authorization, 3)).view()) == Bytes{4, 5, 6});
    expect(tpm.nv_remove(kIndex));
    expect(tpm.nv_remove(kIndex));
    REQUIRE(expect(tpm.nv_indices(kIndex - 1, kIndex + 1)).empty());
}

TEST_CASE_METHOD(Fixture, "a counter counts up by one, also for a later connection") {
    std::uint64_t before = 0;
    {
        HardwareTpm tpm = open();
        REQUIRE(expect_error(tpm.counter(kCounter)).code == ErrorCode::kNotFound);
        REQUIRE(expect_error(tpm.increment(kCounter)).code == ErrorCode::kNotFound);
        before = expect(tpm.ensure_counter(kCounter));
        REQUIRE(expect(tpm.ensure_counter(kCounter)) == before);
    }
    HardwareTpm tpm = open();
    REQUIRE(expect(tpm.counter(kCounter)) == before);
    for (int i = 0; i < 5; ++i) expect(tpm.increment(kCounter));
    REQUIRE(expect(tpm.counter(kCounter)) == before + 5);
}

TEST_CASE_METHOD(Fixture, "a counter that is removed and made anew goes on above its former values") {
    HardwareTpm tpm = open();
    const std::uint64_t other = expect(tpm.ensure_counter(kCounter + 1));
    std::uint64_t before = expect(tpm.ensure_counter(kCounter));
    for (int i = 0; i < 3; ++i) {
        expect(tpm.increment(kCounter));
        expect(tpm.nv_remove(kCounter));
        REQUIRE(expect_error(tpm.counter(kCounter)).code == ErrorCode::kNotFound);
        const std::uint64_t now = expect(tpm.ensure_counter(kCounter));
        REQUIRE(now > before + 1);
        before = now;
    }
    REQUIRE(expect(tpm.counter(kCounter + 1)) == other);
}

TEST_CASE_METHOD(Fixture, "nothing but a counter is taken for one") {
    HardwareTpm tpm = open();
    expect(tpm.nv_write(kCounter, {}, Bytes(8)));
    for (const Result<> &refused : {tpm.increment(kCounter), tpm.counter(kCounter).map([](auto) {}),
                                    tpm.ensure_counter(kCounter).map([](auto) {})}) {
        REQUIRE(expect_error(refused).code == ErrorCode::kRefused);
        REQUIRE_THAT(expect_error(refused).text, Contains("tpm2_nvundefine -C o 0x180a800"));
    }
}

TEST_CASE_METHOD(Fixture, "what is sealed opens at one value of the counter, and is known to") {
    const PcrSelection &pcrs = GENERATE(true, false) ? pcr7 : none;
    HardwareTpm tpm = open();
    const Count now = count(tpm);
    const Count next{now.index, now.value + 1};
    const SealedObject former = expect(tpm.seal(kSecret, pcrs, now));
    const SealedObject object = expect(tpm.seal(kSecret, pcrs, next));
    REQUIRE((sealed_for(former, pcrs, now) && !sealed_for(former, pcrs, next)));
    REQUIRE((!sealed_for(object, pcrs, now) && sealed_for(object, pcrs, next)));
    expect(tpm.unseal(former, pcrs, now));
    REQUIRE(expect_error(tpm.unseal(object, pcrs, now)).code == ErrorCode::kRefused);
    REQUIRE(expect_error(tpm.unseal(object, pcrs, next)).code == ErrorCode::kRefused);
    expect(tpm.increment(kCounter));
    REQUIRE(bytes(expect(tpm.unseal(object, pcrs, next)).view()) == kSecret);
    for (const Count &any : {now, next, Count{kCounter, next.value + 1}})
        REQUIRE(expect_error(tpm.unseal(former, pcrs, any)).code == ErrorCode::kRefused);
    expect(tpm.ensure_counter(kCounter + 1));
    REQUIRE_FALSE(tpm.unseal(object, pcrs, {kCounter + 1, expect(tpm.counter(kCounter + 1))}));
}

TEST_CASE_METHOD(Fixture, "a signing key signs on its TPM, for who knows its authorization, and nowhere else") {
    const Bytes authorization(32, 'a');
    const Bytes digest(32, 'd');
    TpmKey key;
    {
        HardwareTpm tpm = open();
        key = expect(tpm.create_signing_key(authorization));
    }
    HardwareTpm tpm = open();
    TPM2B_PUBLIC area{};
    std::size_t offset = 0;
    REQUIRE(Tss2_MU_TPM2B_PUBLIC_Unmarshal(key.public_area.data(), key.public_area.size(), &offset, &area) ==
            TSS2_RC_SUCCESS);
    constexpr TPMA_OBJECT kBound = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN;
    REQUIRE((area.publicArea.objectAttributes & kBound) == kBound);
    const EvpKey openssl = openssl_key(area.publicArea);
    const KeyContext context(EVP_PKEY_CTX_new(openssl.get(), nullptr));
    REQUIRE(EVP_PKEY_verify_init(context.get()) == 1);
    for (int i = 0; i < 20; ++i) {  // numbers of r and s that begin with zeros, or with a sign, are encoded as well
        const Bytes signature = expect(tpm.sign(key, authorization, digest));
        REQUIRE(EVP_PKEY_verify(context.get(), signature.data(), signature.size(), digest.data(), digest.size()) == 1);
    }
    for (const Bytes &wrong : {Bytes(32, 'b'), Bytes()})
        for (int i = 0; i < 20; ++i)  // and no lockout
            REQUIRE(expect_error(tpm.sign(key, wrong, digest)).code == ErrorCode::kRefused);
    expect(tpm.sign(key, authorization, digest));
    const Swtpm other(directory / "other");
    REQUIRE(expect_error(expect(HardwareTpm::open(other.tcti(), {})).sign(key, authorization, digest)).code ==
            ErrorCode::kRefused);
    TpmKey changed = key;
    changed.private_area.back() ^= 1;
    REQUIRE(expect_error(tpm.sign(changed, authorization, digest)).code == ErrorCode::kRefused);
}

TEST_CASE_METHOD(Fixture, "the TPM gives random bytes, each time others") {
    HardwareTpm tpm = open();
    const SecretBytes first = expect(tpm.random(32));
    REQUIRE(first.view().size() == 32);
    REQUIRE_FALSE(std::ranges::equal(first.view(), expect(tpm.random(32)).view()));
}

}  // namespace vtpm::hardware_tpm_test
