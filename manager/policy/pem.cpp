// SPDX-License-Identifier: Apache-2.0
#include "manager/policy/pem.hpp"

#include <algorithm>

namespace vtpm {

std::string_view pem_label(std::string_view text) {
    constexpr std::string_view kBegin = "-----BEGIN ";
    constexpr std::size_t kMaxLabel = 40;
    const auto begin = text.find(kBegin);
    if (begin == std::string_view::npos) return {};
    text.remove_prefix(begin + kBegin.size());
    const std::string_view label = text.substr(0, text.find("-----"));
    // It goes into error texts: nothing but the letters that labels are made of.
    const bool good = label.size() <= kMaxLabel && std::ranges::all_of(label, [](char c) {
                          return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ';
                      });
    return good ? label : std::string_view();
}

int no_passphrase(char *, int, int, void *asked) noexcept {
    if (asked != nullptr) *static_cast<bool *>(asked) = true;
    return -1;
}

}  // namespace vtpm
