// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/tpm_answer.hpp"

#include <tss2/tss2_tpm2_types.h>

#include <map>
#include <vector>

#include "expect.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm::tpm_answer_test {

namespace {

using enum TpmAnswer;

const std::map<TpmAnswer, std::vector<TSS2_RC>> kOfTheTpm{
    {kDone, {TPM2_RC_SUCCESS}},
    {kBusy, {TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_CANCELED, TPM2_RC_TESTING, TPM2_RC_NV_RATE}},
    {kVoid, {TPM2_RC_PCR_CHANGED,    TPM2_RC_CONTEXT_GAP,  TPM2_RC_TOO_MANY_CONTEXTS, TPM2_RC_OBJECT_MEMORY,
             TPM2_RC_SESSION_MEMORY, TPM2_RC_MEMORY,       TPM2_RC_SESSION_HANDLES,   TPM2_RC_OBJECT_HANDLES,
             TPM2_RC_REFERENCE_H0,   TPM2_RC_REFERENCE_H1, TPM2_RC_REFERENCE_H2,      TPM2_RC_REFERENCE_H3,
             TPM2_RC_REFERENCE_H4,   TPM2_RC_REFERENCE_H5, TPM2_RC_REFERENCE_H6,      TPM2_RC_REFERENCE_S0,
             TPM2_RC_REFERENCE_S1,   TPM2_RC_REFERENCE_S2, TPM2_RC_REFERENCE_S3,      TPM2_RC_REFERENCE_S4,
             TPM2_RC_REFERENCE_S5,   TPM2_RC_REFERENCE_S6}},
    {kNotNow,
     {TPM2_RC_INITIALIZE, TPM2_RC_REBOOT, TPM2_RC_UPGRADE, TPM2_RC_NEEDS_TEST, TPM2_RC_NV_UNAVAILABLE,
      TPM2_RC_LOCKOUT}},
    {kUnauthorized, {TPM2_RC_AUTH_FAIL, TPM2_RC_BAD_AUTH, TPM2_RC_NV_AUTHORIZATION}},
    {kPolicyFails, {TPM2_RC_POLICY_FAIL, TPM2_RC_POLICY, TPM2_RC_POLICY_CC, TPM2_RC_EXPIRED}},
    {kForeign, {TPM2_RC_INTEGRITY, TPM2_RC_BINDING}},
    {kClosed, {TPM2_RC_HIERARCHY, TPM2_RC_DISABLED}},
    {kNoRoom, {TPM2_RC_NV_SPACE}},
    {kAbsent, {TPM2_RC_HANDLE}},
    {kUnwritten, {TPM2_RC_NV_UNINITIALIZED}},
    {kFault,
     {TPM2_RC_FAILURE, TPM2_RC_VALUE, TPM2_RC_SIZE, TPM2_RC_NONCE, TPM2_RC_COMMAND_CODE, TPM2_RC_LOCALITY,
      TPM2_RC_NV_DEFINED, TPM2_RC_SENSITIVE, TPM2_RC_TICKET}},
};

const std::map<TpmAnswer, std::vector<TSS2_RC>> kOfTheTss{
    {kDone, {TSS2_RC_SUCCESS}},
    {kVoid,
     {TSS2_BASE_RC_IO_ERROR, TSS2_BASE_RC_NO_CONNECTION, TSS2_BASE_RC_TRY_AGAIN, TSS2_BASE_RC_BAD_SEQUENCE,
      TSS2_BASE_RC_MALFORMED_RESPONSE, TSS2_BASE_RC_INSUFFICIENT_RESPONSE}},
    {kNotNow, {TSS2_BASE_RC_NOT_PERMITTED}},
    {kFault,
     {TSS2_BASE_RC_GENERAL_FAILURE, TSS2_BASE_RC_BAD_VALUE, TSS2_BASE_RC_MEMORY, TSS2_BASE_RC_BAD_TR,
      TSS2_BASE_RC_RSP_AUTH_FAILED}},
};

// As the TPM numbers the parameter, the handle or the session that a format-one code is about.
std::vector<TSS2_RC> numbered(TSS2_RC code) {
    std::vector<TSS2_RC> codes{code};
    if ((code & TPM2_RC_FMT1) == 0) return codes;
    for (TSS2_RC number = TPM2_RC_1; number <= TPM2_RC_F; number += TPM2_RC_1) {
        codes.push_back(code | number);  // handles to 7, sessions from 8
        codes.push_back(code | TPM2_RC_P | number);
    }
    return codes;
}

int calls_until(std::vector<TSS2_RC> answers, TSS2_RC last) {
    std::size_t calls = 0;
    answers.push_back(last);
    REQUIRE(with_retry([&] { return answers.at(calls++); }) == last);
    return static_cast<int>(calls);
}

}  // namespace

