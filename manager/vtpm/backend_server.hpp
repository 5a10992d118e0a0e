// SPDX-License-Identifier: Apache-2.0
// The socket on which the backend asks for vTPMs (PrepareVtpm, OpenVtpm; docs/protocol.md).
#pragma once

#include <map>
#include <string>

#include "base/event_loop.hpp"
#include "base/seqpacket.hpp"
#include "manager/vtpm/vtpms.hpp"

namespace vtpm {

class BackendServer {
public:
    BackendServer(EventLoop &loop, Vtpms &vtpms) : loop_(loop), vtpms_(vtpms) {}
    Result<> listen(const std::string &path);

private:
    struct Connection {
        UniqueFd socket;
        EventSource readable;
    };
    void accept();
    void pause();
    Result<> resume();
    Result<> add(UniqueFd socket);
    void on_readable(int fd);
    Result<> handle(int fd);
    Result<> prepare(int fd, ByteView message);
    Result<> open(int fd, ByteView message);

    EventLoop &loop_;
    Vtpms &vtpms_;
    UniqueFd listener_;
    EventSource acceptable_;
    std::map<int, Connection> connections_;  // by descriptor
    Bytes buffer_ = Bytes(kMaxRequest);      // of the request that is handled
};

}  // namespace vtpm
