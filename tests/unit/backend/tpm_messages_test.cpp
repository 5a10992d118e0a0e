// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/tpm_messages.hpp"

#include "tests/catch.hpp"

#include "shared-protocol/tpm_message.hpp"
#include "tests/fakes/tpm_commands.hpp"

namespace vtpm {

TEST_CASE("commands that stand one after the other are told apart") {
    const Bytes one = commands::get_random();
    const Bytes two = commands::pcr_extend(7, 1);
    Bytes all = one;
    all.insert(all.end(), two.begin(), two.end());
    CHECK(split_commands({}).value().empty());
    CHECK(split_commands(one).value() == std::vector<Bytes>{one});
    CHECK(split_commands(all).value() == std::vector<Bytes>{one, two});
}

TEST_CASE("a list of commands that is not whole is refused") {
    const Bytes one = commands::get_random();
    Bytes two = one;
    two.insert(two.end(), one.begin(), one.end());
    for (std::size_t size = 1; size < two.size(); ++size) {
        INFO(size);
        CHECK(split_commands(ByteView(two).first(size)).has_value() == (size == one.size()));
    }
    for (const std::uint8_t length : Bytes{0, 9, 11, 13}) {
        Bytes wrong = one;
        wrong.at(TPM_MESSAGE_SIZE_OFFSET + 3) = length;
        CHECK_FALSE(split_commands(wrong));
    }
    Bytes huge = one;
    huge.at(TPM_MESSAGE_SIZE_OFFSET) = 0xff;
    CHECK_FALSE(split_commands(huge));
}

TEST_CASE("only commands that say nothing of Clock are answered before it is stored") {
    const auto may_tell = [](std::uint32_t code) { return may_tell_clock(tpm_message(kTpmNoSessions, code)); };
    // TPM2_PCR_Extend, PCR_Read, PCR_Event, GetRandom, GetCapability, FlushContext.
    for (const std::uint32_t code : {0x182, 0x17E, 0x13C, 0x17B, 0x17A, 0x165}) CHECK_FALSE(may_tell(code));
    // TPM2_ReadClock, Quote, GetTime, Certify, PolicyCounterTimer, PolicySigned, NV_Certify; and what nobody knows.
    for (const std::uint32_t code : {0x181, 0x158, 0x14C, 0x148, 0x16D, 0x160, 0x184, 0x1FF}) CHECK(may_tell(code));
}

TEST_CASE("Clock is read from an answer that is whole and a success") {
    const auto answer = [](std::uint32_t code, std::uint8_t safe) {
        return tpm_message(kTpmNoSessions, code,
                           BigEndian().number(1, 8).number(0x0102030405060708, 8).u32(3).u32(4).u8(safe).bytes());
    };
    CHECK(clock_in(answer(0, 0)).value == 0x0102030405060708);
    CHECK_FALSE(clock_in(answer(0, 0)).safe);
    CHECK(clock_in(answer(0, 1)).safe);
    CHECK(clock_in(answer(0x101, 0)).safe);
    const Bytes whole = answer(0, 0);
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK(clock_in(ByteView(whole).first(size)).safe);
    CHECK(set_clock_command(0xFFFF'0000'0000'0000));
    CHECK_FALSE(set_clock_command(0xFFFF'0000'0000'0001));
}

TEST_CASE("a TPM 1.2 is enabled if its flags say so, whole") {
    const auto flags = [](std::uint8_t disable, std::uint8_t deactivated) {
        return tpm_message(kTpm12Response, 0, BigEndian().u32(22).u16(0x1F).u8(disable).u8(1).u8(deactivated).bytes());
    };
    CHECK(is_enabled_12(flags(0, 0)));
    CHECK_FALSE(is_enabled_12(flags(1, 0)));
    CHECK_FALSE(is_enabled_12(flags(0, 1)));
    const Bytes whole = flags(0, 0);
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(is_enabled_12(ByteView(whole).first(size)));
    CHECK_FALSE(is_enabled_12(tpm_message(kTpm12Response, 9, Bytes(20, 0))));
}

TEST_CASE("a failed try is TPM_RC_AUTH_FAIL, whichever session it was") {
    const auto answered = [](std::uint32_t code) { return is_failed_try(tpm_message(kTpmNoSessions, code)); };
    for (const std::uint32_t code : {0x08EU, 0x98EU, 0xA8EU, 0x18EU, 0x1CEU}) CHECK(answered(code));
    for (const std::uint32_t code : {0U, 0x9A2U, 0x921U, 0x922U, 0x98FU, 0x10EU, 0x101U}) CHECK_FALSE(answered(code));
    CHECK_FALSE(is_failed_try({}));
}

}  // namespace vtpm
