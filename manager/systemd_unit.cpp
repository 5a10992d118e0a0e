// SPDX-License-Identifier: Apache-2.0
#include "manager/systemd_unit.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/secret.hpp"
#include "base/unique_fd.hpp"
#include "manager/boot/measured_boot.hpp"
#include "version.hpp"

namespace vtpm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDevice = "device:";
constexpr std::string_view kBegin =
    "# By xen-vtpm-managerd --drop-in, from the manager's configuration: after a change there, make it anew.\n";

constexpr const char *kAdvice =
    "; the unit must let through what the configuration says: xen-vtpm-managerd --drop-in xen-vtpm-managerd.service "
    "prints its drop-in: xen-vtpm-managerd(8)";

// By ProtectHome=, PrivateTmp= and the kernel.
constexpr std::array<std::string_view, 8> kHidden = {"/home",    "/root", "/run/user", "/tmp",
                                                     "/var/tmp", "/dev",  "/proc",     "/sys"};

bool is_below(std::string_view path, std::string_view directory) {
    return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

// The part of `path` below `directory`; empty: it is not below it.
std::string below(const std::string &path, std::string_view directory) {
    return is_below(path, directory) && path.size() > directory.size() ? path.substr(directory.size() + 1)
                                                                       : std::string();
}

// Without "..", which systemd does not take, and without a '/' at the end.
Result<std::string> normal(const std::string &path, std::string_view key) {
    std::string result = fs::path(path).lexically_normal();
    while (result.size() > 1 && result.ends_with('/')) result.pop_back();
    const bool printable = std::ranges::all_of(result, [](unsigned char c) { return c >= ' ' && c != 0x7f; });
    if (!result.starts_with('/') || result == "/" || !printable)
        return fail(ErrorCode::kInvalid, "'{}' must be an absolute path: no drop-in lets '{}' through", key, path);
    for (const std::string_view hidden : kHidden)
        if (is_below(result, hidden))
            return fail(ErrorCode::kInvalid, "'{}' is below {}, which the unit hides from the manager: choose another",
                        key, hidden);
    return result;
}

// systemd.syntax(7), systemd.unit(5): specifiers.
std::string as_word(std::string_view word) {
    std::string result = "\"";
    for (const char c : word) {
        if (c == '"' || c == '\\') result += '\\';
        if (c == '%') result += '%';
        result += c;
    }
    return result + '"';
}

// systemd makes what is below its own directories; what is elsewhere the administrator makes ("-": if he did).
std::string let_through(const std::string &directory) {
    if (const std::string name = below(directory, "/var/lib"); !name.empty())
        return fmt::format("StateDirectory={}\n", as_word(name));
    if (const std::string name = below(directory, "/run"); !name.empty())
        return fmt::format("RuntimeDirectory={}\n", as_word(name));
    return fmt::format("ReadWritePaths={}\n", as_word("-" + directory));
}

Result<std::string> for_directory(const Config &config) {
    VTPM_ASSIGN(const std::string path, normal(config.state_directory, "state_directory"));
    return path == Config().state_directory ? std::string() : let_through(path);
}

Result<std::string> for_socket(const Config &config) {
    VTPM_ASSIGN(const std::string path, normal(config.socket, "socket"));
    if (path == Config().socket) return std::string();
    const std::string directory = fs::path(path).parent_path();
    if (directory == "/run" || directory == "/")
        return fail(ErrorCode::kInvalid, "'socket' needs a directory of its own, such as /run/xen-vtpm-2");
    return let_through(directory);
}

// Another machine's TPM, or a simulator: the only configuration in which the manager has a network.
std::string network(const std::string &tcti) {
    if (tcti.find("path=") != std::string::npos) return {};
    const auto at = tcti.find("host=");
    const std::string host = at == std::string::npos ? "localhost" : tcti.substr(at + 5, tcti.find(',', at) - at - 5);
    const bool here = host == "localhost" || host == "127.0.0.1" || host == "::1";
    return fmt::format("PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow={}\n",
                       here ? "localhost" : "any");
}

std::string for_tcti(const Config &config) {
    const std::string &tcti = config.tcti;
    if (config.sealing != Sealing::kTpm) return {};
    if (tcti.starts_with("swtpm:") || tcti.starts_with("mssim:")) return network(tcti);
    if (!tcti.starts_with(kDevice)) return {};
    const std::string device = tcti.substr(kDevice.size());
    if (!device.starts_with("/dev/") || device.starts_with("/dev/tpmrm")) return {};
    return fmt::format("DeviceAllow={} rw\n", as_word(device));
}

std::optional<std::string> number_of(std::string_view tcti) {
    for (const std::string_view prefix : {"device:/dev/tpmrm", "device:/dev/tpm"}) {
        if (!tcti.starts_with(prefix)) continue;
        const std::string number(tcti.substr(prefix.size()));
        if (!number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; })) return number;
    }
    return std::nullopt;
}

