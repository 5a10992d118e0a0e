// SPDX-License-Identifier: Apache-2.0
// A hostile guest's page and event channel, against the engine's own loop and TPM in a thread of this process: what it
// changes while the engine reads it, a hundred times as often as through the daemon. The daemon attaches and detaches
// the ring at any time, the manager goes and comes. One input is the life of one engine.
#include <poll.h>

#include <optional>
#include <thread>

#include "backend/engine/engine.hpp"
#include "tests/fuzz/memory_store.hpp"
#include "tests/fuzz/stateful/hostile_page.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::uint32_t kIndex = 0x01500001;
constexpr unsigned kPcr = 10;
const Bytes kMark{'m', 'a', 'r', 'k'};

Bytes run(Tpm &tpm, ByteView command) {
    const auto response = tpm.execute(command, 0);
    require(response.has_value(), "a command is answered");
    return {response->begin(), response->end()};
}

// A new TPM that can be told from any other.
Bytes make_marked() {
    MemoryStore store(manufacture(TpmVersion::k20));
    {
        const auto tpm = Tpm::power_on(TpmVersion::k20, store.open());
        require(tpm.has_value(), "a stored TPM starts");
        require(return_code(run(**tpm, commands::nv_define(kIndex, 4))) == 0, "a TPM gets a mark");
        require(return_code(run(**tpm, commands::nv_write(kIndex, kMark))) == 0, "a TPM gets a mark");
        require((*tpm)->power_off().has_value(), "a TPM is powered off");
    }
    return store.state();
}

// An engine's loop, and the daemon's end of its control socket.
class RunningEngine {
public:
    RunningEngine(TpmVersion version, MemoryStore &store) {
        auto ends = make_seqpacket_pair();
        require(ends.has_value(), "a socket pair");
        auto tpm = Tpm::power_on(version, store.open());
        require(tpm.has_value(), "a stored TPM starts");
        control_ = std::move(ends->ours);
        thread_ = std::jthread([control = std::move(ends->theirs), tpm = std::move(*tpm)]() mutable {
            Meter meter;
            const auto ended = Engine(std::move(control), std::move(tpm), meter).run();
            require(ended.has_value(), "an engine ends when it is told to");
        });
    }

    template <typename Order>
    void tell(const Order &order, std::initializer_list<int> fds = {}) {
        require(send(control_.get(), order, fds).has_value(), "an engine takes orders");
    }
    // The next answer of that type; others come before.
    template <typename Answer>
    Answer await() {
        for (;;) {
            require(wait_readable(control_.get(), kPatience).has_value(), "an engine answers");
            std::array<std::uint8_t, kMaxSmallMessage> buffer;
            const auto received = receive_message(control_.get(), buffer);
            require(received && received->size > 0, "an engine does not go by itself");
            if (const auto answer = decode<Answer>(ByteView(buffer).first(received->size))) return *answer;
        }
    }

private:
    std::jthread thread_;
    UniqueFd control_;  // closed first: the order to end
};

class Life {
public:
    Life(TpmVersion version, const Bytes &state, ByteView input) : version_(version), store_(state), input_(input) {}

    void live() {
        {
            RunningEngine engine(version_, store_);
            engine_ = &engine;
            attach();
            while (!input_.empty()) step();
            engine_ = nullptr;
        }
        if (version_ == TpmVersion::k20) check_mark();
    }

private:
    void step() {
        const std::uint8_t number = input_.byte();
        if (number < 208) return act();
        if (number < 228) return await_quiet();
        if (number < 236) return use_tpm();
        if (number < 244) return detach();
        if (number < 254) return attach();
        if (input_.below(16) == 0) restart_manager();
    }

    void act() {
        ++steps_done;
        page_.act(input_);
    }
    // All orders have been obeyed, and what had been rung before has been served.
    void await_quiet() {
        engine_->tell(AskStatus{});
        const auto status = engine_->await<EngineStatus>();
        require((status.event_channel != 0) == attached_, "an engine knows whether it has a ring");
        require(status.state_channel == ErrorCode::kNone, "it can store");
    }
    void attach() {
        ++steps_done;
        const OpenedRing ring = page_.guest.ring();
        const AttachRing order{.transport = Transport::kLoopback, .ring_ref = 8, .event_channel = 9};
        engine_->tell(order, {ring.fds[0].get(), ring.fds[1].get(), ring.fds[2].get()});
        attached_ = true;
        if (input_.below(2) == 0)
            require(engine_->await<RingAttached>().code == ErrorCode::kNone, "a ring is attached");
    }
    // In the middle of a command, or of anything.
    void detach() {
        ++steps_done;
        engine_->tell(DetachRing{});
        attached_ = false;
        if (input_.below(2) == 0) (void)engine_->await<RingDetached>();
    }
    void use_tpm() {
        if (!attached_) return;
        ++steps_done;
        const bool extend = input_.below(4) == 0;
        const Bytes response =
            page_.exchange(extend ? commands::pcr_extend(kPcr, input_.byte()) : commands::pcr_read(kPcr),
                           [this](const std::function<bool()> &done) { return wait(done); });
        require(!response.empty(), "a guest is answered");
        if (return_code(response) != 0) return;
        if (extend)
            extended_ = true;
        else
            require(!extended_ || commands::pcr_value(response) != Bytes(32, 0), "no PCR is zero again");
    }
    bool wait(const std::function<bool()> &done) {
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (!done()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            pollfd rung{page_.guest.fd(), POLLIN, 0};
            eventfd_t count = 0;
            if (::poll(&rung, 1, 50) > 0) (void)::eventfd_read(page_.guest.fd(), &count);
        }
        return true;
    }
    // Perhaps while a command's change is to be stored.
    void restart_manager() {
        ++steps_done;
        store_.close();
        for (std::size_t i = input_.below(8); i > 0; --i) act();
        const UniqueFd channel = store_.open_socket();
        engine_->tell(ReplaceStateChannel{}, {channel.get()});
        while (engine_->await<StateChannelStatus>().code != ErrorCode::kNone) {}
    }

    void check_mark() {
        MemoryStore again(store_.state());
        const auto tpm = Tpm::power_on(version_, again.open());
        require(tpm.has_value(), "what was stored starts");
        require(commands::nv_data(run(**tpm, commands::nv_read(kIndex, 4))) == kMark, "and is the same TPM");
    }

    TpmVersion version_;
    MemoryStore store_;
    Input input_;
    HostilePage page_;
    RunningEngine *engine_ = nullptr;
    bool attached_ = false;
    bool extended_ = false;
};

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const Bytes tpm20 = make_marked();
    static const Bytes tpm12 = manufacture(TpmVersion::k12);
    if (size == 0) return 0;
    const bool is_12 = data[0] % 8 == 7;
    Life(is_12 ? TpmVersion::k12 : TpmVersion::k20, is_12 ? tpm12 : tpm20, {data + 1, size - 1}).live();
    return 0;
}
