// SPDX-License-Identifier: Apache-2.0
#include "manager/store/records.hpp"

#include <algorithm>

namespace vtpm {

Bytes envelope_tag(ByteView envelope) {
    constexpr std::size_t kTag = 16;
    const ByteView tag = envelope.last(std::min(kTag, envelope.size()));
    return {tag.begin(), tag.end()};
}

void apply(const StateWrite &write, VtpmRecord &vtpm) {
    const bool permanent = write.kind == StateKind::kPermanent;
    (permanent ? vtpm.sequence : vtpm.volatile_sequence) = write.sequence;
    (permanent ? vtpm.tag : vtpm.volatile_tag) = envelope_tag(write.envelope);
    if (permanent) vtpm.volatile_tag.clear();
    if (!write.endorsement.empty()) vtpm.endorsement = write.endorsement;
    if (!write.power_on) return;
    vtpm.event_log_digest = write.power_on->event_log_digest;
    vtpm.guest = write.power_on->guest;
    vtpm.last_used = write.power_on->time;
}

}  // namespace vtpm
