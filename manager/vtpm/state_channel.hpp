// SPDX-License-Identifier: Apache-2.0
// One engine's way to its vTPM: load and store its state, be made, be attested, and nothing else. Holding the other end
// is the permission. Requests are answered in order, one at a time; whoever breaks the protocol loses the channel.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>

#include "base/event_loop.hpp"
#include "base/seqpacket.hpp"
#include "manager/groups/certificate_authorities.hpp"
#include "manager/groups/envelope.hpp"
#include "manager/groups/worker.hpp"
#include "manager/store/store.hpp"
#include "manager/vtpm/group_commit.hpp"
#include "manager/vtpm/guest_attestations.hpp"
#include "manager/vtpm/host_pcrs.hpp"
#include "manager/vtpm/launch_approvals.hpp"
#include "manager/vtpm/power_on.hpp"

namespace vtpm {

// Which vTPMs' certificates could not be issued again lately, though they were signed: each time costs the hardware TPM
// some signatures, and what a guest has in its NV decides whether they find a place.
class FailedReissues {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::minutes kPause{10};

    void remember(const Uuid &vtpm, Clock::time_point now = Clock::now()) { failed_[vtpm] = now; }
    void forget(const Uuid &vtpm) { failed_.erase(vtpm); }
    [[nodiscard]] bool is_to_pause(const Uuid &vtpm, Clock::time_point now = Clock::now()) const {
        const auto found = failed_.find(vtpm);
        return found != failed_.end() && now - found->second < kPause;
    }

private:
    std::map<Uuid, Clock::time_point> failed_;
};

// What all channels share.
struct StateServices {
    EventLoop &loop;
    Store &store;
    Inventory &inventory;
    GroupCommit &commit;
    CertificateAuthorities &authorities;
    HostPcrs &host_pcrs;
    Worker &worker;
    GuestAttestations &attestations;
    const LaunchApprovals &approvals;
    FailedReissues reissues{};
    // A message in the making or just received, in plain text: wiped after each use. One thread, so one is enough.
    SecretBytes buffer{kMaxMessage};
};

class StateChannel {
public:
    // `launch` and `guest`: as in OpenVtpm. `on_closed` destroys the channel.
    StateChannel(StateServices &services, VtpmRecord vtpm, Key key, ByteView launch, std::string guest,
                 std::function<void()> on_closed)
        : services_(services),
          vtpm_(std::move(vtpm)),
          key_(std::move(key)),
          launch_(launch.begin(), launch.end()),
          guest_(std::move(guest)),
          on_closed_(std::move(on_closed)) {}

    // The end for the engine.
    Result<UniqueFd> start();
    // Its key becomes another, between two turns. First what waits for its commit as it is under that; empty: nothing
    // does. Then, with the row whose states are under the new key, and that.
    [[nodiscard]] Result<Bytes> pending_under(const Key &next) const;
    void change_key(Key next, const VtpmRecord &row, Bytes pending);
    void set_launch(const VtpmRecord &row) {
        vtpm_.launch = row.launch;
        vtpm_.launch_approver = row.launch_approver;
        vtpm_.launch_binding = row.launch_binding;
        vtpm_.wrapped_key = row.wrapped_key;
    }
    void set_alias(const std::string &alias) { vtpm_.alias = alias; }
    // What its certificates are to be is decided, and not yet stored.
    [[nodiscard]] bool is_issuing() const { return dialogue_ || step_; }
    // What is being issued was signed before its group's CA, or the certificate of that, became another.
    void issue_again();

private:
    struct Step;
    [[nodiscard]] bool is_new() const { return vtpm_.sequence == 0; }
    // In the worker.
    static Result<Bytes> next_command(Step &step, CertificateAuthorities &authorities, const VtpmRecord &vtpm);
    void on_readable();
    Result<> handle(std::size_t size);  // of what is in the buffer
    Result<> handle(ByteView message);
    Result<> load(StateKind kind);
    Result<SecretBytes> stored_state(StateKind kind);
    Result<> end_volatile_state();
    Result<> manufacture(ByteView response);
    void manufactured();
    void not_reissued(const Step &step, std::string_view why);
    Result<> attest(ByteView nonce);
    Result<> power_on();
    void measured(const Result<PcrValues> &host_pcrs);
    Result<> answer_power_on(const Result<PowerOnEvents> &events);
    [[nodiscard]] std::string_view first_of_all() const;
    Result<> store(const StoreState &request);
    void stored(const Result<> &written);
    Result<> answer_stored(const Result<> &written, std::uint64_t sequence);
    template <typename Message>
    Result<> send(const Message &message);
    void close(const Error &cause);
    [[nodiscard]] VtpmIdentity identity() const { return {vtpm_.uuid, vtpm_.version, vtpm_.group}; }

    StateServices &services_;
    VtpmRecord vtpm_;
    Key key_;
    Bytes launch_;                           // until its power-on
    std::string guest_;                      // its name
    std::optional<PowerOnRecord> power_on_;  // since then, until it is stored
    std::function<void()> on_closed_;
    UniqueFd socket_;
    EventSource readable_;
    // Of a TPM that has no state yet, or whose certificates are issued again, and the step that is not answered yet.
    // The worker's jobs share them: the channel may be closed meanwhile.
    std::shared_ptr<TpmDialogue> dialogue_;
    std::shared_ptr<Step> step_;
    bool may_reissue_ = false;  // once, at its power-on
    bool outdated_ = false;     // what is being issued is by a CA that the group has no more
    bool powered_on_ = false;
    std::shared_ptr<bool> measuring_;        // while the host's PCRs are read for it
    std::shared_ptr<PendingStore> pending_;  // a store that is not answered yet
};

}  // namespace vtpm
