// SPDX-License-Identifier: Apache-2.0
// What a TPM 2.0 is made with, for good: it stands in the vTPM's row of the inventory, and no later configuration
// changes it.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

// The hash algorithms of which a TPM keeps its PCRs.
class PcrBanks {
public:
    // "sha256,sha384", in any order; "" is none. kInvalid: one that is unknown, or said twice.
    static Result<PcrBanks> parse(std::string_view text);
    // Likewise of one.
    Result<> add(std::string_view name);

    [[nodiscard]] bool empty() const { return banks_.none(); }
    [[nodiscard]] std::vector<std::string_view> names() const;
    // The one text of these banks.
    [[nodiscard]] std::string to_string() const;
    // What makes TPM2_PCR_Allocate of a TPM that has `present` banks, as TPM2_GetCapability(TPM_CAP_PCRS) tells it:
    // both are a marshalled TPML_PCR_SELECTION. All PCRs of ours, none of the others. kRefused: it is malformed, or
    // lacks one.
    [[nodiscard]] Result<Bytes> allocation(ByteView present) const;

private:
    std::bitset<4> banks_;  // in the order of kBanks
};

// Whether this build's libtpms can make a TPM with some algorithms only (0.10 and later).
extern const bool kAlgorithmsCanBeChosen;
constexpr std::size_t kMaxAlgorithms = 500;
// Whether `text` might be a list of algorithms; it is libtpms that judges it.
bool may_be_algorithms(std::string_view text);

struct TpmProfile {
    PcrBanks pcr_banks = *PcrBanks::parse("sha256,sha384");  // of a TPM 1.2: none
    std::string algorithms{};  // and key sizes, as libtpms names them: "rsa,rsa-min-size=2048,..."; empty: all
};

}  // namespace vtpm
