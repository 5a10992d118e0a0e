// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/recovery_key.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "base/bytes.hpp"

namespace vtpm {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::size_t kCheckSize = 3;
constexpr std::size_t kCharacters = (kKeySize + kCheckSize) * 8 / 5;
constexpr std::size_t kWord = 4;
using KeyAndCheck = Secret<kKeySize + kCheckSize>;

// Tells a slip of the pen from a key of something else; nobody who guesses is helped by it.
KeyAndCheck with_check(const Key &key) {
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest;
    SHA256(key.view().data(), key.view().size(), digest.data());
    KeyAndCheck both;
    const auto end = std::ranges::copy(key.view(), both.writable().begin()).out;
    std::copy_n(digest.begin(), kCheckSize, end);
    return both;
}

// -1: none.
int value_of(char c) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (c == 'O') c = '0';
    if (c == 'I' || c == 'L') c = '1';
    const auto at = kAlphabet.find(c);
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

tl::unexpected<Error> mistyped(std::string_view how) {
    return fail(ErrorCode::kInvalid, "this is not a recovery key as it was given out: {}", how);
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

// What `xen-vtpm --json group recovery-key` printed.
std::string_view key_in_json(std::string_view text) {
    constexpr std::string_view kField = "\"recovery_key\"";
    const auto field = text.find(kField);
    if (field == std::string_view::npos) return {};
    text.remove_prefix(field + kField.size());
    const auto begin = text.find('"');
    if (begin == std::string_view::npos) return {};
    text.remove_prefix(begin + 1);
    return text.substr(0, text.find('"'));
}

// Without comments. The text that xen-vtpm printed once had an empty line, and then words.
std::string_view key_in_lines(std::string_view text) {
    const auto line = [&] { return text.substr(0, text.find('\n')); };
    const auto next = [&] { text.remove_prefix(std::min(text.size(), line().size() + 1)); };
    while (!text.empty() && (is_blank(line()) || line().starts_with('#'))) next();
    const std::string_view key = text;
    while (!text.empty() && !is_blank(line()) && !line().starts_with('#')) next();
    return key.substr(0, key.size() - text.size());
}

std::string associated(const std::string &group) { return "xen-vtpm recovery 1, group " + group; }

}  // namespace

std::string recovery_text(const Key &recovery_key) {
    const KeyAndCheck bytes = with_check(recovery_key);
    std::string text;
    text.reserve(kCharacters + kCharacters / kWord);
    for (std::size_t character = 0; character < kCharacters; ++character) {
        if (character != 0 && character % kWord == 0) text += '-';
        unsigned value = 0;
        for (std::size_t bit = 5 * character; bit < 5 * (character + 1); ++bit)
            value = value << 1 | (bytes.view()[bit / 8] >> (7 - bit % 8) & 1U);
        text += kAlphabet[value];
    }
    return text;
}

Result<Key> recovery_key_from(std::string_view text) {
    text = key_in_lines(text);
    if (text.starts_with('{')) text = key_in_json(text);
    KeyAndCheck bytes;
    std::size_t bit = 0;
    for (const char c : text) {
        if (std::string_view("- \t\r\n").find(c) != std::string_view::npos) continue;
        const int value = value_of(c);
        if (value < 0) return mistyped("it has a character that such keys have not");
        for (int shift = 4; shift >= 0; --shift, ++bit) {
            if (bit >= 8 * bytes.view().size()) return mistyped("it is too long");
            bytes.writable()[bit / 8] |= static_cast<std::uint8_t>((value >> shift & 1) << (7 - bit % 8));
        }
    }
    if (bit != 8 * bytes.view().size()) return mistyped("it is too short");
    VTPM_ASSIGN(Key key, key_from(bytes.view().first(kKeySize)));
    if (!std::ranges::equal(with_check(key).view(), bytes.view())) return mistyped("a character is wrong");
    return key;
}

Result<Bytes> wrap_for_recovery(const Key &recovery_key, const std::string &group, const Key &group_key) {
    return encrypt(recovery_key, bytes_of(associated(group)), group_key.view());
}

Result<Key> unwrap_for_recovery(const Key &recovery_key, const std::string &group, ByteView wrapped) {
    const auto plaintext = decrypt(recovery_key, bytes_of(associated(group)), wrapped);
    if (!plaintext)
        return fail(ErrorCode::kRefused, "this is not the recovery key of group '{}', or no longer: {}", group,
                    plaintext.error().text);
    return key_from(plaintext->view());
}

}  // namespace vtpm
