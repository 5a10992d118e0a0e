// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/boot_policy.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "expect.hpp"
#include "manager/boot/signing_key.hpp"
#include "manager/crypto/encoding.hpp"
#include "openssl_keys.hpp"

namespace vtpm::boot_policy_test {
using Json = nlohmann::ordered_json;

namespace {

constexpr std::int64_t kNow = 1'800'000'000;
constexpr std::int64_t kNotAfter = kNow + 1000;

// A digest of a SHA-256 bank, in hexadecimal.
std::string zeros() { return to_hex(Bytes(32)); }

ApproverKey key_of(EVP_PKEY *key) { return expect(ApproverKey::from_pem(public_pem(key))); }

PcrSelection pcrs(const char *text) { return expect(PcrSelection::parse(text)); }

std::string hex(const TPM2B_DIGEST &digest) { return to_hex({digest.buffer, digest.size}); }

BootApproval approval() {
    return {"default", pcrs("sha256:4,7"), {{4, Bytes(32, 0x44)}, {7, Bytes(32, 0x77)}}, kNotAfter};
}

BootPolicy signed_by(EVP_PKEY *key, BootApproval approval) {
    return expect(BootPolicy::sign(view(private_pem(key)), std::move(approval)));
}

std::string text(const Json &object, const char *field) { return object.at(field).get<std::string>(); }

// What the document's signature covers, for approval(): a prefix with its NUL, then each field after its length.
Bytes document(const Json &object) {
    const std::string prefix = "xen-vtpm boot policy document 1";
    Bytes out(prefix.begin(), prefix.end());
    out.push_back(0);
    const auto field = [&](ByteView bytes) {
        out.insert(out.end(), {0, 0, 0, static_cast<std::uint8_t>(bytes.size())});
        out.insert(out.end(), bytes.begin(), bytes.end());
    };
    field(view(text(object, "group")));
    field(Bytes{0, 0, 0, 1, 0, TPM2_ALG_SHA256, 3, 0x90, 0, 0});  // TPML_PCR_SELECTION: PCRs 4 and 7
    field(*from_hex(text(object.at("values"), "4") + text(object.at("values"), "7")));
    field(Bytes{0, 0, 0, 0, 0x6b, 0x49, 0xd5, 0xe8});  // kNotAfter
    out.insert(out.end(), {0, 0, 0, 1});               // the generation
    field(view(text(object, "approver")));
    field(*from_base64(text(object, "tpm_signature")));
    return out;
}

struct Fixture {
    ApproverKey key = key_of(p256());
    std::string file = signed_by(p256(), approval()).to_json();
    Json object = Json::parse(file);

