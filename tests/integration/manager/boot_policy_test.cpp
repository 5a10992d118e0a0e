// SPDX-License-Identifier: Apache-2.0
// Whether a TPM accepts what the approver's keys and policies say: our bytes against its own.
#include "manager/boot/boot_policy.hpp"

#include <tss2/tss2_mu.h>

#include <algorithm>

#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/nv_handle.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"
#include "swtpm.hpp"
#include "tests/unit/manager/expect.hpp"
#include "tests/unit/manager/openssl_keys.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm::boot_policy_test {

namespace {

constexpr std::uint32_t kCounter = 0x0180a800;

template <typename T>
Bytes bytes(const T &sized) {
    return {sized.buffer, sized.buffer + sized.size};
}

struct Fixture {
    TemporaryDirectory directory;
    Swtpm swtpm{directory / "tpm"};
    Esys esys = expect(connect_tpm(swtpm.tcti()));
    SavedPrimary saved;
    StoragePrimary primary = expect(storage_primary(esys.get(), saved));
    PcrSelection pcrs = expect(PcrSelection::parse("sha256:4,7,23"));

    // PCRs that are not all zero.
    Fixture() {
        for (const ESYS_TR pcr : {ESYS_TR_PCR4, ESYS_TR_PCR7}) extend(pcr);
    }

    void extend(ESYS_TR pcr) const {
        TPML_DIGEST_VALUES digests{1, {{TPM2_ALG_SHA256, {}}}};
        digests.digests[0].digest.sha256[0] = static_cast<std::uint8_t>(pcr);
        expect(checked("TPM2_PCR_Extend", [&] {
            return Esys_PCR_Extend(esys.get(), pcr, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests);
        }));
    }

    [[nodiscard]] PcrValues values() const {
        HardwareTpm tpm = expect(HardwareTpm::open(swtpm.tcti(), {}));
        return expect(tpm.read(pcrs));
    }

    [[nodiscard]] EsysHandle session(SessionUse use) const {
        return expect(start_session(esys.get(), primary.handle.get(), use));
    }

    [[nodiscard]] Bytes digest_of(const EsysHandle &policy) const {
        EsysPtr<TPM2B_DIGEST> digest;
        expect(checked("TPM2_PolicyGetDigest", [&] {
            return Esys_PolicyGetDigest(esys.get(), policy.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                        out(digest));
        }));
        return bytes(*digest);
    }

    // All of it, as a manager does it to open `group`.
    [[nodiscard]] Result<Bytes> open(const BootPolicy &policy, const std::string &group, const ApproverKey &key,
                                     std::uint32_t generation = 1) const {
        VTPM_ASSIGN(const ApprovedBoot boot, policy.for_tpm(key));
        return open(boot, key.for_tpm(policy_ref(group, generation)));
    }
    [[nodiscard]] Result<Bytes> open(const ApprovedBoot &boot, const Approver &approver) const {
        const EsysHandle policy = session(SessionUse::kPolicy);
        VTPM_ASSIGN(const ApprovalTicket ticket, verify(esys.get(), approver, boot));
        VTPM_TRY(assert_approved_boot(esys.get(), policy.get(), approver, boot, ticket));
        return digest_of(policy);
    }
};

// The TPM itself said no, to a parameter.
template <typename T>
void require_refusal(const Result<T> &result) {
    REQUIRE_THAT(expect_error(result).text, Contains("tpm:parameter"));
}

ApproverKey key_of(EVP_PKEY *key) { return expect(ApproverKey::from_pem(public_pem(key))); }

EVP_PKEY *any_accepted() { return GENERATE(rsa_2048, rsa_3072, p256)(); }

BootPolicy signed_by(EVP_PKEY *key, BootApproval approval) {
    const BootPolicy policy = expect(BootPolicy::sign(view(private_pem(key)), std::move(approval)));
    return expect(BootPolicy::parse(policy.to_json()));
}

}  // namespace

