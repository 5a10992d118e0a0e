// SPDX-License-Identifier: Apache-2.0
#include "tpm_proxy.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "shared-protocol/tpm_message.hpp"
#include "unix_stream.hpp"

using namespace vtpm;

namespace {

constexpr std::size_t kHeader = TPM_MESSAGE_HEADER_SIZE;
constexpr std::size_t kMaxMessage = 8192;

bool receive(int socket, Bytes &into, std::size_t size) {
    while (into.size() < size) {
        std::uint8_t buffer[kMaxMessage];
        const ssize_t got = ::recv(socket, buffer, size - into.size(), 0);
        if (got <= 0) return false;
        into.insert(into.end(), buffer, buffer + got);
    }
    return true;
}

// A whole command or response; empty: the peer is gone.
Bytes receive(int socket) {
    Bytes message;
    if (!receive(socket, message, kHeader)) return {};
    const std::size_t size = tpm_size(message);
    if (size < kHeader || size > kMaxMessage || !receive(socket, message, size)) return {};
    return message;
}

bool send_all(int socket, ByteView message) {
    return ::send(socket, message.data(), message.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(message.size());
}

}  // namespace

TpmProxy::TpmProxy(std::string tpm, std::string path)
    : tpm_(std::move(tpm)),
      path_(std::move(path)),
      listener_(unix_stream::listen_at(path_)),
      end_(::eventfd(0, EFD_CLOEXEC)) {
    std::filesystem::create_symlink(tpm_ + ".ctrl", path_ + ".ctrl");
    thread_ = std::thread([this] { run(); });
}

TpmProxy::~TpmProxy() {
    const std::uint64_t one = 1;
    (void)!::write(end_.get(), &one, sizeof one);
    thread_.join();
}

void TpmProxy::set(Fates fates) {
    const std::lock_guard lock(mutex_);
    fates_ = std::move(fates);
}

std::vector<TSS2_RC> TpmProxy::take_answers() {
    const std::lock_guard lock(mutex_);
    return std::exchange(answers_, {});
}

void TpmProxy::run() {
    std::map<int, UniqueFd> clients;
    for (;;) {
        std::vector<pollfd> polled{{end_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
        for (const auto &[fd, client] : clients) polled.push_back({fd, POLLIN, 0});
        if (::poll(polled.data(), polled.size(), -1) < 0) continue;
        if (polled[0].revents != 0) return;
        for (std::size_t i = 2; i < polled.size(); ++i) {
            if (polled[i].revents != 0 && !serve(polled[i].fd)) clients.erase(polled[i].fd);
        }
        if (polled[1].revents == 0) continue;
        UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const int fd = client.get();
        if (client) clients.emplace(fd, std::move(client));
    }
}

// One command. False: the connection is to end.
bool TpmProxy::serve(int client) {
    const Bytes command = receive(client);
    if (command.empty()) return false;
    Fate fate;
    {
        const std::lock_guard lock(mutex_);
        if (fates_) fate = fates_(tpm_code(command), command);
    }
    for (const Bytes &other : fate.before) ask(other);
    Bytes response = fate.answer ? tpm_message(kTpmNoSessions, *fate.answer) : ask(command);
    if (response.empty()) return false;
    if (fate.change) fate.change(response);
    {
        const std::lock_guard lock(mutex_);
        answers_.push_back(tpm_code(response));
    }
    if (fate.lost) flush_all();
    return !fate.lost && send_all(client, response);
}

// Of the TPM; empty: it is away.
Bytes TpmProxy::ask(ByteView command) {
    if (!upstream_) upstream_ = unix_stream::connect_to(tpm_);
    if (!upstream_) return {};
    Bytes response = send_all(upstream_.get(), command) ? receive(upstream_.get()) : Bytes();
    if (response.empty()) upstream_ = {};
    return response;
}

std::vector<std::uint32_t> TpmProxy::handles(std::uint32_t first) {
    const Bytes response = ask(tpm_message(kTpmNoSessions, TPM2_CC_GetCapability,
                                           BigEndian().u32(TPM2_CAP_HANDLES).u32(first).u32(64).bytes()));
    std::vector<std::uint32_t> found;
    // moreData, capability and count come before the handles.
    for (std::size_t at = kHeader + 9; at + 4 <= response.size(); at += 4)
        found.push_back(static_cast<std::uint32_t>(big_endian(ByteView(response).subspan(at, 4))));
    return found;
}

void TpmProxy::flush_all() {
    for (const std::uint32_t first : {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST})
        for (const std::uint32_t handle : handles(first))
            ask(tpm_message(kTpmNoSessions, TPM2_CC_FlushContext, BigEndian().u32(handle).bytes()));
}

Bytes extend(std::uint32_t pcr) {
    const Bytes digest(TPM2_SHA256_DIGEST_SIZE, 'x');
    return tpm_message(kTpmSessions, TPM2_CC_PCR_Extend,
                       BigEndian().u32(pcr).raw(empty_password()).u32(1).u16(TPM2_ALG_SHA256).raw(digest).bytes());
}
