// SPDX-License-Identifier: Apache-2.0
#include "swtpm.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <stdexcept>

namespace {

vtpm::UniqueFd listen_on(const std::string &path) {
    vtpm::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    std::filesystem::remove(path);
    // The sockets API wants the generic type.
    if (::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 8) != 0)
        throw std::runtime_error("bind " + path);
    return socket;
}

Launch launch(const std::string &directory, int data, int control) {
    return {{"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + directory, "--server",
             fmt::format("type=unixio,fd={}", data), "--ctrl", fmt::format("type=unixio,fd={}", control), "--flags",
             "not-need-init,startup-clear", "--log", "file=" + directory + "/log"},
            {},
            {data, control}};
}

}  // namespace

Swtpm::Swtpm(const std::string &directory)
    : path_(directory + "/tpm"),
      data_((std::filesystem::create_directories(directory), listen_on(path_))),
      control_(listen_on(path_ + ".ctrl")),
      process_(launch(directory, data_.get(), control_.get())) {}
