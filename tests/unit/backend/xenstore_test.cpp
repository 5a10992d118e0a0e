// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/xenstore.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include "tests/catch.hpp"

#include "base/unique_fd.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace vtpm {
namespace {

// As much of xenstored as answers each request with the same error, and goes after so many.
class DyingXenstored {
public:
    explicit DyingXenstored(int requests) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
        listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0);
        REQUIRE(::listen(listener_.get(), 1) == 0);
        REQUIRE(::setenv("XENSTORED_PATH", path_.c_str(), 1) == 0);
        server_ = std::thread([this, requests] { serve(requests); });
    }
    ~DyingXenstored() {
        server_.join();
        (void)::unsetenv("XENSTORED_PATH");
        std::filesystem::remove(path_);
    }
    DyingXenstored(const DyingXenstored &) = delete;
    DyingXenstored &operator=(const DyingXenstored &) = delete;

private:
    void serve(int requests) const {
        const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        xsd_sockmsg header{};
        std::array<char, 4096> body{};
        for (; requests > 0; --requests) {
            if (::recv(client.get(), &header, sizeof header, MSG_WAITALL) != sizeof header) return;
            (void)::recv(client.get(), body.data(), header.len, MSG_WAITALL);
            constexpr char kAbsent[] = "ENOENT";
            header.type = XS_ERROR;
            header.len = sizeof kAbsent;
            (void)::send(client.get(), &header, sizeof header, MSG_NOSIGNAL);
            (void)::send(client.get(), kAbsent, sizeof kAbsent, MSG_NOSIGNAL);
        }
    }

    std::string path_ = std::filesystem::temp_directory_path() / ("xenstored-" + std::to_string(::getpid()));
    UniqueFd listener_;
    std::thread server_;
};

}  // namespace

TEST_CASE("what a xenstored that has gone does not say is not taken for an absence") {
    struct Lost : std::runtime_error {
        using std::runtime_error::runtime_error;
    };
    const int answers = GENERATE(0, 1, 2);
    const DyingXenstored xenstored(answers);
    auto xenstore = open_xenstore([](const std::string &why) { throw Lost(why); });
    REQUIRE(xenstore);
    for (int i = 0; i < answers; ++i) CHECK((*xenstore)->read("/local/domain/0/name") == std::nullopt);
    CHECK_THROWS_AS((*xenstore)->read("/local/domain/0/name"), Lost);
    CHECK_THROWS_AS((*xenstore)->list("/local/domain"), Lost);
    CHECK_THROWS_AS((*xenstore)->update("/local/domain/0", {{"state", "1"}}, "key", "value"), Lost);
    CHECK_THROWS_AS((*xenstore)->remove("/local/domain/0"), Lost);
    CHECK_THROWS_AS((*xenstore)->watch("/local/domain/0", "token"), Lost);
}

}  // namespace vtpm
