// SPDX-License-Identifier: Apache-2.0
// An envelope from a disk that anyone may have written: only what was sealed opens.
#include "manager/groups/envelope.hpp"

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const Key key = [] {
        auto made = key_from(Bytes(kKeySize, 7));
        require(made.has_value(), "a key");
        return std::move(*made);
    }();
    static const VtpmIdentity vtpm{*Uuid::parse("00112233-4455-6677-8899-aabbccddeeff"), TpmVersion::k20, "default"};
    const ByteView input(data, size);
    require(!open_state(key, vtpm, StateKind::kPermanent, 3, input), "an envelope that was never sealed");
    require(!unwrap_key(key, vtpm, {}, input), "a key that was never wrapped");
    // The input as what is sealed, and one byte of the envelope turned.
    const auto sealed = seal_state(key, vtpm, StateKind::kPermanent, 3, input);
    if (!sealed) return 0;
    const auto opened = open_state(key, vtpm, StateKind::kPermanent, 3, *sealed);
    require(opened && std::ranges::equal(opened->view(), input), "what was sealed opens");
    Bytes damaged = *sealed;
    damaged[size % damaged.size()] ^= 1;
    require(!open_state(key, vtpm, StateKind::kPermanent, 3, damaged), "a damaged envelope");
    return 0;
}
