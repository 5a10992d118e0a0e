// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/launch_approval.hpp"

#include <nlohmann/json.hpp>

#include "expect.hpp"
#include "launched.hpp"
#include "manager/boot/boot_policy.hpp"
#include "manager/boot/launch_release.hpp"
#include "manager/boot/signing_key.hpp"
#include "manager/crypto/encoding.hpp"
#include "openssl_keys.hpp"

namespace vtpm::launch_approval_test {
using Json = nlohmann::ordered_json;

namespace {

const Uuid kVtpm = *Uuid::parse("4a1c3b2e-9f6d-4f0e-8a57-2d1b3c4e5f60");

ApproverKey key_of(EVP_PKEY *key) { return expect(ApproverKey::from_pem(public_pem(key))); }

LaunchTerms terms() { return {"tenant", 2, {kVtpm}, {approved("first", "ro"), approved("second", "ro quiet")}}; }

LaunchApproval signed_by(EVP_PKEY *key, LaunchTerms terms) {
    return expect(LaunchApproval::sign(view(private_pem(key)), std::move(terms)));
}

struct Fixture {
    ApproverKey key = key_of(p256());
    Json object = Json::parse(signed_by(p256(), terms()).to_json());

    [[nodiscard]] Json with(const char *field, Json value) const {
        Json changed = object;
        changed[field] = std::move(value);
        return changed;
    }
    [[nodiscard]] Json with_launch(const char *field, Json value) const {
        Json changed = object;
        changed["launches"][0][field] = std::move(value);
        return changed;
    }
    static std::string malformed(const Json &document) {
        const Error error = expect_error(LaunchApproval::parse(document.dump()));
        REQUIRE(error.code == ErrorCode::kInvalid);
        REQUIRE(error.text.size() < 300);
        return error.text;
    }
    [[nodiscard]] std::string refused(const Json &document) const {
        const Error error = expect_error(expect(LaunchApproval::parse(document.dump())).verify(key));
        REQUIRE(error.code == ErrorCode::kRefused);
        return error.text;
    }
};

std::vector<std::string> differ(const ApprovedLaunch &approved, const Bytes &log) {
    const auto bank = launch::hash_of_algorithm(approved.pcrs.tpm().pcrSelections[0].hash);
    return deviations(approved, expect(launch::pcrs_after(expect(launch::read_event_log(log)).events, *bank)));
}

}  // namespace

TEST_CASE("launches that an approver signed are the same from their file, and his") {
    EVP_PKEY *const openssl = GENERATE(rsa_2048, rsa_3072, p256)();
    const LaunchApproval made = signed_by(openssl, terms());
    const LaunchApproval read = expect(LaunchApproval::parse(made.to_json()));
    expect(read.verify(key_of(openssl)));
    REQUIRE(read.to_json() == made.to_json());
    REQUIRE(read.id() == made.id());
    REQUIRE(read.approver() == key_of(openssl).fingerprint());
    REQUIRE(read.terms().group == "tenant");
    REQUIRE(read.terms().generation == 2);
    REQUIRE(read.terms().vtpms == std::vector{kVtpm});
    REQUIRE(read.terms().launches.at(1).label == "second");
    REQUIRE(read.terms().launches.at(1).values == terms().launches[1].values);
    REQUIRE(read.is_for(kVtpm));
    REQUIRE_FALSE(read.is_for(Uuid::random()));
    LaunchTerms all = terms();
    all.vtpms.clear();
    REQUIRE(signed_by(openssl, all).is_for(Uuid::random()));
}

TEST_CASE_METHOD(Fixture, "a launch approval that was changed after it was signed is refused, whatever was changed") {
    Json other = object.at("launches");
    std::swap(other[0]["values"], other[1]["values"]);
    Json one = object.at("launches");
    one.erase(1);
    const std::vector<Json> changed{
        with("group", "other"), with("generation", 3),           with("vtpms", Json::array()),
        with("launches", one),  with_launch("label", "another"), with("launches", other),
    };
    for (const Json &forged : changed) REQUIRE_THAT(refused(forged), Contains("'signature' is not the approver's"));
    REQUIRE_THAT(refused(with("approver", "SHA256:" + std::string(64, '0'))), Contains("is signed by SHA256:00"));
    REQUIRE_THAT(refused(Json::parse(signed_by(rsa_2048(), terms()).to_json())), Contains(key.fingerprint()));
}

TEST_CASE_METHOD(Fixture, "no signature of one kind of document passes for another kind's") {
    const std::string pem = private_pem(p256());
    const BootPolicy boot = expect(BootPolicy::sign(
        view(pem), {"tenant", expect(PcrSelection::parse("sha256:4,9")), values_of(terms().launches[0], {4, 9})}));
    const Json policy = Json::parse(boot.to_json());
    for (const char *signature : {"tpm_signature", "document_signature"})
        REQUIRE_THAT(refused(with("signature", policy.at(signature))), Contains("not the approver's"));
    const Json release = Json::parse(expect(LaunchRelease::sign(view(pem), kVtpm, Bytes(16, 1))).to_json());
    REQUIRE_THAT(refused(with("signature", release.at("signature"))), Contains("not the approver's"));
    for (const Json &document : {policy, release})
        REQUIRE_THAT(malformed(document), Contains("must have the 'format' xen-vtpm-launch-approval-1"));
    Json forged = policy;
    for (const char *signature : {"tpm_signature", "document_signature"}) forged[signature] = object.at("signature");
    REQUIRE_FALSE(expect(BootPolicy::parse(forged.dump())).verify(key, 0));
    forged = release;
    forged["signature"] = object.at("signature");
    REQUIRE_FALSE(expect(LaunchRelease::parse(forged.dump())).verify(key, kVtpm, Bytes(16, 1)));
}

TEST_CASE_METHOD(Fixture, "what no approver may sign is not read either") {
    const std::string long_text(65, 'x');
    REQUIRE_THAT(malformed(with("launches", Json::array())), Contains("1 to 32 'launches'"));
    REQUIRE_THAT(malformed(with("launches", Json(33, object.at("launches")[0]))), Contains("at most 32"));
    REQUIRE_THAT(malformed(with("launches", Json(2, object.at("launches")[0]))), Contains("'first' twice"));
    REQUIRE_THAT(malformed(with("vtpms", Json(257, kVtpm.to_string()))), Contains("at most 256"));
    REQUIRE_THAT(malformed(with("vtpms", Json(2, kVtpm.to_string()))), Contains("each once"));
    REQUIRE_THAT(malformed(with("vtpms", {"4A1C3B2E-9f6d-4f0e-8a57-2d1b3c4e5f60"})), Contains("small letters"));
    REQUIRE_THAT(malformed(with("vtpms", {7})), Contains("nothing but strings"));
    REQUIRE_THAT(malformed(with("generation", 0)), Contains("1 or more"));
    REQUIRE_THAT(malformed(with("group", long_text)), Contains("1 to 64"));
    REQUIRE_THAT(malformed(with("expires", "never")), Contains("no field 'expires'"));
    REQUIRE_THAT(malformed(with("approver", "SHA256:00")), Contains("fingerprint"));
    REQUIRE_THAT(malformed(with("signature", to_base64(Bytes(385)))), Contains("1 to 384 bytes"));
    REQUIRE_THAT(malformed(with_launch("label", long_text)), Contains("'label' is 1 to 64"));
    REQUIRE_THAT(malformed(with_launch("label", "a\nb")), Contains("printable"));
    REQUIRE_THAT(malformed(with_launch("note", "x")), Contains("no field 'note'"));
    Json short_value = object.at("launches")[0].at("values");
    short_value["4"] = "00";
    REQUIRE_THAT(malformed(with_launch("values", short_value)), Contains("has 32 bytes, not 1"));
    REQUIRE_THAT(malformed(with_launch("pcrs", "sha256:4,8")), Contains("no more and no less"));
    REQUIRE_THAT(malformed("a string"), Contains("JSON object"));
    REQUIRE_THAT(expect_error(LaunchApproval::parse(std::string(LaunchApproval::kMaxSize + 1, ' '))).text,
                 Contains("at most 65536 bytes"));
}

TEST_CASE("an approval covers kernel, command line and initrd, and nothing that tells of no launch") {
    LaunchTerms few = terms();
    const auto refused = [&](const char *pcrs) {
        few.launches[0].pcrs = expect(PcrSelection::parse(pcrs));
        few.launches[0].values.clear();
        for (const unsigned pcr : few.launches[0].pcrs.numbers()) few.launches[0].values[pcr] = Bytes(32);
        return expect_error(LaunchApproval::sign(view(private_pem(p256())), few)).text;
    };
    REQUIRE_THAT(refused("sha256:4,8"), Contains("4, the kernel, and 9"));
    REQUIRE_THAT(refused("sha256:8,9"), Contains("4, the kernel, and 9"));
    REQUIRE_THAT(refused("sha256:0,4,9"), Contains("PCR 0 tells of no launch"));
    REQUIRE_THAT(refused("sha256:4,9,10"), Contains("PCR 10 tells of no launch"));
}

TEST_CASE("the largest set that may be signed can be read again, and a larger one is refused") {
    LaunchTerms many{"tenant", 1, {}, {}};
    for (std::size_t i = 0; i < LaunchApproval::kMaxLaunches; ++i)
        many.launches.push_back(approved(fmt::format("{:064}", i), "ro"));
    for (std::size_t i = 0; i < LaunchApproval::kMaxVtpms; ++i) many.vtpms.push_back(Uuid::random());
    expect(LaunchApproval::parse(signed_by(p256(), many).to_json()));
    many.vtpms.push_back(Uuid::random());
    REQUIRE_FALSE(LaunchApproval::sign(view(private_pem(p256())), many));
}

TEST_CASE("what a launch differs in is named") {
    const ApprovedLaunch launch = approved("a", "ro");
    REQUIRE(differ(launch, launch_log("ro")).empty());
    REQUIRE(differ(launch, launch_log("ro", 'x')) == std::vector<std::string>{"its kernel (PCR 4)"});
    REQUIRE(differ(launch, launch_log("rw")) == std::vector<std::string>{"its command line (PCR 8)"});
    REQUIRE(differ(launch, launch_log("ro", 'k', 'x')) == std::vector<std::string>{"its initrd (PCR 9)"});
    REQUIRE(differ(launch, launch_log("rw", 'x', 'x')) ==
            std::vector<std::string>{"its kernel (PCR 4)", "its command line (PCR 8)"});
    const ApprovedLaunch both{"b", expect(PcrSelection::parse("sha256:4,9")), values_of(launch, {4, 9})};
    REQUIRE(differ(both, launch_log("rw")) == std::vector<std::string>{"its command line or initrd (PCR 9)"});
    ApprovedLaunch uki = launch;
    uki.values[11] = Bytes(32);
    uki.values[12] = Bytes(32);  // as in a launch without a UKI
    REQUIRE(differ(uki, launch_log("ro")) == std::vector<std::string>{"what its UKI consists of (PCR 11)"});
}

TEST_CASE("a release is for one binding of one vTPM, and the approver's") {
    const Bytes binding(16, 7);
    const LaunchRelease made = expect(LaunchRelease::sign(view(private_pem(p256())), kVtpm, binding));
    const LaunchRelease read = expect(LaunchRelease::parse(made.to_json()));
    const auto verify = [&](const ApproverKey &key, const Uuid &vtpm, const Bytes &of) {
        return expect_error(read.verify(key, vtpm, of)).text;
    };
    expect(read.verify(key_of(p256()), kVtpm, binding));
    REQUIRE_THAT(verify(key_of(rsa_2048()), kVtpm, binding), Contains("is signed by"));
    REQUIRE_THAT(verify(key_of(p256()), Uuid::random(), binding), Contains("is not for vTPM"));
    REQUIRE_THAT(verify(key_of(p256()), kVtpm, Bytes(16, 8)), Contains("0808") && Contains("0707"));
    Json forged = Json::parse(made.to_json());
    forged["binding"] = to_hex(Bytes(16, 8));
    REQUIRE_THAT(
        expect_error(expect(LaunchRelease::parse(forged.dump())).verify(key_of(p256()), kVtpm, Bytes(16, 8))).text,
        Contains("not the approver's"));
    for (const char *binding_text : {"", "07", "0G"}) {
        forged["binding"] = binding_text;
        REQUIRE(expect_error(LaunchRelease::parse(forged.dump())).code == ErrorCode::kInvalid);
    }
    REQUIRE_FALSE(LaunchRelease::sign(view(private_pem(p256())), kVtpm, Bytes(15)));
    REQUIRE_FALSE(LaunchRelease::parse(std::string(LaunchRelease::kMaxSize + 1, ' ')));
}

}  // namespace vtpm::launch_approval_test
