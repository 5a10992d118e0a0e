// SPDX-License-Identifier: Apache-2.0
// xen-vtpm-launch: the boot loader that libxl runs for a guest whose launch is measured. See xen-vtpm-launch(8).
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "backend/launch/prepare.hpp"
#include "base/bus.hpp"
#include "shared-protocol/bus_names.hpp"
#include "shared-protocol/record_launch.hpp"
#include "version.hpp"

namespace vtpm::launch {
namespace {

// Without the record nothing is started: the guest would have the PCRs of one that nobody measured.
Result<> record(std::uint32_t domain, Bytes log) {
    const auto called = [&]() -> Result<> {
        VTPM_ASSIGN(bus::Client client, bus::Client::open_system());
        VTPM_TRY(client.call(kBackendBus, kRecordLaunch, arguments_of({domain, std::move(log)})));
        return {};
    }();
    if (called) return {};
    return fail(called.error().code,
                "xen-vtpmd does not record the launch of domain {}: {}; see: systemctl status xen-vtpmd", domain,
                called.error().text);
}

// libxl made the file, empty.
Result<> tell(const std::string &path, const std::string &text) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return fail_errno("{}", path);
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
        return fail_errno("{}", path);
    return {};
}

// Takes back the name of a file, unless libxl is told of it.
class Published {
public:
    Published() = default;
    Published(const Published &) = delete;
    Published &operator=(const Published &) = delete;
    ~Published() {
        if (!path_.empty()) (void)::unlink(path_.c_str());
    }
    Result<std::string> publish(const PrivateDirectory &directory, const UniqueFd &file, const char *name) {
        VTPM_ASSIGN(path_, directory.publish(file, name));
        return path_;
    }
    void keep() { path_.clear(); }

private:
    std::string path_;
};

Result<> answer(const Request &request, const Prepared &prepared, const PrivateDirectory &directory) {
    Published kernel;
    Published ramdisk;
    Answer told;
    VTPM_ASSIGN(told.kernel, kernel.publish(directory, prepared.kernel, "kernel"));
    if (prepared.ramdisk) {
        VTPM_ASSIGN(told.ramdisk, ramdisk.publish(directory, *prepared.ramdisk, "ramdisk"));
    }
    told.arguments = prepared.arguments;
    VTPM_TRY(tell(request.output, to_simple0(told)));
    kernel.keep();
    ramdisk.keep();
    return {};
}

Result<> run(const std::vector<std::string> &arguments) {
    VTPM_ASSIGN(const Request request, parse_request(arguments));
    VTPM_ASSIGN(const PrivateDirectory directory, PrivateDirectory::open(request.output_directory));
    VTPM_ASSIGN(const GuestFiles files,
                request.kernel.empty() ? files_of_disk(request, directory) : files_of_configuration(request));
    VTPM_ASSIGN(const Prepared prepared, prepare(files, directory));
    VTPM_TRY(record(request.domain, prepared.log));
    return answer(request, prepared, directory);
}

}  // namespace
}  // namespace vtpm::launch

int main(int argc, char **argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments == std::vector<std::string>{"--version"}) {
        std::printf("xen-vtpm-launch %s\n", vtpm::kVersion);
        return EXIT_SUCCESS;
    }
    const auto ended = vtpm::launch::run(arguments);
    if (ended) return EXIT_SUCCESS;
    std::fprintf(stderr, "xen-vtpm-launch: %s\n", ended.error().text.c_str());
    return EXIT_FAILURE;
}