TEST_CASE_METHOD(Fixture, "the TPM gives an approver's key the Name that we compute") {
    const Approver approver = key_of(any_accepted()).for_tpm({});
    ESYS_TR handle = ESYS_TR_NONE;
    REQUIRE(Esys_LoadExternal(esys.get(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, nullptr, &approver.key,
                              ESYS_TR_RH_OWNER, &handle) == TSS2_RC_SUCCESS);
    const EsysHandle loaded(esys.get(), handle);
    EsysPtr<TPM2B_NAME> name;
    REQUIRE(Esys_TR_GetName(esys.get(), loaded.get(), out(name)) == TSS2_RC_SUCCESS);
    REQUIRE(name->size == approver.name.size);
    REQUIRE(std::equal(name->name, name->name + name->size, approver.name.name));
}

TEST_CASE_METHOD(Fixture, "the TPM's PolicyPCR gives the digest that we compute, whatever the bank") {
    const char *const text = GENERATE("sha256:4,7,23", "sha384:7,4,23", "sha512:23,7,4");
    pcrs = expect(PcrSelection::parse(text));
    const EsysHandle policy = session(SessionUse::kPolicy);
    expect(assert_pcrs(esys.get(), policy.get(), pcrs));
    REQUIRE(digest_of(policy) == bytes(pcr_policy(pcrs, values())));
}

TEST_CASE_METHOD(Fixture, "the TPM accepts what the approver signed") {
    EVP_PKEY *const openssl = any_accepted();
    const BootPolicy policy = signed_by(openssl, {"default", pcrs, values()});
    const Bytes opened = expect(open(policy, "default", key_of(openssl)));

    // The digest depends on approver and group, not on the PCRs: that of an approval of another boot is the same.
    extend(ESYS_TR_PCR4);
    const BootPolicy updated = signed_by(openssl, {"default", pcrs, values()});
    REQUIRE(expect(open(updated, "default", key_of(openssl))) == opened);
    const BootPolicy tenant = signed_by(openssl, {"tenant", pcrs, values()});
    REQUIRE(expect(open(tenant, "tenant", key_of(openssl))) != opened);
}

TEST_CASE_METHOD(Fixture, "the TPM refuses an approval of another boot") {
    const BootPolicy policy = signed_by(p256(), {"default", pcrs, values()});
    extend(ESYS_TR_PCR7);
    require_refusal(open(policy, "default", key_of(p256())));
    const BootPolicy updated = signed_by(p256(), {"default", pcrs, values()});
    expect(open(updated, "default", key_of(p256())));
}

TEST_CASE_METHOD(Fixture, "the TPM refuses an approval for another group, or for another generation of its key") {
    const BootPolicy policy = signed_by(p256(), {"default", pcrs, values()});
    require_refusal(open(policy, "tenant", key_of(p256())));
    require_refusal(open(policy, "default", key_of(p256()), 2));
    expect(open(policy, "default", key_of(p256())));
}

TEST_CASE_METHOD(Fixture, "the TPM refuses another approver's key, and his signature for this one") {
    const EvpKey other = ec_key();
    const BootPolicy policy = signed_by(other.get(), {"default", pcrs, values()});
    require_refusal(open(policy, "default", key_of(p256())));
    // His key under this approver's Name: the ticket is for his.
    const ApprovedBoot boot = expect(policy.for_tpm(key_of(other.get())));
    Approver mixed = key_of(other.get()).for_tpm(policy_ref("default", 1));
    expect(open(boot, mixed));
    mixed.name = key_of(p256()).for_tpm({}).name;
    require_refusal(open(boot, mixed));
}

TEST_CASE_METHOD(Fixture, "the TPM refuses a signature over anything else") {
    EVP_PKEY *const openssl = any_accepted();
    const Approver approver = key_of(openssl).for_tpm(policy_ref("default", 1));
    const ApprovedBoot good = expect(signed_by(openssl, {"default", pcrs, values()}).for_tpm(key_of(openssl)));
    expect(open(good, approver));
    ApprovedBoot changed = good;
    changed.signed_digest.buffer[31] ^= 1;
    require_refusal(open(changed, approver));
    changed = good;
    changed.policy.buffer[0] ^= 1;  // with a good signature, but of another policy
    require_refusal(open(changed, approver));
}

TEST_CASE_METHOD(Fixture, "ECDSA signatures are accepted however small their numbers are") {
    // One in 128 has a leading zero byte in either number.
    for (int i = 0; i < 300; ++i)
        expect(open(signed_by(p256(), {"default", pcrs, values()}), "default", key_of(p256())));
}

TEST_CASE_METHOD(Fixture, "what is sealed to an approver opens by his approval of the present boot, and by no other") {
    EVP_PKEY *const openssl = any_accepted();
    const ApproverKey key = key_of(openssl);
    const Approver approver = key.for_tpm(policy_ref("default", 1));
    const Bytes secret{1, 2, 3};
    HardwareTpm tpm = expect(HardwareTpm::open(swtpm.tcti(), {}));
    const Count count{kCounter, expect(tpm.ensure_counter(kCounter))};
    const SealedObject sealed = expect(tpm.seal(secret, approver, count));
    REQUIRE(sealed_for(sealed, approver, count));
    const auto unsealed = [&](const BootPolicy &policy) {
        return tpm.unseal(sealed, approver, *policy.for_tpm(key), count);
    };

    const BootPolicy before = signed_by(openssl, {"default", pcrs, values()});
    REQUIRE(std::ranges::equal(expect(unsealed(before)).view(), secret));
    extend(ESYS_TR_PCR4);
    require_refusal(unsealed(before));
    REQUIRE(std::ranges::equal(expect(unsealed(signed_by(openssl, {"default", pcrs, values()}))).view(), secret));
    REQUIRE_FALSE(tpm.unseal(sealed, PcrSelection(), count));
    REQUIRE_FALSE(tpm.unseal(sealed, pcrs, count));
}

namespace {

// Who has a copy of the sealed object and of the signed policy, the boot that it approves, and the TPM.
struct Attacker : Fixture {
    const ApproverKey key = key_of(p256());
    const Approver approver = key.for_tpm(policy_ref("default", 1));
    const BootPolicy approval = signed_by(p256(), {"default", pcrs, values()});
    const Bytes secret{1, 2, 3};
    Count count{kCounter, 0};
    SealedObject sealed;

    Attacker() {
        HardwareTpm tpm = open_tpm();
        count.value = expect(tpm.ensure_counter(kCounter));
        sealed = expect(tpm.seal(secret, approver, count));
    }
    [[nodiscard]] HardwareTpm open_tpm() const { return expect(HardwareTpm::open(swtpm.tcti(), {})); }
    [[nodiscard]] Result<> unseal(const Count &at) const {
        HardwareTpm tpm = open_tpm();
        VTPM_TRY(tpm.unseal(sealed, approver, *approval.for_tpm(key), at));
        return {};
    }
    // Without our checks: the commands as the TPM takes them.
    [[nodiscard]] TSS2_RC unseal_by_hand() const {
        const EsysHandle policy = session(SessionUse::kPolicy);
        const ApprovedBoot boot = expect(approval.for_tpm(key));
        const ApprovalTicket ticket = expect(verify(esys.get(), approver, boot));
        expect(assert_approved_boot(esys.get(), policy.get(), approver, boot, ticket));
        const NvHandle nv = expect(find_nv(esys.get(), kCounter, {}));
        const Bytes content = content_of(count);
        TPM2B_OPERAND operand{static_cast<UINT16>(content.size()), {}};
        std::ranges::copy(content, operand.buffer);
        const TSS2_RC asserted = Esys_PolicyNV(esys.get(), nv.get(), nv.get(), policy.get(), ESYS_TR_PASSWORD,
                                               ESYS_TR_NONE, ESYS_TR_NONE, &operand, 0, TPM2_EO_EQ);
        if (asserted != TSS2_RC_SUCCESS) return asserted;
        expect(assert_unseal(esys.get(), policy.get()));
        TPM2B_PUBLIC public_area{};
        TPM2B_PRIVATE private_area{};
        std::size_t offset = 0;
        REQUIRE(Tss2_MU_TPM2B_PUBLIC_Unmarshal(sealed.public_area.data(), sealed.public_area.size(), &offset,
                                               &public_area) == TSS2_RC_SUCCESS);
        offset = 0;
        REQUIRE(Tss2_MU_TPM2B_PRIVATE_Unmarshal(sealed.private_area.data(), sealed.private_area.size(), &offset,
                                                &private_area) == TSS2_RC_SUCCESS);
        ESYS_TR raw = ESYS_TR_NONE;
        REQUIRE(Esys_Load(esys.get(), primary.handle.get(), ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &private_area,
                          &public_area, &raw) == TSS2_RC_SUCCESS);
        const EsysHandle loaded(esys.get(), raw);
        EsysPtr<TPM2B_SENSITIVE_DATA> data;
        return Esys_Unseal(esys.get(), loaded.get(), policy.get(), ESYS_TR_NONE, ESYS_TR_NONE, out(data));
    }
};

}  // namespace

TEST_CASE_METHOD(Attacker, "a former sealed object and the former approval open nothing once the counter moved") {
    expect(unseal(count));
    REQUIRE(unseal_by_hand() == TSS2_RC_SUCCESS);
    expect(open_tpm().increment(kCounter));
    REQUIRE(expect_error(unseal(count)).code == ErrorCode::kRefused);
    REQUIRE(expect_error(unseal({kCounter, count.value + 1})).code == ErrorCode::kRefused);
    REQUIRE(plain_code(unseal_by_hand()) == TPM2_RC_POLICY);
    // It is the same boot still: what is sealed now opens by the same approval.
    count.value += 1;
    sealed = expect(open_tpm().seal(secret, approver, count));
    expect(unseal(count));
}

TEST_CASE_METHOD(Attacker, "a counter that the attacker removes and defines anew does not help him") {
    expect(open_tpm().increment(kCounter));
    for (int i = 0; i < 3; ++i) {
        expect(open_tpm().nv_remove(kCounter));
        REQUIRE_FALSE(unseal(count));
        REQUIRE(expect(open_tpm().ensure_counter(kCounter)) > count.value + 1);
        REQUIRE(expect_error(unseal(count)).code == ErrorCode::kRefused);
        REQUIRE(plain_code(unseal_by_hand()) == TPM2_RC_POLICY);
    }
}

TEST_CASE_METHOD(Attacker, "an NV index that can be set back does not stand in for the counter") {
    expect(open_tpm().increment(kCounter));
    expect(open_tpm().nv_remove(kCounter));
    expect(open_tpm().nv_write(kCounter, {}, content_of(count)));
    REQUIRE_THAT(expect_error(unseal(count)).text, Contains("is not the counter"));
    REQUIRE(plain_code(unseal_by_hand()) == TPM2_RC_POLICY_FAIL);
}

}  // namespace vtpm::boot_policy_test
