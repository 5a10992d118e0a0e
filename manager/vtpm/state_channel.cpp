// SPDX-License-Identifier: Apache-2.0
#include "manager/vtpm/state_channel.hpp"

#include <ctime>

#include "base/log.hpp"
#include "manager/ca/endorsement.hpp"
#include "manager/groups/manifest.hpp"
#include "manager/vtpm/non_blocking.hpp"
#include "manager/vtpm/stored_state.hpp"

namespace vtpm {

Result<UniqueFd> StateChannel::start() {
    VTPM_ASSIGN(SocketPair pair, make_seqpacket_pair());
    VTPM_TRY(make_non_blocking(pair.ours.get()));
    socket_ = std::move(pair.ours);
    VTPM_ASSIGN(readable_, services_.loop.on_readable(socket_.get(), [this] { on_readable(); }));
    return std::move(pair.theirs);
}

void StateChannel::on_readable() {
    const auto received = receive_message(socket_.get(), services_.buffer.writable());
    const Result<> handled = received ? handle(received->size) : tl::make_unexpected(received.error());
    // Plain text. Of what was too large, as much as there is room for was received.
    wipe(services_.buffer.writable().first(received ? received->size : kMaxMessage));
    if (!handled) close(handled.error());  // destroys *this
}

Result<> StateChannel::handle(std::size_t size) {
    if (size == 0) return fail(ErrorCode::kUnavailable, "the engine closed it");
    if (pending_ || step_ || measuring_)
        return fail(ErrorCode::kInvalid, "a request before the answer to the one before");
    return handle(services_.buffer.view().first(size));
}

Result<> StateChannel::handle(ByteView message) {
    if (message_type(message) == LoadState::kType) {
        VTPM_ASSIGN(const LoadState request, decode<LoadState>(message));
        return load(request.kind);
    }
    if (message_type(message) == ManufactureStep::kType) {
        VTPM_ASSIGN(const ManufactureStep request, decode<ManufactureStep>(message));
        return manufacture(request.response);
    }
    if (message_type(message) == AskAttestation::kType) {
        VTPM_ASSIGN(const AskAttestation request, decode<AskAttestation>(message));
        return attest(request.nonce);
    }
    if (message_type(message) == PowerOn::kType) {
        VTPM_TRY(decode<PowerOn>(message));
        return power_on();
    }
    VTPM_ASSIGN(const StoreState request, decode<StoreState>(message));
    return store(request);
}

Result<> StateChannel::attest(ByteView nonce) {
    const auto attestation = services_.attestations.ask(vtpm_.uuid, nonce);
    GiveAttestation answer;
    if (attestation) {
        answer.attestation = bytes_of(*attestation);
    } else {
        answer.code = attestation.error().code;
        answer.text = attestation.error().text;
    }
    return send(answer);
}

struct StateChannel::Step {
    SecretBytes response;
    std::shared_ptr<TpmDialogue> dialogue;
    Result<Bytes> command = Bytes();
};

// Nobody but the manager and the engine has touched a TPM without a state: what it says of its keys is true. Of another
// one it is not asked: its row has its keys.
Result<> StateChannel::manufacture(ByteView response) {
    const bool begins = response.empty();
    if (vtpm_.version != TpmVersion::k20 || (!is_new() && begins && !std::exchange(may_reissue_, false)))
        return fail(ErrorCode::kInvalid, "this TPM was made long ago");
    if (!begins && !dialogue_) return fail(ErrorCode::kInvalid, "a response to no command");
    if (begins) outdated_ = false;
    step_ = std::make_shared<Step>();
    if (!begins) {
        step_->response = SecretBytes(response);
        step_->dialogue = dialogue_;
    }
    // If we are gone by then, nobody wants it any more.
    const auto job = [weak = std::weak_ptr(step_), &authorities = services_.authorities, vtpm = vtpm_] {
        if (const auto step = weak.lock()) step->command = next_command(*step, authorities, vtpm);
    };
    services_.worker.run(job, [this, weak = std::weak_ptr(step_)] {
        if (weak.lock()) manufactured();  // otherwise we are gone
    });
    return {};
}

Result<Bytes> StateChannel::next_command(Step &step, CertificateAuthorities &authorities, const VtpmRecord &vtpm) {
    if (!step.dialogue && vtpm.sequence == 0) {
        VTPM_ASSIGN(step.dialogue, authorities.manufacture(vtpm));
    } else if (!step.dialogue) {
        VTPM_ASSIGN(step.dialogue, authorities.reissue(vtpm));
    }
    return step.dialogue->next(step.response.view());
}

void StateChannel::manufactured() {
    const auto step = std::exchange(step_, nullptr);
    dialogue_ = step->command ? step->dialogue : nullptr;
    ManufactureCommand answer;
    if (step->command) {
        answer.command = *step->command;
    } else {
        answer.code = step->command.error().code;
        answer.text = step->command.error().text;
        if (is_new())
            log::error("vTPM {} is not made: {}", vtpm_.uuid.to_string(), answer.text);
        else
            not_reissued(*step, answer.text);
    }
    if (const auto sent = send(answer); !sent) close(sent.error());  // destroys *this
}

void StateChannel::not_reissued(const Step &step, std::string_view why) {
    const std::string uuid = vtpm_.uuid.to_string();
    std::string until = "its next power-on";
    if (step.dialogue) {
        services_.reissues.remember(vtpm_.uuid);
        until = fmt::format("a power-on {} minutes from now, or later", FailedReissues::kPause.count());
    }
    log::error(
        "vTPM {} keeps the certificates that it has, until {}: {}; to take the order back: xen-vtpm reissue "
        "--withdraw {}",
        uuid, until, why, uuid);
}

void StateChannel::issue_again() {
    const auto &dialogue = step_ && step_->dialogue ? step_->dialogue : dialogue_;
    if (!dialogue || dialogue->endorsement().empty()) return;
    outdated_ = true;
    if (pending_ && !pending_->write.endorsement.empty())
        pending_->write.endorsement = encode_endorsement({dialogue->endorsement(), true});
    log::info("vTPM {}: its certificates were signed before that was said: they are issued again at its next power-on",
              vtpm_.uuid.to_string());
}

// Once: an engine that was taken over does not keep the hardware TPM busy.
Result<> StateChannel::power_on() {
    if (std::exchange(powered_on_, true)) return fail(ErrorCode::kInvalid, "this TPM is on already");
    // A guest that was saved is started anew instead: it can be restored no more.
    if (!vtpm_.volatile_tag.empty()) VTPM_TRY(end_volatile_state());
    may_reissue_ = vtpm_.version == TpmVersion::k20 && !is_new() && awaits_reissue(vtpm_.endorsement) &&
                   !services_.reissues.is_to_pause(vtpm_.uuid);
    if (auto approved = services_.approvals.require_approved(vtpm_, launch_); !approved)
        return answer_power_on(tl::make_unexpected(approved.error()));
    if (services_.host_pcrs.empty()) return answer_power_on(power_on_events(vtpm_, {}, launch_));
    measuring_ = std::make_shared<bool>();
    services_.host_pcrs.measure([this, weak = std::weak_ptr(measuring_)](const Result<PcrValues> &values) {
        if (weak.lock()) measured(values);  // otherwise we are gone
    });
    return {};
}

std::string_view StateChannel::first_of_all() const { return may_reissue_ ? PowerOnCommands::kReissueFirst : ""; }

void StateChannel::measured(const Result<PcrValues> &host_pcrs) {
    measuring_.reset();
    const Result<PowerOnEvents> events = host_pcrs ? power_on_events(vtpm_, *host_pcrs, launch_)
                                                   : Result<PowerOnEvents>(tl::make_unexpected(host_pcrs.error()));
    if (const auto sent = answer_power_on(events); !sent) close(sent.error());  // destroys *this
}

Result<> StateChannel::answer_power_on(const Result<PowerOnEvents> &events) {
    launch_ = {};
    PowerOnCommands answer;
    answer.text = first_of_all();
    if (events) {
        answer.commands = events->commands;
        power_on_ = {events->event_log.empty() ? Bytes() : digest_of(events->event_log), guest_, std::time(nullptr)};
    } else {
        answer.code = events.error().code;
        answer.text = events.error().text;
        log::error("vTPM {} is not powered on: {}", vtpm_.uuid.to_string(), answer.text);
    }
    return send(answer);
}

Result<> StateChannel::load(StateKind kind) {
    const auto state = stored_state(kind);
    LoadedState answer;
    answer.sequence = vtpm_.sequence_of(kind);
    if (state) {
        answer.state = state->view();
    } else {
        answer.code = state.error().code;
        answer.text = state.error().text;
        answer.algorithms = vtpm_.profile.algorithms;
        if (answer.code != ErrorCode::kNotFound) log::error("{}", answer.text);
    }
    return send(answer);
}

Result<SecretBytes> StateChannel::stored_state(StateKind kind) {
    VTPM_ASSIGN(SecretBytes state, open_stored_state(services_.store, vtpm_, key_, kind));
    // Before it is given away: a volatile state that came up twice would be a rollback of the guest's PCRs.
    if (kind == StateKind::kVolatile) VTPM_TRY(end_volatile_state());
    return state;
}

Result<> StateChannel::end_volatile_state() {
    VTPM_TRY(services_.inventory.end_volatile_state(vtpm_));
    vtpm_.volatile_tag.clear();
    return {};
}

Result<> StateChannel::store(const StoreState &request) {
    const std::uint64_t sequence = vtpm_.sequence_of(request.kind) + 1;
    VTPM_ASSIGN(Bytes envelope, seal_state(key_, identity(), request.kind, sequence, request.state));
    pending_ = std::make_shared<PendingStore>();
    pending_->write = {vtpm_.uuid, vtpm_.group, request.kind, sequence, std::move(envelope)};
    // With the state that has them in NV, and not before: that ends the order to issue them.
    if (dialogue_ && dialogue_->is_done())
        pending_->write.endorsement = encode_endorsement({dialogue_->endorsement(), outdated_});
    if (request.kind == StateKind::kPermanent) pending_->write.power_on = power_on_;
    pending_->done = [this](const Result<> &written) { stored(written); };
    return services_.commit.add(pending_);
}

Result<Bytes> StateChannel::pending_under(const Key &next) const {
    if (!pending_) return Bytes();
    const StateWrite &write = pending_->write;
    VTPM_ASSIGN(const SecretBytes state, open_state(key_, identity(), write.kind, write.sequence, write.envelope));
    return seal_state(next, identity(), write.kind, write.sequence, state.view());
}

void StateChannel::change_key(Key next, const VtpmRecord &row, Bytes pending) {
    key_ = std::move(next);
    vtpm_.wrapped_key = row.wrapped_key;
    vtpm_.tag = row.tag;
    vtpm_.volatile_tag = row.volatile_tag;
    if (pending_) pending_->write.envelope = std::move(pending);
}

void StateChannel::stored(const Result<> &written) {
    const StateWrite write = std::move(std::exchange(pending_, nullptr)->write);
    if (written) apply(write, vtpm_);
    if (written && write.power_on) power_on_.reset();
    if (written && !write.endorsement.empty()) log::info("vTPM {} has its certificates", vtpm_.uuid.to_string());
    if (written) dialogue_.reset();
    if (const auto sent = answer_stored(written, write.sequence); !sent) close(sent.error());  // destroys *this
}

Result<> StateChannel::answer_stored(const Result<> &written, std::uint64_t sequence) {
    StoredState answer;
    answer.sequence = written ? sequence : sequence - 1;
    if (!written) {
        answer.code = ErrorCode::kStoreFailed;
        answer.text = written.error().text;
    }
    return send(answer);
}

template <typename Message>
Result<> StateChannel::send(const Message &message) {
    const ByteView encoded = encode(message, services_.buffer.writable());
    require(!encoded.empty(), "the buffer takes every message");
    auto sent = send_message(socket_.get(), encoded);
    wipe(services_.buffer.writable().first(encoded.size()));
    return sent;
}

void StateChannel::close(const Error &cause) {
    if (cause.code == ErrorCode::kUnavailable)
        log::info("vTPM {}: state channel closed: {}", vtpm_.uuid.to_string(), cause.text);
    else
        log::warning("vTPM {}: state channel closed by us: {}", vtpm_.uuid.to_string(), cause.text);
    const auto on_closed = std::move(on_closed_);
    on_closed();
}

}  // namespace vtpm
