// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/pcr_selection.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <span>

namespace vtpm {
namespace {

TPM2_ALG_ID bank_of(std::string_view name) {
    if (name == "sha1") return TPM2_ALG_SHA1;
    if (name == "sha256") return TPM2_ALG_SHA256;
    if (name == "sha384") return TPM2_ALG_SHA384;
    if (name == "sha512") return TPM2_ALG_SHA512;
    return TPM2_ALG_NULL;
}

// "7" or "4-7".
std::from_chars_result take_range(const char *at, const char *end, std::size_t &first, std::size_t &last) {
    const auto taken = std::from_chars(at, end, first);
    last = first;
    const bool alone = taken.ec != std::errc{} || taken.ptr == end || *taken.ptr != '-';
    return alone ? taken : std::from_chars(taken.ptr + 1, end, last);
}

}  // namespace

Result<PcrSelection> PcrSelection::parse(std::string_view text) {
    PcrSelection selection;
    if (text.empty()) return selection;
    const auto invalid = [&] {
        return fail(ErrorCode::kInvalid, "'{}' is not a PCR selection such as \"sha256:7\" or \"sha256:0,2,4-7\"",
                    text);
    };
    const auto colon = text.find(':');
    selection.bank_ = bank_of(text.substr(0, colon));
    if (colon == std::string_view::npos || selection.bank_ == TPM2_ALG_NULL) return invalid();
    const char *const end = text.data() + text.size();
    for (const char *at = text.data() + colon;;) {
        std::size_t first = kPcrs;
        std::size_t last = kPcrs;
        const auto [stopped, error] = take_range(at + 1, end, first, last);
        if (error != std::errc{} || last >= kPcrs || first > last) return invalid();
        for (std::size_t pcr = first; pcr <= last; ++pcr) selection.pcrs_.set(pcr);
        if (stopped == end) break;
        if (*stopped != ',') return invalid();
        at = stopped;
    }
    selection.text_ = fmt::format("{}:{}", text.substr(0, colon), fmt::join(selection.numbers(), ","));
    return selection;
}

TPML_PCR_SELECTION PcrSelection::tpm() const {
    TPML_PCR_SELECTION list{};
    if (empty()) return list;
    list.count = 1;
    TPMS_PCR_SELECTION &bank = list.pcrSelections[0];
    bank.hash = bank_;
    bank.sizeofSelect = kPcrs / 8;
    const auto bits = static_cast<std::uint32_t>(pcrs_.to_ulong());
    for (std::size_t i = 0; i < kPcrs / 8; ++i) bank.pcrSelect[i] = static_cast<std::uint8_t>(bits >> (8 * i));
    return list;
}

TPML_PCR_SELECTION PcrSelection::only(unsigned pcr) const {
    PcrSelection one = *this;
    one.pcrs_.reset();
    one.pcrs_.set(pcr, pcrs_.test(pcr));
    return one.tpm();
}

std::vector<unsigned> PcrSelection::numbers() const {
    std::vector<unsigned> numbers;
    for (unsigned pcr = 0; pcr < kPcrs; ++pcr)
        if (pcrs_.test(pcr)) numbers.push_back(pcr);
    return numbers;
}

bool PcrSelection::within(const TPML_PCR_SELECTION &allocated) const {
    const TPML_PCR_SELECTION wanted = tpm();
    const std::span banks(allocated.pcrSelections, allocated.count);
    return empty() || std::ranges::any_of(banks, [&](const TPMS_PCR_SELECTION &bank) {
               const TPMS_PCR_SELECTION &ours = wanted.pcrSelections[0];
               bool all = bank.hash == ours.hash && bank.sizeofSelect >= ours.sizeofSelect;
               for (std::size_t i = 0; all && i < ours.sizeofSelect; ++i)
                   all = (ours.pcrSelect[i] & ~bank.pcrSelect[i]) == 0;
               return all;
           });
}

}  // namespace vtpm