// With room for one byte more than a TPM takes, and a newline.
Result<SecretBytes> password_in(const std::string &path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && errno == ENOENT) return SecretBytes();
    if (!file) return fail_errno("{}", path);
    Secret<sizeof TPM2B_AUTH::buffer + 2> buffer;
    const ssize_t read = ::read(file.get(), buffer.writable().data(), buffer.writable().size());
    if (read < 0) return fail_errno("{}", path);
    ByteView text = buffer.view().first(static_cast<std::size_t>(read));
    if (!text.empty() && text.back() == '\n') text = text.first(text.size() - 1);
    if (text.size() > sizeof TPM2B_AUTH::buffer)
        return fail(ErrorCode::kInvalid, "{}: a TPM's password has at most {} bytes", path, sizeof TPM2B_AUTH::buffer);
    return SecretBytes(text);
}

}  // namespace

Result<HierarchyPasswords> passwords_of(const char *credentials) {
    HierarchyPasswords passwords;
    if (credentials == nullptr) return passwords;
    VTPM_ASSIGN(passwords.owner, password_in(fmt::format("{}/tpm-owner-password", credentials)));
    VTPM_ASSIGN(passwords.endorsement, password_in(fmt::format("{}/tpm-endorsement-password", credentials)));
    return passwords;
}

Result<std::string> drop_in_of_manager(const Config &config) {
    VTPM_ASSIGN(const std::string directory, for_directory(config));
    VTPM_ASSIGN(const std::string socket, for_socket(config));
    const std::string tcti = for_tcti(config);
    const std::string service = directory + socket + tcti;
    if (service.empty()) return service;
    std::string text(kBegin);
    if (!directory.empty()) text += fmt::format("[Unit]\nRequiresMountsFor={}\n", as_word(config.state_directory));
    return text + "[Service]\n" + service;
}

Result<std::string> drop_in_of_backend(const Config &config) {
    VTPM_ASSIGN(const std::string changed, for_socket(config));
    if (changed.empty()) return changed;
    return fmt::format("{}[Service]\nExecStart=\nExecStart={}/xen-vtpmd --manager-socket {}\n", kBegin, kSbinDir,
                       as_word(config.socket));
}

std::string drop_in_advice(const Config &config) {
    const auto needed = drop_in_of_manager(config);
    if (!needed) return "; " + needed.error().text;
    return needed->empty() ? "" : kAdvice;
}

std::string tcti_advice(const Config &config) { return for_tcti(config).empty() ? "" : kAdvice; }

std::string event_log_of(const std::string &tcti, const char *credentials) {
    const auto number = number_of(tcti);
    if (credentials != nullptr)
        return fmt::format("{}/event-log{}", credentials, number ? "-" + *number : std::string());
    if (number) return fmt::format("/sys/kernel/security/tpm{}/binary_bios_measurements", *number);
    return BootSources::of_this_host().event_log;
}

}  // namespace vtpm
