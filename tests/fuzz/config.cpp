// SPDX-License-Identifier: Apache-2.0
// A configuration: what is taken keeps the rules, and what is not says where it is wrong.
#include "manager/config.hpp"

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    const auto config = parse_config({reinterpret_cast<const char *>(data), size}, "manager.toml");  // bytes as text
    if (!config) {
        require(config.error().code == ErrorCode::kInvalid, "a wrong configuration is the administrator's fault");
        require(config.error().text.starts_with("manager.toml:"), "and is found by its file");
        return 0;
    }
    const auto numbers = config->host_pcrs.numbers();
    require(std::ranges::all_of(numbers, [](unsigned pcr) { return pcr <= 15; }), "guests can reset the others");
    require(config->sealing == Sealing::kTpm || numbers.empty(), "PCRs of a TPM that is not used");
    require(may_be_algorithms(config->profile.algorithms), "algorithms are as they are written");
    require(PcrBanks::parse(config->profile.pcr_banks.to_string()).has_value(), "banks are as they are written");
    return 0;
}
