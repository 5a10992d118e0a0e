// SPDX-License-Identifier: Apache-2.0
#include "backend/device/admission.hpp"

namespace vtpm {

Result<Beginning> admit(std::uint32_t domain, const Result<DomainFacts> &facts,
                        const std::optional<Result<DomainFacts>> &other) {
    if (!facts) return tl::make_unexpected(facts.error());
    // In a soft reset the toolstack takes the TPM away and gives it again, and the guest's kernel goes on.
    if (facts->has_run && facts->paused)
        return fail(ErrorCode::kRefused,
                    "domain {} has run and is paused: after a soft reset it would go on with zero PCRs; if it was "
                    "paused by hand, attach the vTPM when it runs",
                    domain);
    const bool restored = !facts->has_run && facts->incarnation.number > 1;
    const Beginning beginning = restored ? Beginning::kResume : Beginning::kPowerOn;
    if (!other) return beginning;
    const Result<DomainFacts> &former = *other;
    // After a save that domain may have gone while its engine still stores.
    const bool has_gone = !former && former.error().code == ErrorCode::kNotFound;
    if (!former && !has_gone) return tl::make_unexpected(former.error());
    // In a migration a restored domain comes before the suspended one, whose memory it has, goes.
    const bool is_source = has_gone || (former->suspended && former->incarnation.domain == facts->incarnation.domain);
    if (restored && is_source) return beginning;
    if (has_gone)
        return fail(ErrorCode::kUnavailable, "the TPM of the guest that was here before is still being stored");
    return fail(ErrorCode::kInUse, "{}", kRunsElsewhere);
}

}  // namespace vtpm
