// SPDX-License-Identifier: Apache-2.0
#include "backend/launch_records.hpp"

#include "launch/event_log.hpp"

namespace vtpm {

static_assert(kMaxLaunchLog == launch::kMaxLog, "what is sent is what is read");

// That it has not run is asked last: what runs later was created with the files that were measured.
Result<> LaunchRecords::record(RecordLaunch launch) {
    VTPM_TRY(launch::read_event_log(launch.log));
    VTPM_ASSIGN(const DomainFacts facts, domains_.ask(launch.domain));
    if (facts.has_run)
        return fail(ErrorCode::kRefused, "domain {} runs already: its launch is recorded before that", launch.domain);
    if (!records_.contains(launch.domain) && records_.size() >= kMost) forget_gone();
    if (!records_.contains(launch.domain) && records_.size() >= kMost)
        return fail(ErrorCode::kShortage, "there are {} recorded launches already, of guests without a TPM", kMost);
    records_[launch.domain] = {facts.incarnation.domain, std::move(launch.log)};
    return {};
}

const Bytes *LaunchRecords::find(std::uint32_t domain, const Uuid &handle) const {
    const auto found = records_.find(domain);
    return found != records_.end() && found->second.handle == handle ? &found->second.log : nullptr;
}

void LaunchRecords::forget_gone() {
    std::erase_if(records_, [this](const auto &record) {
        const auto facts = domains_.ask(record.first);
        if (!facts) return facts.error().code == ErrorCode::kNotFound;
        return facts->incarnation.domain != record.second.handle;
    });
}

}  // namespace vtpm
