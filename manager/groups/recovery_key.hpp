// SPDX-License-Identifier: Apache-2.0
// A group's key under another one that is kept off the machine, on paper or in a vault: for the day on which the
// hardware TPM is gone. It is a key of 256 random bits, not a password: no guessing, no derivation.
#pragma once

#include <string>
#include <string_view>

#include "manager/crypto/cipher.hpp"

namespace vtpm {

// 14 words of four characters (Crockford's base 32: no I, L, O, U), the last three bytes being a check.
std::string recovery_text(const Key &recovery_key);
// In either case, with or without its dashes and spaces, O for 0, I and L for 1; as it was typed, or in a file that
// xen-vtpm printed: lines that begin with a '#', and what comes after an empty line, are words. kInvalid: mistyped.
Result<Key> recovery_key_from(std::string_view text);

Result<Bytes> wrap_for_recovery(const Key &recovery_key, const std::string &group, const Key &group_key);
// kRefused: another recovery key, or of another group.
Result<Key> unwrap_for_recovery(const Key &recovery_key, const std::string &group, ByteView wrapped);

}  // namespace vtpm
