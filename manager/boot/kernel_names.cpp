// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/kernel_names.hpp"

#include <algorithm>

namespace vtpm {
namespace {

constexpr std::string_view kKernel = "vmlinuz-";
constexpr std::string_view kOfVersion = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+~_-";

// Where several of `from` fit, the longest: one version may be the beginning of another.
std::string replaced(std::string_view text, const std::vector<std::string> &from, const std::vector<std::string> &to) {
    std::string out;
    while (!text.empty()) {
        std::size_t best = from.size();
        for (std::size_t i = 0; i < from.size(); ++i)
            if (text.starts_with(from[i]) && (best == from.size() || from[i].size() > from[best].size())) best = i;
        const std::size_t size = best == from.size() ? 1 : from[best].size();
        out += best == from.size() ? text.substr(0, 1) : std::string_view(to[best]);
        text.remove_prefix(size);
    }
    return out;
}

}  // namespace

std::vector<std::string> kernel_versions(std::string_view text) {
    std::vector<std::string> versions;
    for (std::size_t at = text.find(kKernel); at != std::string_view::npos; at = text.find(kKernel, at)) {
        at += kKernel.size();
        std::string version(text.substr(at, std::min(text.find_first_not_of(kOfVersion, at), text.size()) - at));
        if (!version.empty() && std::ranges::find(versions, version) == versions.end())
            versions.push_back(std::move(version));
    }
    return versions;
}

std::string Renaming::forward(std::string_view text) const { return replaced(text, then, now); }
std::string Renaming::backward(std::string_view text) const { return replaced(text, now, then); }

}  // namespace vtpm
