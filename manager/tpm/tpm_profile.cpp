// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/tpm_profile.hpp"

#include <fmt/ranges.h>
#include <tss2/tss2_mu.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/big_endian.hpp"

namespace vtpm {
namespace {

struct Bank {
    std::string_view name;
    TPM2_ALG_ID algorithm;
};
constexpr std::array<Bank, 4> kBanks{
    {{"sha1", TPM2_ALG_SHA1}, {"sha256", TPM2_ALG_SHA256}, {"sha384", TPM2_ALG_SHA384}, {"sha512", TPM2_ALG_SHA512}}};
constexpr std::uint8_t kSelectSize = 3;  // 24 PCRs: of the PC Client profile

}  // namespace

const bool kAlgorithmsCanBeChosen = VTPM_CHOOSES_ALGORITHMS != 0;

bool may_be_algorithms(std::string_view text) {
    return text.size() <= kMaxAlgorithms &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-=,") == std::string_view::npos;
}

Result<PcrBanks> PcrBanks::parse(std::string_view text) {
    PcrBanks banks;
    if (text.empty()) return banks;
    for (;;) {
        const auto comma = text.find(',');
        VTPM_TRY(banks.add(text.substr(0, comma)));
        if (comma == std::string_view::npos) return banks;
        text.remove_prefix(comma + 1);
    }
}

Result<> PcrBanks::add(std::string_view name) {
    const auto *const found = std::ranges::find(kBanks, name, &Bank::name);
    if (found == kBanks.end())
        return fail(ErrorCode::kInvalid, "'{}' is not a PCR bank: sha1, sha256, sha384 or sha512", name);
    const auto bank = static_cast<std::size_t>(found - kBanks.begin());
    if (banks_.test(bank)) return fail(ErrorCode::kInvalid, "the PCR bank '{}' is there twice", name);
    banks_.set(bank);
    return {};
}

std::vector<std::string_view> PcrBanks::names() const {
    std::vector<std::string_view> names;
    for (std::size_t bank = 0; bank < kBanks.size(); ++bank)
        if (banks_.test(bank)) names.push_back(kBanks[bank].name);
    return names;
}

std::string PcrBanks::to_string() const { return fmt::format("{}", fmt::join(names(), ",")); }

// A bank that is not named keeps what it has (Part 3, 22.5): so all that there are.
Result<Bytes> PcrBanks::allocation(ByteView present) const {
    TPML_PCR_SELECTION list{};
    std::size_t consumed = 0;
    if (Tss2_MU_TPML_PCR_SELECTION_Unmarshal(present.data(), present.size(), &consumed, &list) != TSS2_RC_SUCCESS)
        return fail(ErrorCode::kRefused, "the new TPM says something malformed of its PCR banks");
    const std::span there(list.pcrSelections, list.count);
    std::bitset<kBanks.size()> missing = banks_;
    BigEndian selections;
    selections.u32(list.count);
    for (const TPMS_PCR_SELECTION &bank : there) {
        const auto *const known = std::ranges::find(kBanks, bank.hash, &Bank::algorithm);
        const auto index = static_cast<std::size_t>(known - kBanks.begin());
        const bool chosen = known != kBanks.end() && banks_.test(index);
        if (chosen) missing.reset(index);
        selections.u16(bank.hash).u8(kSelectSize).raw(Bytes(kSelectSize, chosen ? 0xff : 0));
    }
    for (std::size_t bank = 0; bank < kBanks.size(); ++bank)
        if (missing.test(bank)) return fail(ErrorCode::kRefused, "this TPM has no PCR bank {}", kBanks[bank].name);
    return selections.bytes();
}

}  // namespace vtpm
