// SPDX-License-Identifier: Apache-2.0
// A recovery key as someone typed it, and what it is said to open.
#include "manager/groups/recovery_key.hpp"

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    const auto same = [](const Key &one, const Key &other) { return std::ranges::equal(one.view(), other.view()); };
    if (const auto typed = recovery_key_from({reinterpret_cast<const char *>(data), size})) {  // bytes as text
        const auto again = recovery_key_from(recovery_text(*typed));
        require(again && same(*again, *typed), "a key has one text");
    }
    if (size < kKeySize) return 0;
    const auto key = key_from({data, kKeySize});
    require(key.has_value(), "any 32 bytes are a key");
    const auto read = recovery_key_from(recovery_text(*key));
    require(read && same(*read, *key), "what is written is read");
    const ByteView rest(data + kKeySize, size - kKeySize);
    require(!unwrap_for_recovery(*key, "default", rest), "a key that was never wrapped");
    auto wrapped = wrap_for_recovery(*key, "default", *key);
    require(wrapped.has_value(), "a key is wrapped");
    require(!unwrap_for_recovery(*key, "other", *wrapped), "a key of another group");
    const auto unwrapped = unwrap_for_recovery(*key, "default", *wrapped);
    require(unwrapped && same(*unwrapped, *key), "what was wrapped is unwrapped");
    (*wrapped)[size % wrapped->size()] ^= 1;
    require(!unwrap_for_recovery(*key, "default", *wrapped), "a damaged key");
    return 0;
}
