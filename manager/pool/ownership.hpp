// SPDX-License-Identifier: Apache-2.0
// A vTPM runs once in the pool: where its owner's record says, and only while that host's session lasts.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/uuid.hpp"
#include "manager/pool/heard.hpp"
#include "manager/pool/next_claim.hpp"
#include "manager/pool/session.hpp"

namespace vtpm::pool {

// What a vTPM begins from on this host.
struct Opened {
    Nonce opening{};
    Value permanent;
    // Given once: it is durably gone from the store before it is here.
    Value what_it_knew;
};

// Goes after the session, whose answers come to it.
class Ownership {
public:
    Ownership(Session &session, Heard &heard, Now now, MakeNonce nonce, Timing timing)
        : session_(session), heard_(heard), now_(std::move(now)), nonce_(std::move(nonce)), timing_(timing) {}

    // Takes `vtpm`, from whoever cannot serve it any more. kInUse: it runs on another host, which the text names, with
    // the time after which that one may be taken for dead; nothing was changed, and it is the caller's to ask again.
    // One at a time for each vTPM.
    void open(const Uuid &vtpm, std::function<void(const Result<Opened> &)> done);

    // Gives it back, with what goes along, if anything. One that is not this session's: kRefused.
    void close(const Uuid &vtpm, const Value &permanent, const Value &what_it_knew, Settled done);

    // Of one that is open here. No other host can have it meanwhile: the session sees to that.
    void store(const Uuid &vtpm, const Bytes &permanent, Settled done);

    // In another session of this host: goes on with a vTPM whose engine still runs here, since `opening`. kRefused:
    // another host has had it meanwhile, the engine must not serve again.
    void keep(const Uuid &vtpm, const Nonce &opening, std::function<void(const Result<> &)> done);

    // Frees one that is this host's by its record though no engine of it is here: what a restart or a fence cut off in
    // the middle of opening or closing it. Of another host's, or a free one, nothing is changed.
    void abandon(const Uuid &vtpm, std::function<void(const Result<> &)> done);

    // Fences a host that has been silent for long enough; kInUse before.
    void fence(const std::string &host, Settled done);

    [[nodiscard]] bool has(const Uuid &vtpm) const { return owned_.contains(vtpm); }

private:
    struct Opening;

    void claim(const std::shared_ptr<Opening> &opening);
    void take(const std::shared_ptr<Opening> &opening, const std::string &fenced);
    void taken(const std::shared_ptr<Opening> &opening, const OwnerRecord &mine, const Answer &answer);
    void ask(const std::shared_ptr<Opening> &opening, const std::string &host);
    // What the store has for an owner.
    void look(const Uuid &vtpm, std::function<void(const Result<std::optional<OwnerRecord>> &)> done);
    void learn(const std::shared_ptr<Opening> &opening, const Values &values);

    Session &session_;
    Heard &heard_;
    Now now_;
    MakeNonce nonce_;
    Timing timing_;
    std::map<Uuid, Bytes> owned_;  // the owner's record of each that is open here
};

}  // namespace vtpm::pool
