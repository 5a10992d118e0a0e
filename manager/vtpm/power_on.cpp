// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/power_on.hpp"

#include <iterator>

#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm {
namespace {

constexpr std::uint32_t kPcrExtend = 0x182;  // TPM_CC_PCR_Extend
constexpr std::uint32_t kExtend12 = 0x14;    // TPM_ORD_Extend

launch::Banks banks_of(const VtpmRecord &vtpm) {
    if (vtpm.version == TpmVersion::k12) return {launch::Hash::kSha1};
    launch::Banks banks;
    for (const std::string_view name : vtpm.profile.pcr_banks.names())
        if (const auto bank = launch::hash_named(name)) banks.push_back(*bank);
    return banks;
}

Result<launch::Events> events_of_launch(const VtpmRecord &vtpm, ByteView log, const launch::Banks &banks) {
    if (vtpm.launch == LaunchPolicy::kOff) return launch::Events();
    if (log.empty()) {
        VTPM_TRY(may_be_unmeasured(vtpm));
        return launch::unmeasured_events(banks);
    }
    VTPM_ASSIGN(const launch::EventLog recorded, launch::read_event_log(log));
    VTPM_ASSIGN(launch::EventLog here, launch::in_banks(recorded, banks));
    return std::move(here.events);
}

// By the PCR's empty password.
Bytes extend_20(const launch::Extend &extend) {
    BigEndian digests;
    digests.number(extend.digests.size(), 4);
    for (const auto &[bank, digest] : extend.digests) digests.u16(static_cast<std::uint16_t>(bank)).raw(digest);
    const BigEndian rest = BigEndian().u32(extend.pcr).raw(empty_password()).raw(digests.bytes());
    return tpm_message(kTpmSessions, kPcrExtend, rest.bytes());
}

Bytes extend_12(const launch::Extend &extend) {
    const BigEndian rest = BigEndian().u32(extend.pcr).raw(extend.digests.at(launch::Hash::kSha1));
    return tpm_message(kTpm12Request, kExtend12, rest.bytes());
}

void append(Bytes &out, const Bytes &bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

}  // namespace

Result<> may_be_unmeasured(const VtpmRecord &vtpm) {
    if (vtpm.launch != LaunchPolicy::kRequire) return {};
    return fail(ErrorCode::kRefused,
                "vTPM {} is for guests whose launch was measured, and nobody measured what this one boots: its "
                "configuration needs bootloader = \"xen-vtpm-launch\", and the guest is to be started anew",
                vtpm.uuid.to_string());
}

Result<PowerOnEvents> power_on_events(const VtpmRecord &vtpm, const PcrValues &host_pcrs, ByteView launch) {
    launch::EventLog log{banks_of(vtpm), {}};
    for (const auto &[pcr, value] : host_pcrs) {
        VTPM_ASSIGN(launch::Event event, launch::host_event(pcr, value, log.banks));
        log.events.push_back(std::move(event));
    }
    VTPM_ASSIGN(launch::Events launched, events_of_launch(vtpm, launch, log.banks));
    std::ranges::move(launched, std::back_inserter(log.events));
    const bool is_20 = vtpm.version == TpmVersion::k20;
    PowerOnEvents all;
    if (is_20 && !log.events.empty()) {
        VTPM_ASSIGN(all.event_log, launch::write_event_log(log));
        append(all.commands, tpm_message(kTpmNoSessions, kGiveEventLog, all.event_log));
    }
    for (const launch::Extend &extend : launch::extends_of(log.events))
        append(all.commands, is_20 ? extend_20(extend) : extend_12(extend));
    return all;
}

}  // namespace vtpm
