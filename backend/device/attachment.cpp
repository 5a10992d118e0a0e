// SPDX-License-Identifier: Apache-2.0
#include "backend/device/attachment.hpp"

#include <utility>

#include "backend/device/admission.hpp"
#include "backend/device/retry.hpp"
#include "base/log.hpp"

namespace vtpm {

Attachment::Attachment(DeviceServices &services, DeviceId id, DeviceNotes notes)
    : services_(services),
      id_(id),
      notes_(std::move(notes)),
      first_seen_(std::chrono::steady_clock::now()),
      beginning_(notes_.has(DeviceNotes::kRestored) ? Beginning::kResume : Beginning::kPowerOn),
      launched_(notes_.has(DeviceNotes::kLaunched)),
      self_(std::make_shared<Attachment *>(this)) {}

Result<> Attachment::ask(const std::optional<Uuid> &uuid, Answer answer) {
    const auto facts = services_.domains.ask(id_.domain);
    VTPM_ASSIGN(beginning_, admitted(uuid, facts));
    const Bytes *const launch = recorded_launch(*facts);
    launched_ = launch != nullptr;
    services_.manager.prepare(
        *uuid, beginning_, launch != nullptr ? ByteView(*launch) : ByteView(),
        [weak = std::weak_ptr(self_), answer = std::move(answer)](const Result<ManagedVtpm> &allowed) {
            if (weak.lock()) answer(allowed ? Result<>() : tl::make_unexpected(allowed.error()));
        });
    return {};
}

Result<Beginning> Attachment::admitted(const std::optional<Uuid> &uuid, const Result<DomainFacts> &facts) const {
    if (!uuid) return fail(ErrorCode::kInvalid, "its uuid is missing or malformed");
    const auto other = services_.runs_elsewhere(*uuid, id_);
    return admit(id_.domain, facts, other ? std::optional(services_.domains.ask(other->domain)) : std::nullopt);
}

// Null: there is none, or the domain ran already.
const Bytes *Attachment::recorded_launch(const DomainFacts &facts) const {
    return facts.has_run ? nullptr : services_.launches.find(id_.domain, facts.incarnation.domain);
}

// Another guest's TPM does not go soon enough.
bool Attachment::may_change(const Error &error) const {
    return passes(error.code) && error.code != ErrorCode::kInUse &&
           std::chrono::steady_clock::now() - first_seen_ < limits::kAttach;
}

bool Attachment::note(const Xenstore::Seen &seen) {
    return notes_.set(DeviceNotes::kRestored, beginning_ == Beginning::kResume, seen) &&
           notes_.set(DeviceNotes::kLaunched, launched_, seen);
}

Result<ByteView> Attachment::launch() const {
    if (!launched_) return ByteView();
    VTPM_ASSIGN(const DomainFacts facts, services_.domains.ask(id_.domain));
    const Bytes *log = services_.launches.find(id_.domain, facts.incarnation.domain);
    if (log != nullptr) return ByteView(*log);
    log::error("device {}: the record of its guest's launch is lost: its TPM says that nobody measured it",
               to_string(id_));
    return ByteView();
}

}  // namespace vtpm