TEST_CASE("a response code means the same from the TPM and through a resource manager, whatever it is about") {
    for (const auto &[meaning, codes] : kOfTheTpm)
        for (const TSS2_RC code : codes)
            for (const TSS2_RC rc : numbered(code)) {
                CAPTURE(code, rc);
                REQUIRE(plain_code(rc) == code);
                REQUIRE(answer(rc) == meaning);
                REQUIRE(answer(TSS2_RESMGR_TPM_RC_LAYER | rc) == meaning);
                if (rc != TPM2_RC_SUCCESS) REQUIRE(answer(TSS2_RESMGR_RC_LAYER | rc) == meaning);
            }
}

TEST_CASE("an error of the TSS means the same in every layer") {
    for (const auto &[meaning, codes] : kOfTheTss)
        for (const TSS2_RC code : codes)
            for (const TSS2_RC layer :
                 {TSS2_ESAPI_RC_LAYER, TSS2_SYS_RC_LAYER, TSS2_TCTI_RC_LAYER, TSS2_MU_RC_LAYER, TSS2_RESMGR_RC_LAYER}) {
                CAPTURE(code, layer);
                if (code != TSS2_RC_SUCCESS) REQUIRE(answer(layer | code) == meaning);
            }
}

TEST_CASE("every answer has its kind of error, and only what is void passes by beginning anew") {
    const std::map<TpmAnswer, ErrorCode> errors{
        {kBusy, ErrorCode::kUnavailable},     {kVoid, ErrorCode::kUnavailable},    {kNotNow, ErrorCode::kUnavailable},
        {kUnauthorized, ErrorCode::kRefused}, {kPolicyFails, ErrorCode::kRefused}, {kForeign, ErrorCode::kRefused},
        {kClosed, ErrorCode::kRefused},       {kNoRoom, ErrorCode::kRefused},      {kAbsent, ErrorCode::kNotFound},
        {kUnwritten, ErrorCode::kNotFound},   {kFault, ErrorCode::kSystem}};
    for (const auto &[meaning, code] : errors) {
        const Error error = tpm_failure(kOfTheTpm.at(meaning).front(), "TPM2_Unseal").value();
        REQUIRE(error.code == code);
        REQUIRE(error.passing == (meaning == kVoid));
    }
    REQUIRE_THAT(tpm_failure(TPM2_RC_LOCKOUT, "TPM2_Load").value().text,
                 Contains("tpm2_dictionarylockout --clear-lockout"));
}

TEST_CASE("a busy TPM is asked the same again, and nothing else is") {
    REQUIRE(calls_until({TPM2_RC_RETRY, TPM2_RC_NV_RATE, TPM2_RC_TESTING}, TSS2_RC_SUCCESS) == 4);
    REQUIRE(calls_until({}, TPM2_RC_BAD_AUTH) == 1);
    REQUIRE(calls_until({}, TPM2_RC_PCR_CHANGED) == 1);
    REQUIRE(calls_until({TPM2_RC_YIELDED}, TPM2_RC_NV_UNAVAILABLE) == 2);
}

TEST_CASE("an operation whose beginning became void begins anew, and no other") {
    const auto attempts_at = [](TSS2_RC first) {
        int attempts = 0;
        (void)from_the_beginning([&]() -> Result<> {
            if (++attempts < 3) return tpm_failure(first, "TPM2_Unseal");
            return {};
        });
        return attempts;
    };
    REQUIRE(attempts_at(TPM2_RC_PCR_CHANGED) == 3);
    REQUIRE(attempts_at(TSS2_TCTI_RC_IO_ERROR) == 3);
    REQUIRE(attempts_at(TPM2_RC_RETRY) == 1);
    REQUIRE(attempts_at(TPM2_RC_NV_UNAVAILABLE) == 1);
    REQUIRE(attempts_at(TPM2_RC_POLICY_FAIL) == 1);
}

TEST_CASE("patience ends") {
    Patience patience(std::chrono::milliseconds(100));  // 20 and 40 ms, and then 80 would be too much
    int waits = 0;
    while (patience.wait()) ++waits;
    REQUIRE(waits <= 2);  // on a machine that is busy each may last longer
}

}  // namespace vtpm::tpm_answer_test
