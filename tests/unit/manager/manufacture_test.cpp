// SPDX-License-Identifier: Apache-2.0
// A new TPM that does not do what it must. One that does: tests/integration/endorsement.
#include "manager/ca/manufacture.hpp"

#include <tss2/tss2_mu.h>

#include <map>

#include "certificates.hpp"
#include "manager/tpm/public_area.hpp"

namespace vtpm::manufacture_test {

namespace {

Bytes operator+(Bytes left, const Bytes &right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}
Bytes be32(std::uint32_t value) {
    return {static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
            static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
std::uint32_t code_of(const Bytes &command) {
    return static_cast<std::uint32_t>(command.at(6)) << 24 | static_cast<std::uint32_t>(command.at(7)) << 16 |
           static_cast<std::uint32_t>(command.at(8)) << 8 | command.at(9);
}
Bytes response(std::uint32_t code, const Bytes &rest = {}) {
    return Bytes{0x80, 0x01} + be32(static_cast<std::uint32_t>(10 + rest.size())) + be32(code) + rest;
}

Bytes properties() {
    Bytes list{0};  // no more data
    list = list + be32(TPM2_CAP_TPM_PROPERTIES) + be32(4);
    list = list + be32(TPM2_PT_MANUFACTURER) + be32(0x49424D00) + be32(TPM2_PT_VENDOR_STRING_1) + be32(0x53572020);
    return list + be32(TPM2_PT_FIRMWARE_VERSION_1) + be32(0x20191023) + be32(TPM2_PT_REVISION) + be32(164);
}

Bytes pcr_bank(std::uint16_t algorithm, std::uint8_t pcrs) {
    return {static_cast<std::uint8_t>(algorithm >> 8), static_cast<std::uint8_t>(algorithm), 3, pcrs, pcrs, pcrs};
}
// As libtpms has them, and one that we do not know.
Bytes present_banks() {
    return Bytes{0} + be32(TPM2_CAP_PCRS) + be32(4) + pcr_bank(TPM2_ALG_SHA1, 0xff) + pcr_bank(TPM2_ALG_SHA256, 0xff) +
           pcr_bank(TPM2_ALG_SHA384, 0) + pcr_bank(TPM2_ALG_SHA3_256, 0xff);
}
// Until the session area.
Bytes allocated(std::uint8_t success) {
    return be32(13) + Bytes{success} + be32(24) + be32(1920) + be32(3936) + Bytes{0, 0, 1, 0, 0};
}

EndorsementKey a_key(EkTemplate kind) {
    const bool rsa = kind == EkTemplate::kRsa2048;
    TPM2B_PUBLIC area{};
    std::size_t offset = 0;
    const Bytes empty = ek_template(kind);
    REQUIRE(Tss2_MU_TPM2B_PUBLIC_Unmarshal(empty.data(), empty.size(), &offset, &area) == TSS2_RC_SUCCESS);
    const EvpKey p384 = rsa || kind == EkTemplate::kEccP256 ? EvpKey() : ec_key("P-384");
    const auto number = [](EVP_PKEY *key, const char *name, std::uint16_t size, std::uint8_t *out) {
        BIGNUM *raw = nullptr;
        REQUIRE(EVP_PKEY_get_bn_param(key, name, &raw) == 1);
        const BigNumber owned(raw);
        REQUIRE(BN_bn2binpad(raw, out, size) == size);
    };
    if (rsa) {
        area.publicArea.unique.rsa.size = 256;
        number(rsa_2048(), OSSL_PKEY_PARAM_RSA_N, 256, area.publicArea.unique.rsa.buffer);
    } else {
        EVP_PKEY *const key = p384 ? p384.get() : p256();
        const std::uint16_t size = p384 ? 48 : 32;
        auto &point = area.publicArea.unique.ecc;
        point.x.size = size;
        point.y.size = size;
        number(key, OSSL_PKEY_PARAM_EC_PUB_X, size, point.x.buffer);
        number(key, OSSL_PKEY_PARAM_EC_PUB_Y, size, point.y.buffer);
    }
    return expect(endorsement_key(marshalled(area)));
}

// A TPM that answers as one does, but for what a test spoils.
struct NewTpm {
    std::vector<std::uint32_t> commands;
    Bytes allocate;
    std::map<std::uint32_t, Bytes> content;  // of NV indices
    std::size_t keys = 0;
    std::size_t spoiled = SIZE_MAX;  // which command
    Bytes (*spoil)(Bytes) = nullptr;

    Bytes answer(const Bytes &command) {
        const std::uint32_t code = code_of(command);
        Bytes answered = response(0);
        const bool of_pcrs = command.size() > 13 && command[13] == TPM2_CAP_PCRS;
        if (code == TPM2_CC_GetCapability) answered = response(0, of_pcrs ? present_banks() : properties());
        if (code == TPM2_CC_PCR_Allocate) {
            allocate = command;
            answered = response(0, allocated(TPM2_YES));
        }
        if (code == TPM2_CC_NV_Write) write(command);
        if (code == TPM2_CC_CreatePrimary) {
            constexpr EkTemplate kKinds[] = {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384};
            const TPM2B_PUBLIC area{0, a_key(kKinds[keys++]).area};
            answered = response(0, be32(0x80000000) + be32(0) + marshalled(area));
        }
        if (commands.size() == spoiled) answered = spoil(std::move(answered));
        commands.push_back(code);
        return answered;
    }
    // TPM2_NV_Write(TPM_RH_PLATFORM, index) by the empty password; it comes in order.
    void write(const Bytes &command) {
        constexpr std::size_t kSize = 10 + 4 + 4 + 4 + 9;
        const std::size_t size = std::size_t{command.at(kSize)} << 8 | command.at(kSize + 1);
        const std::uint32_t index = static_cast<std::uint32_t>(command.at(14)) << 24 |
                                    static_cast<std::uint32_t>(command.at(15)) << 16 |
                                    static_cast<std::uint32_t>(command.at(16)) << 8 | command.at(17);
        const auto data = command.begin() + kSize + 2;
        content[index].insert(content[index].end(), data, data + static_cast<std::ptrdiff_t>(size));
    }
    // To its end, or to the error.
    Result<> go_through(Manufacture &manufacture) {
        Bytes last;
        for (;;) {
            VTPM_ASSIGN(const Bytes command, manufacture.next(last));
            if (command.empty()) return {};
            last = answer(command);
        }
    }
};

const Bytes kEntropy(32, 0xE7);

Result<Certificates> certified(const std::vector<EndorsementKey> &keys, const TpmDescription &tpm) {
    REQUIRE(keys.size() == 3);
    REQUIRE(tpm.manufacturer == "id:49424D00");
    REQUIRE(tpm.model == "SW  ");
    REQUIRE(tpm.version == "id:20191023");
    REQUIRE(tpm.revision == 164);
    return Certificates{{Bytes(700, 1), Bytes(500, 2), Bytes(10, 3)}, Bytes(20, 4)};
}

}  // namespace

TEST_CASE("a new TPM gets seeds, keys and certificates, and is shut down") {
    NewTpm tpm;
    Manufacture manufacture(kEntropy, {}, certified);
    expect(tpm.go_through(manufacture));
    constexpr std::uint32_t kKey[] = {TPM2_CC_CreatePrimary, TPM2_CC_FlushContext};
    std::vector<std::uint32_t> expected{TPM2_CC_Startup,      TPM2_CC_StirRandom,   TPM2_CC_ChangePPS,
                                        TPM2_CC_ChangeEPS,    TPM2_CC_Clear,        TPM2_CC_GetCapability,
                                        TPM2_CC_PCR_Allocate, TPM2_CC_GetCapability};
    for (int key = 0; key < 3; ++key) expected.insert(expected.end(), std::begin(kKey), std::end(kKey));
    for (const int writes : {2, 1, 1, 1}) {
        expected.push_back(TPM2_CC_NV_DefineSpace);
        for (int write = 0; write < writes; ++write) expected.push_back(TPM2_CC_NV_Write);
        expected.push_back(TPM2_CC_NV_WriteLock);
    }
    expected.push_back(TPM2_CC_Shutdown);
    REQUIRE(tpm.commands == expected);
    REQUIRE(expect(manufacture.next(response(0))).empty());  // and nothing more
}

TEST_CASE("certificates that no NV index has room for go into as many as they need") {
    constexpr std::size_t kIndex = 2048;  // of libtpms; the TPM itself: tests/integration/endorsement
    Bytes chain(2 * kIndex + 1);
    for (std::size_t i = 0; i < chain.size(); ++i) chain[i] = static_cast<std::uint8_t>(i >> 8);
    NewTpm tpm;
    Manufacture manufacture(kEntropy, {}, [&](const auto &, const auto &) -> Result<Certificates> {
        return Certificates{{Bytes(10, 1), Bytes(10, 2), Bytes(10, 3)}, chain};
    });
    expect(tpm.go_through(manufacture));
    REQUIRE(tpm.content.at(0x01c00100) == Bytes(chain.begin(), chain.begin() + kIndex));
    REQUIRE(tpm.content.at(0x01c00101) == Bytes(chain.begin() + kIndex, chain.begin() + 2 * kIndex));
    REQUIRE(tpm.content.at(0x01c00102) == Bytes(chain.end() - 1, chain.end()));
    REQUIRE(tpm.content.size() == 6);
}

TEST_CASE("a new TPM gets the PCR banks of its profile, and no other that it has") {
    const auto command = [](const std::string &banks) {
        NewTpm tpm;
        Manufacture manufacture(kEntropy, {expect(PcrBanks::parse(banks))}, nullptr);
        expect(tpm.go_through(manufacture));
        return tpm.allocate;
    };
    // TPM2_PCR_Allocate(TPM_RH_PLATFORM), by the empty password.
    const Bytes handle_and_session = be32(0x4000000C) + be32(9) + be32(0x40000009) + Bytes(5, 0);
    const auto expected = [&](std::uint8_t sha1, std::uint8_t sha256, std::uint8_t sha384) {
        return Bytes{0x80, 0x02} + be32(55) + be32(0x12B) + handle_and_session + be32(4) +
               pcr_bank(TPM2_ALG_SHA1, sha1) + pcr_bank(TPM2_ALG_SHA256, sha256) + pcr_bank(TPM2_ALG_SHA384, sha384) +
               pcr_bank(TPM2_ALG_SHA3_256, 0);
    };
    REQUIRE(command("sha256,sha384") == expected(0, 0xff, 0xff));
    REQUIRE(command("sha384") == expected(0, 0, 0xff));
    REQUIRE(command("sha1,sha256") == expected(0xff, 0xff, 0));
}

TEST_CASE("a new TPM without a bank of its profile, or without room for them, is not made") {
    NewTpm tpm;
    Manufacture lacking(kEntropy, {expect(PcrBanks::parse("sha256,sha512"))}, nullptr);
    REQUIRE_THAT(expect_error(tpm.go_through(lacking)).text, Contains("no PCR bank sha512"));
    tpm = NewTpm();
    tpm.spoiled = 6;
    tpm.spoil = [](Bytes) { return response(0, allocated(TPM2_NO)); };
    Manufacture full(kEntropy, {}, nullptr);
    REQUIRE_THAT(expect_error(tpm.go_through(full)).text, Contains("room"));
}

TEST_CASE("without a CA a new TPM gets its seeds and PCR banks only") {
    NewTpm tpm;
    Manufacture manufacture(kEntropy, {}, nullptr);
    expect(tpm.go_through(manufacture));
    REQUIRE(tpm.commands.size() == 8);
    REQUIRE(tpm.commands.back() == TPM2_CC_Shutdown);
}

TEST_CASE("a new TPM that fails a command, or answers it with too little, is not made") {
    const std::size_t all = [] {
        NewTpm tpm;
        Manufacture manufacture(kEntropy, {}, certified);
        expect(tpm.go_through(manufacture));
        return tpm.commands.size();
    }();
    for (std::size_t command = 0; command < all; ++command) {
        NewTpm tpm;
        tpm.spoiled = command;
        tpm.spoil = [](Bytes) { return response(0x101); };
        Manufacture failing(kEntropy, {}, certified);
        REQUIRE_THAT(expect_error(tpm.go_through(failing)).text, Contains("0x101"));
        tpm = NewTpm();
        tpm.spoiled = command;
        tpm.spoil = [](Bytes whole) { return Bytes(whole.begin(), whole.begin() + 9); };
        Manufacture cut(kEntropy, {}, certified);
        REQUIRE_THAT(expect_error(tpm.go_through(cut)).text, Contains("malformed"));
    }
}

TEST_CASE("what a new TPM says of itself and of its keys is taken in full or not at all") {
    static std::size_t cut;
    static std::size_t whole;
    for (const std::size_t command : {5U, 6U, 7U, 8U, 10U, 12U}) {
        whole = SIZE_MAX;
        for (cut = 10; cut < whole; ++cut) {
            NewTpm tpm;
            tpm.spoiled = command;
            tpm.spoil = [](Bytes answer) {
                whole = answer.size();
                answer.resize(cut);
                return answer;
            };
            Manufacture manufacture(kEntropy, {}, certified);
            REQUIRE(expect_error(tpm.go_through(manufacture)).code != ErrorCode::kSystem);
        }
    }
    NewTpm tpm;
    tpm.spoiled = 8;  // the RSA key
    tpm.spoil = [](Bytes answer) {
        answer.at(18 + 2 + 4 + 3) ^= 0x10;  // objectAttributes
        return answer;
    };
    Manufacture manufacture(kEntropy, {}, certified);
    REQUIRE_THAT(expect_error(tpm.go_through(manufacture)).text, Contains("default template"));
}

TEST_CASE("without signatures there is no TPM") {
    NewTpm tpm;
    Manufacture manufacture(kEntropy, {}, [](const auto &, const auto &) -> Result<Certificates> {
        return fail(ErrorCode::kUnavailable, "the CA is away");
    });
    REQUIRE(expect_error(tpm.go_through(manufacture)).code == ErrorCode::kUnavailable);
}

}  // namespace vtpm::manufacture_test
