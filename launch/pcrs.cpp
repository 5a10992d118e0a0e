// SPDX-License-Identifier: Apache-2.0
#include "launch/pcrs.hpp"

namespace vtpm::launch {

std::vector<Extend> extends_of(const Events &events) {
    std::vector<Extend> extends;
    for (const Event &event : events)
        if (event.type != EventType::kNoAction) extends.push_back({event.pcr, event.digests});
    return extends;
}

Result<Bytes> extended(ByteView value, ByteView digest, Hash bank) {
    VTPM_ASSIGN(Hasher hasher, Hasher::begin({bank}));
    VTPM_TRY(hasher.add(value));
    VTPM_TRY(hasher.add(digest));
    VTPM_ASSIGN(Digests digests, hasher.end());
    return std::move(digests[bank]);
}

Result<PcrBank> pcrs_after(const Events &events, Hash bank) {
    PcrBank values;
    for (const Extend &extend : extends_of(events)) {
        const auto digest = extend.digests.find(bank);
        if (digest == extend.digests.end())
            return fail(ErrorCode::kInvalid, "an event has no digest of {}", name_of(bank));
        Bytes &value = values.try_emplace(extend.pcr, digest_size(bank)).first->second;
        VTPM_ASSIGN(value, extended(value, digest->second, bank));
    }
    return values;
}

}  // namespace vtpm::launch
