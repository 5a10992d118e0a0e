// SPDX-License-Identifier: Apache-2.0
#include "manager/crypto/pem.hpp"

#include <fmt/format.h>
#include <openssl/pem.h>

#include <algorithm>

#include "manager/crypto/encoding.hpp"
#include "manager/crypto/openssl.hpp"

namespace vtpm {

std::string_view pem_label(std::string_view text) {
    constexpr std::size_t kMaxLabel = 40;
    const auto begin = text.find(kPemBegin);
    if (begin == std::string_view::npos) return {};
    text.remove_prefix(begin + kPemBegin.size());
    const std::string_view label = text.substr(0, text.find("-----"));
    // It goes into error texts: nothing but the letters that labels are made of.
    const bool good = label.size() <= kMaxLabel && std::ranges::all_of(label, [](char c) {
                          return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ';
                      });
    return good ? label : std::string_view();
}

std::optional<PemBlock> first_pem_block(std::string_view text) {
    const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    char *name = nullptr;
    char *headers = nullptr;
    std::uint8_t *data = nullptr;
    long size = 0;
    if (!bio || PEM_read_bio(bio.get(), &name, &headers, &data, &size) != 1) return std::nullopt;
    PemBlock block{*headers != '\0', Bytes(data, data + size)};
    OPENSSL_free(name);
    OPENSSL_free(headers);
    OPENSSL_free(data);
    return block;
}

std::string to_pem(std::string_view label, ByteView der) {
    constexpr std::size_t kLine = 64;
    const std::string text = to_base64(der);
    std::string lines;
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(std::min(kLine, rest.size())))
        lines.append(rest.substr(0, kLine)).push_back('\n');
    return fmt::format("{}{}-----\n{}-----END {}-----\n", kPemBegin, label, lines, label);
}

int no_passphrase(char *, int, int, void *asked) noexcept {
    if (asked != nullptr) *static_cast<bool *>(asked) = true;
    return -1;
}

}  // namespace vtpm
