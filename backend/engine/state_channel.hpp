// SPDX-License-Identifier: Apache-2.0
// The engine's end of its connection with the manager: loads and stores the state of this one vTPM, and what else it
// needs the manager for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "base/unique_fd.hpp"
#include "shared-protocol/messages.hpp"

namespace vtpm {

class ManagerChannel {
public:
    struct Loaded {
        std::uint64_t sequence = 0;
        bool is_new = false;  // the inventory says that nothing was ever stored
        SecretBytes state;
        std::string algorithms{};  // of a new one; empty: all
    };

    explicit ManagerChannel(UniqueFd socket);
    ManagerChannel(ManagerChannel &&) = default;
    ManagerChannel &operator=(ManagerChannel &&) = default;
    ManagerChannel(const ManagerChannel &) = delete;
    ManagerChannel &operator=(const ManagerChannel &) = delete;
    ~ManagerChannel();

    Result<Loaded> load(StateKind kind);
    // The next command of a new TPM's manufacture, or of what issues its certificates again, after `response` to the
    // former; empty: it is done.
    Result<Bytes> manufacture(ByteView response);
    // What the host does to this TPM at a power-on.
    struct PowerOnOrder {
        bool reissue_first = false;   // manufacture() leads to new certificates
        std::vector<Bytes> commands;  // to be executed after its start-up
        Bytes event_log;              // of what they extend; empty: there is none
    };
    Result<PowerOnOrder> power_on();
    // An attestation with this nonce. kUnavailable: there is none yet; anything else: there is none to be had.
    Result<Bytes> attest(ByteView nonce);
    // Returns when the state is durable, with its sequence number. After kUnavailable nobody knows whether it was
    // stored: the channel is then closed, and stays so.
    Result<std::uint64_t> store(StateKind kind, ByteView state);

    [[nodiscard]] bool is_open() const { return static_cast<bool>(socket_); }
    // Closes it if the manager has: nothing else would tell before the next request.
    void look();

private:
    template <typename Answer, typename Request>
    Result<Answer> ask(const Request &request, std::chrono::milliseconds limit);

    UniqueFd socket_;
    // Not touched beyond the largest message so far: an idle engine costs no memory for it.
    std::unique_ptr<std::uint8_t[]> buffer_;
};

}  // namespace vtpm