    [[nodiscard]] std::string with(const char *field, Json value) const {
        Json changed = object;
        changed[field] = std::move(value);
        return changed.dump();
    }
    [[nodiscard]] std::string without(const char *field) const {
        Json changed = object;
        changed.erase(field);
        return changed.dump();
    }
    // With `before` replaced where it first stands.
    [[nodiscard]] std::string replaced(const std::string &before, const std::string &after) const {
        std::string changed = file;
        const auto at = changed.find(before);
        REQUIRE(at != std::string::npos);
        return changed.replace(at, before.size(), after);
    }
    static std::string malformed(const std::string &text) {
        const Error error = expect_error(BootPolicy::parse(text));
        REQUIRE(error.code == ErrorCode::kInvalid);
        REQUIRE(error.text.size() < 300);
        return error.text;
    }
    [[nodiscard]] std::string refused(const std::string &text, std::int64_t now = kNow) const {
        const Error error = expect_error(expect(BootPolicy::parse(text)).verify(key, now));
        REQUIRE(error.code == ErrorCode::kRefused);
        return error.text;
    }
};

}  // namespace

TEST_CASE("what an approver signed is the same from its file, and his") {
    EVP_PKEY *const openssl = GENERATE(rsa_2048, rsa_3072, p256)();
    const BootPolicy made = signed_by(openssl, approval());
    expect(made.verify(key_of(openssl), kNow));
    const BootPolicy read = expect(BootPolicy::parse(made.to_json()));
    expect(read.verify(key_of(openssl), kNow));
    REQUIRE(read.to_json() == made.to_json());
    REQUIRE(read.approver() == key_of(openssl).fingerprint());
    REQUIRE(read.approval().group == "default");
    REQUIRE(read.approval().pcrs.to_string() == "sha256:4,7");
    REQUIRE(read.approval().values == approval().values);
    REQUIRE(read.approval().not_after == kNotAfter);
    REQUIRE(read.approval().generation == 1);
    REQUIRE(read.id() == made.id());
    const ApprovedBoot from_file = expect(read.for_tpm(key_of(openssl)));
    const ApprovedBoot his = expect(made.for_tpm(key_of(openssl)));
    REQUIRE(hex(from_file.policy) == hex(his.policy));
    REQUIRE(hex(from_file.signed_digest) == hex(his.signed_digest));
}

TEST_CASE_METHOD(Fixture, "the file says what it approves in words that a human reads") {
    REQUIRE(object.at("format") == "xen-vtpm-boot-policy-1");
    REQUIRE(object.at("group") == "default");
    REQUIRE(object.at("pcrs") == "sha256:4,7");
    REQUIRE(object.at("values").at("7") == to_hex(Bytes(32, 0x77)));
    REQUIRE(object.at("not_after") == "2027-01-15T08:16:40Z");
    REQUIRE(object.at("approver") == key.fingerprint());
}

TEST_CASE("PolicyPCR's digest is what a TPM computes, for any bank") {
    REQUIRE(hex(pcr_policy(pcrs("sha256:7"), {{7, Bytes(32, 0)}})) ==
            "8b5682d81b29435d08d79278150611dc7e5923b2fefcce684a09577b40130a8b");
    REQUIRE(hex(pcr_policy(pcrs("sha384:23,0"), {{23, Bytes(48, 0x22)}, {0, Bytes(48, 0x11)}})) ==
            "55dd1309873bcb4cbbe862aa9f1cfa0dba03f20bad478f75480f8156c0c7b97d");
}

TEST_CASE("each group has its own policyRef, and each generation of its key") {
    REQUIRE(hex(policy_ref("default", 1)) == "7f5e069e35fb7f32fe5749fb33009ab3b21395151b12e622de153299a2f2e41d");
    REQUIRE(hex(policy_ref("defaulf", 1)) != hex(policy_ref("default", 1)));
    REQUIRE(hex(policy_ref("default", 2)) != hex(policy_ref("default", 1)));
}

TEST_CASE("aHash is the digest of approvedPolicy and policyRef") {
    const BootPolicy policy = signed_by(p256(), approval());
    const ApprovedBoot approved = expect(policy.for_tpm(key_of(p256())));
    const TPM2B_NONCE ref = policy_ref("default", 1);
    Bytes bytes(approved.policy.buffer, approved.policy.buffer + approved.policy.size);
    bytes.insert(bytes.end(), ref.buffer, ref.buffer + ref.size);
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(bytes.data(), bytes.size(), digest.data());
    REQUIRE(hex(approved.signed_digest) == to_hex(digest));
}

TEST_CASE("without an expiry it holds for ever, and the file has no such field") {
    BootApproval for_ever = approval();
    for_ever.not_after.reset();
    const BootPolicy made = signed_by(p256(), for_ever);
    REQUIRE_FALSE(Json::parse(made.to_json()).contains("not_after"));
    const BootPolicy read = expect(BootPolicy::parse(made.to_json()));
    REQUIRE_FALSE(read.approval().not_after);
    expect(read.verify(key_of(p256()), kLastUtc));
}

TEST_CASE_METHOD(Fixture, "it holds until the last second, and then not, and when that was is said") {
    expect(expect(BootPolicy::parse(file)).verify(key, kNotAfter));
    REQUIRE_THAT(refused(file, kNotAfter + 1), Contains("good until 2027-01-15T08:16:40Z"));
}

TEST_CASE_METHOD(Fixture, "another approver's is refused, and both are named") {
    const BootPolicy others = signed_by(rsa_2048(), approval());
    REQUIRE_THAT(refused(others.to_json()), Contains(key.fingerprint()) && Contains(key_of(rsa_2048()).fingerprint()));
}

TEST_CASE_METHOD(Fixture, "a document that was changed after it was signed is refused") {
    Json values = object.at("values");
    values["7"] = zeros();
    for (const std::string &changed :
         {with("group", "tenant"), with("values", values), with("not_after", "2037-01-15T08:16:40Z"),
          without("not_after"), with("generation", 2),
          replaced("sha256:4,7", "sha256:4,8").replace(file.find("\"7\""), 3, "\"8\"")})
        REQUIRE_THAT(refused(changed), Contains("'document_signature' is not the approver's"));
    REQUIRE_THAT(refused(with("approver", "SHA256:" + zeros())), Contains("signed by SHA256:" + zeros()));
}

TEST_CASE_METHOD(Fixture, "a signature of something else is refused, in either place") {
    const Json document = object.at("document_signature");
    const Json tpm = object.at("tpm_signature");
    REQUIRE_THAT(refused(with("document_signature", tpm)), Contains("'document_signature'"));
    REQUIRE_THAT(refused(with("tpm_signature", document)), Contains("'document_signature'"));
    Json tenant = Json::parse(signed_by(p256(), {"tenant", pcrs("sha256:7"), {{7, Bytes(32)}}}).to_json());
    REQUIRE_THAT(refused(with("document_signature", tenant.at("document_signature"))), Contains("changed"));
}

TEST_CASE_METHOD(Fixture, "what the approver signs is the document in this form") {
    REQUIRE(key.verify(document(object), *from_base64(text(object, "document_signature"))));
}

TEST_CASE_METHOD(Fixture, "a document that is the approver's, with a signature that no TPM takes, is refused") {
    object["tpm_signature"] = to_base64(Bytes(70, 1));
    const SigningKey signing = expect(SigningKey::from_pem(view(private_pem(p256()))));
    object["document_signature"] = to_base64(expect(signing.sign(document(object))));
    REQUIRE_THAT(refused(object.dump()), Contains("'tpm_signature' is not the approver's"));
}

TEST_CASE_METHOD(Fixture, "a file with any one byte changed is malformed or refused") {
    for (std::size_t i = 0; i < file.size(); ++i) {
        std::string changed = file;
        changed[i] ^= 1;
        CAPTURE(changed);
        const auto policy = BootPolicy::parse(changed);
        REQUIRE_FALSE((policy && policy->verify(key, kNow)));
    }
}

TEST_CASE_METHOD(Fixture, "a file cut at any byte is malformed") {
    for (std::size_t size = 0; size + 1 < file.size(); ++size) malformed(file.substr(0, size));
}

TEST_CASE_METHOD(Fixture, "what is no JSON object, or too large, is malformed") {
    for (const std::string &text : {std::string(), std::string("{"), std::string("[]"), std::string("\"x\""),
                                    std::string("{}x"), std::string("{\"x\": 1e999}"), file + file, file + "x",
                                    file + std::string(1, '\0') + "x", std::string(60'000, '['), "/**/" + file})
        REQUIRE_THAT(malformed(text), Contains("is a JSON object"));
    REQUIRE_THAT(malformed(file + std::string(BootPolicy::kMaxSize, ' ')), Contains("at most 65536 bytes"));
}

TEST_CASE_METHOD(Fixture, "a field that is missing, unknown or there twice is named") {
    for (const char *field :
         {"format", "group", "generation", "pcrs", "values", "approver", "tpm_signature", "document_signature"})
        REQUIRE_THAT(malformed(without(field)), Contains(fmt::format("'{}'", field)));
    REQUIRE_THAT(malformed(with("colour", 1)), Contains("no field 'colour'"));
    REQUIRE_THAT(malformed(with("x\n\x1b[2J", 1)), Contains("no field 'x??[2J'"));
    REQUIRE_THAT(malformed(replaced("{", "{\"group\": \"tenant\",")), Contains("'group' twice"));
    REQUIRE_THAT(malformed(replaced("\"4\":", "\"7\":")), Contains("'7' twice"));
    REQUIRE_THAT(malformed(with(std::string(60'000, 'x').c_str(), 1)), Contains("no field"));
}

TEST_CASE_METHOD(Fixture, "a field of the wrong type is named") {
    for (const Json &wrong : {Json(), Json(1), Json(true), Json::array({"x"}), Json{{"x", 1}}})
        for (const char *field :
             {"format", "group", "pcrs", "not_after", "approver", "tpm_signature", "document_signature"})
            REQUIRE_THAT(malformed(with(field, wrong)), Contains(fmt::format("a string as '{}'", field)));
    for (const Json &wrong : {Json(), Json("x"), Json::array()})
        REQUIRE_THAT(malformed(with("values", wrong)), Contains("an object as 'values'"));
    for (const Json &wrong : {Json(), Json("1"), Json(-1), Json(1.0), Json(1ULL << 32U)})
        REQUIRE_THAT(malformed(with("generation", wrong)), Contains("a number of 32 bits as 'generation'"));
    REQUIRE_THAT(malformed(with("generation", 0U)), Contains("'generation' is 1 or more"));
}

TEST_CASE_METHOD(Fixture, "a text that is not as it should be is named") {
    const auto [field, wrong, said] = GENERATE(table<const char *, const char *, const char *>({
        {"format", "xen-vtpm-boot-policy-2", "this one has xen-vtpm-boot-policy-2"},
        {"group", "", "'group'"},
        {"group", "a\nb", "'group'"},
        {"group", "gr\xc3\xbcn", "'group'"},
        {"group", "0123456789012345678901234567890123456789012345678901234567890123x", "'group'"},
        {"pcrs", "", "at least one PCR"},
        {"pcrs", "7", "'pcrs'"},
        {"pcrs", "md5:4,7", "'pcrs'"},
        {"pcrs", "sha256:24", "'pcrs'"},
        {"pcrs", "sha256:7,4", "in order and once, \"sha256:4,7\""},
        {"pcrs", "sha256:4,7,7", "in order and once"},
        {"pcrs", "sha256:04,7", "in order and once"},
        {"pcrs", "sha256:7", "as 'values' those of its 'pcrs'"},
        {"pcrs", "sha256:4,7,8", "as 'values' those of its 'pcrs'"},
        {"pcrs", "sha256:4,8", "as 'values' those of its 'pcrs'"},
        {"pcrs", "sha384:4,7", "PCR 4 of this bank has 48 bytes, not 32"},
        {"not_after", "2027-01-15 08:16:40Z", "'not_after'"},
        {"not_after", "2027-01-15T08:16:40+00:00", "'not_after'"},
        {"not_after", "2027-02-29T08:16:40Z", "'not_after'"},
        {"not_after", "", "'not_after'"},
        {"approver", "", "'approver'"},
        {"approver", "SHA256:", "'approver'"},
        {"approver", "SHA256:00", "'approver'"},
        {"approver", "0000000000000000000000000000000000000000000000000000000000000000", "'approver'"},
        {"tpm_signature", "", "'tpm_signature'"},
        {"tpm_signature", "AA", "'tpm_signature'"},
        {"tpm_signature", "AAA*", "'tpm_signature'"},
        {"tpm_signature", " AAAA", "'tpm_signature'"},
        {"document_signature", "AAAA\n", "'document_signature'"},
        {"document_signature", "AB==", "'document_signature'"},
        {"document_signature", "====", "'document_signature'"},
    }));
    CAPTURE(field, wrong);
    REQUIRE_THAT(malformed(with(field, wrong)), Contains(said));
}

TEST_CASE_METHOD(Fixture, "a signature that no key of ours makes is too long") {
    REQUIRE_THAT(malformed(with("tpm_signature", to_base64(Bytes(385)))), Contains("1 to 384 bytes"));
}

TEST_CASE_METHOD(Fixture, "values that are not those of the PCRs, or no digests, are named") {
    const auto with_values = [&](Json values) { return malformed(with("values", std::move(values))); };
    REQUIRE_THAT(with_values(Json::object()), Contains("as 'values' those of its 'pcrs'"));
    REQUIRE_THAT(with_values({{"4", zeros()}}), Contains("as 'values' those of its 'pcrs'"));
    REQUIRE_THAT(with_values({{"4", zeros()}, {"7", zeros()}, {"8", zeros()}}), Contains("no more and no less"));
    for (const char *name : {"07", "+7", " 7", "7 ", "-7", "x", "", "4294967303", "0x7"})
        REQUIRE_THAT(with_values({{"4", zeros()}, {name, zeros()}}), Contains("is not a PCR's number"));
    for (const std::string &value : {std::string("0"), zeros() + "0", std::string(64, 'x'), std::string(64, 'A'),
                                     "0x" + zeros(), " " + zeros().substr(1), "-1" + zeros().substr(2)})
        REQUIRE_THAT(with_values({{"4", zeros()}, {"7", value}}), Contains("PCR 7 needs"));
    REQUIRE_THAT(with_values({{"4", zeros()}, {"7", 0}}), Contains("PCR 7 needs"));
    REQUIRE_THAT(with_values({{"4", zeros()}, {"7", ""}}), Contains("PCR 7 of this bank has 32 bytes, not 0"));
    REQUIRE_THAT(with_values({{"4", zeros()}, {"7", zeros() + "00"}}), Contains("has 32 bytes, not 33"));
}

TEST_CASE("an approval that makes no sense is not signed") {
    const auto refused = [](const BootApproval &wrong) {
        const Error error = expect_error(BootPolicy::sign(view(private_pem(p256())), wrong));
        REQUIRE(error.code == ErrorCode::kInvalid);
        return error.text;
    };
    BootApproval wrong = approval();
    wrong.group = "";
    REQUIRE_THAT(refused(wrong), Contains("'group'"));
    REQUIRE_THAT(refused({"default", {}, {}}), Contains("at least one PCR"));
    REQUIRE_THAT(refused({"default", pcrs("sha256:7"), {}}), Contains("'values'"));
    REQUIRE_THAT(refused({"default", pcrs("sha256:7"), {{7, Bytes(20)}}}), Contains("has 32 bytes, not 20"));
    for (const std::int64_t time : {std::int64_t{-1}, kLastUtc + 1, std::numeric_limits<std::int64_t>::min()}) {
        wrong = approval();
        wrong.not_after = time;
        REQUIRE_THAT(refused(wrong), Contains("'not_after'"));
    }
    REQUIRE(expect_error(BootPolicy::sign(view(public_pem(p256())), approval())).code == ErrorCode::kInvalid);
}

TEST_CASE("PCRs out of order are signed in order") {
    BootApproval swapped = approval();
    swapped.pcrs = pcrs("sha256:7,4,7");
    const BootPolicy read = expect(BootPolicy::parse(signed_by(p256(), swapped).to_json()));
    REQUIRE(read.approval().pcrs.to_string() == "sha256:4,7");
    expect(read.verify(key_of(p256()), kNow));
}

TEST_CASE("every bank and every PCR can be approved") {
    const auto [bank, size] =
        GENERATE(table<std::string, std::size_t>({{"sha1", 20U}, {"sha256", 32U}, {"sha384", 48U}, {"sha512", 64U}}));
    BootApproval all{"default", {}, {}};
    std::string text = bank;
    for (unsigned pcr = 0; pcr < 24; ++pcr) {
        text += fmt::format("{}{}", pcr == 0 ? ':' : ',', pcr);
        all.values.emplace(pcr, Bytes(size, static_cast<std::uint8_t>(pcr)));
    }
    all.pcrs = pcrs(text.c_str());
    const std::string file = signed_by(p256(), all).to_json();
    REQUIRE(file.size() < BootPolicy::kMaxSize / 8);
    expect(expect(BootPolicy::parse(file)).verify(key_of(p256()), kNow));
}

TEST_CASE_METHOD(Fixture, "the signature for the TPM is the approver's over aHash") {
    const BootPolicy policy = signed_by(rsa_2048(), approval());
    const ApprovedBoot approved = expect(policy.for_tpm(key_of(rsa_2048())));
    const TPMT_SIGNATURE &tpm = approved.signature;
    REQUIRE(tpm.sigAlg == TPM2_ALG_RSASSA);
    const TPM2B_DIGEST &digest = approved.signed_digest;
    const KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, rsa_2048(), nullptr));
    REQUIRE(EVP_PKEY_verify_init(context.get()) == 1);
    REQUIRE(EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) == 1);
    REQUIRE(EVP_PKEY_verify(context.get(), tpm.signature.rsassa.sig.buffer, tpm.signature.rsassa.sig.size,
                            digest.buffer, digest.size) == 1);
    REQUIRE(expect_error(policy.for_tpm(key)).code == ErrorCode::kInvalid);
}

TEST_CASE("a time has one text") {
    for (const auto &[seconds, text] : std::map<std::int64_t, std::string>{{0, "1970-01-01T00:00:00Z"},
                                                                           {951'827'696, "2000-02-29T12:34:56Z"},
                                                                           {kNow, "2027-01-15T08:00:00Z"},
                                                                           {kLastUtc, "9999-12-31T23:59:59Z"}}) {
        REQUIRE(to_utc(seconds) == text);
        REQUIRE(from_utc(text) == seconds);
    }
    for (const char *wrong :
         {"", "2027-01-15", "1969-12-31T23:59:59Z", "2027-13-01T00:00:00Z", "2027-00-01T00:00:00Z",
          "2027-01-00T00:00:00Z", "2027-04-31T00:00:00Z", "2100-02-29T00:00:00Z", "2027-01-01T24:00:00Z",
          "2027-01-01T00:60:00Z", "2027-01-01T00:00:60Z", "2027-01-01t00:00:00z", "2027-01-01T00:00:00",
          "2027-01-01T00:00:00.0Z", " 027-01-01T00:00:00Z", "-027-01-01T00:00:00Z", "12027-01-01T00:00:00Z"})
        REQUIRE_FALSE(from_utc(wrong));
}

TEST_CASE("base64 has one text") {
    for (const std::string &text : {std::string(), std::string("a"), std::string("ab"), std::string("abc"),
                                    std::string("abcd"), std::string(384, '\xff')}) {
        const ByteView bytes = view(text);
        REQUIRE(std::ranges::equal(*from_base64(to_base64(bytes)), bytes));
    }
    REQUIRE(to_base64(view("ab")) == "YWI=");
    for (const char *wrong :
         {"YWI", "YWI=\n", "\nYWI=", "YWJ=", "Y=I=", "=", "====", "YWI=YWI=", "YW==I", "Y WI=", "-_-_"})
        REQUIRE_FALSE(from_base64(wrong));
}

}  // namespace vtpm::boot_policy_test
