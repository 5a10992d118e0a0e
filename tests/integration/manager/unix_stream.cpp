// SPDX-License-Identifier: Apache-2.0
#include "unix_stream.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <stdexcept>

namespace unix_stream {
namespace {

constexpr int kBacklog = 8;

vtpm::UniqueFd stream() { return vtpm::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

sockaddr_un address_of(const std::string &path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

}  // namespace

vtpm::UniqueFd listen_at(const std::string &path) {
    vtpm::UniqueFd socket = stream();
    const sockaddr_un address = address_of(path);
    std::filesystem::remove(path);
    // The sockets API wants the generic type.
    if (::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), kBacklog) != 0)
        throw std::runtime_error("bind " + path);
    return socket;
}

vtpm::UniqueFd connect_to(const std::string &path) {
    vtpm::UniqueFd socket = stream();
    const sockaddr_un address = address_of(path);
    // As above.
    if (::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) return {};
    return socket;
}

}  // namespace unix_stream
