// SPDX-License-Identifier: Apache-2.0
// The owner's way with a TPM 1.2, by the tools of a guest: tpm-tools and tcsd, which reach the guest's page by a
// socket.
#include <netinet/in.h>
#include <sys/socket.h>

#include <thread>

#include "machine.hpp"
#include "tpm_socket.hpp"

namespace vtpm {
namespace {

sockaddr_in local_port(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// That nobody has now: tcsd takes its own by number.
std::uint16_t free_port() {
    const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = local_port(0);
    socklen_t size = sizeof address;
    // As above.
    REQUIRE(::bind(probe.get(), reinterpret_cast<const sockaddr *>(&address), size) == 0);
    REQUIRE(::getsockname(probe.get(), reinterpret_cast<sockaddr *>(&address), &size) == 0);
    return ntohs(address.sin_port);
}

// A booted guest, with tcsd. What tcsd stores outlives it, as on a guest's disk.
class Booted {
public:
    explicit Booted(Machine &machine)
        : port_(free_port()),
          tpm_(machine.file("tpm.sock"), machine.ring),
          tcsd_({{"tcsd", "-e", "-f", "-c", config(machine)},
                 // It tries TCP first: nobody is there.
                 {{"TCSD_TCP_DEVICE_PORT", "1"}, {"TCSD_UN_SOCKET_DEVICE_PATH", machine.file("tpm.sock")}},
                 {}}) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!listens()) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    }
    [[nodiscard]] Output run(std::vector<std::string> command) const {
        return ::run({std::move(command), {{"TSS_TCSD_PORT", std::to_string(port_)}}, {}});
    }
    // The well-known secret is owner's and SRK's.
    [[nodiscard]] Output take_ownership() const { return run({"tpm_takeownership", "-y", "-z"}); }

private:
    // tcsd takes no file that is not root's and its group's.
    std::string config(const Machine &machine) const {
        std::filesystem::create_directories(machine.file("tss"));
        std::string path = machine.write(
            "tcsd.conf", fmt::format("port = {}\nsystem_ps_file = {}\n", port_, machine.file("tss/data")));
        REQUIRE(run({"chgrp", "tss", path}).status == 0);
        REQUIRE(run({"chmod", "0640", path}).status == 0);
        return path;
    }
    [[nodiscard]] bool listens() const {
        const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr_in address = local_port(port_);
        return ::connect(probe.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0;
    }

    std::uint16_t port_;
    TpmSocket tpm_;
    Process tcsd_;
};

void succeeds(const Output &output) {
    INFO(output.out << output.err);
    REQUIRE(output.status == 0);
}

std::string content(const std::string &path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

TEST_CASE("the owner of a TPM 1.2 clears it, and takes it again after a reboot") {
    if (::geteuid() != 0) {
        WARN("tcsd needs root: not tested");
        return;
    }
    Machine machine("default_tpm = \"1.2\"\n");
    const std::string secret = machine.write("secret", "of the first owner");
    const std::string sealed = machine.file("sealed");
    const std::string opened = machine.file("opened");
    const auto seal = [&](const Booted &guest) {
        return guest.run({"tpm_sealdata", "-z", "-i", secret, "-o", sealed});
    };
    const auto unseal = [&](const Booted &guest) {
        std::filesystem::remove(opened);
        return guest.run({"tpm_unsealdata", "-z", "-i", sealed, "-o", opened});
    };
    machine.power_on();
    {
        const Booted guest(machine);
        succeeds(guest.run({"tpm_version"}));
        succeeds(guest.run({"tpm_getpubek", "-z"}));
        succeeds(guest.take_ownership());
        succeeds(seal(guest));
        succeeds(unseal(guest));
        REQUIRE(content(opened) == "of the first owner");
    }
    machine.power_off();
    machine.power_on();
    {
        const Booted guest(machine);
        succeeds(unseal(guest));
        REQUIRE(content(opened) == "of the first owner");
        succeeds(guest.run({"tpm_clear", "-z"}));
        const Output too_early = guest.take_ownership();
        REQUIRE(too_early.status != 0);
        REQUIRE_THAT(too_early.err, Contains("disabled") || Contains("deactivated"));
    }
    machine.power_off();
    machine.power_on();
    {
        const Booted guest(machine);
        succeeds(guest.take_ownership());
        REQUIRE(unseal(guest).status != 0);  // under the storage root key that was cleared
        (void)machine.write("secret", "of the second owner");
        succeeds(seal(guest));
        succeeds(unseal(guest));
        REQUIRE(content(opened) == "of the second owner");
    }
    machine.power_off();
    machine.power_on();
    const Booted guest(machine);
    succeeds(unseal(guest));
    REQUIRE(content(opened) == "of the second owner");
}

}  // namespace vtpm
