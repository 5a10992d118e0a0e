// SPDX-License-Identifier: Apache-2.0
#include "backend/launch/guest_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace vtpm::launch {
namespace {

constexpr std::size_t kMaxAnswer = 64UL * 1024;

std::string first_line(const char *path) {
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
}

// That of the running Xen, where several are installed.
Result<std::string> find_pygrub(const std::string &given) {
    const std::string running =
        fmt::format("/usr/lib/xen-{}.{}/bin/pygrub", first_line("/sys/hypervisor/version/major"),
                    first_line("/sys/hypervisor/version/minor"));
    for (const std::string &path : {given, running, std::string("/usr/lib/xen/bin/pygrub"),
                                    std::string("/usr/libexec/xen/bin/pygrub"), std::string("/usr/bin/pygrub")}) {
        if (!path.empty() && ::access(path.c_str(), X_OK) == 0) return path;
        if (!given.empty()) break;
    }
    return fail(ErrorCode::kNotFound,
                "{} is no program: set kernel= in the guest's configuration, or "
                "bootloader_args=[\"--pygrub=/path/to/pygrub\"]",
                given.empty() ? "pygrub" : given);
}

// pygrub's own place; gone with what it left there.
class PygrubDirectory {
public:
    static Result<PygrubDirectory> make(const PrivateDirectory &parent) {
        std::string path = parent.path() + "/pygrub.XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) return fail_errno("{}", path);
        PygrubDirectory made(std::move(path));
        VTPM_ASSIGN(PrivateDirectory opened, PrivateDirectory::open(made.path_));
        made.directory_.emplace(std::move(opened));
        return made;
    }
    PygrubDirectory(PygrubDirectory &&other) noexcept
        : path_(std::exchange(other.path_, {})), directory_(std::move(other.directory_)) {}
    PygrubDirectory &operator=(PygrubDirectory &&) = delete;
    PygrubDirectory(const PygrubDirectory &) = delete;
    PygrubDirectory &operator=(const PygrubDirectory &) = delete;
    ~PygrubDirectory() {
        std::error_code ignored;  // libxl removes the directory above in any case
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] const std::string &path() const { return path_; }
    // `named` is what pygrub calls it: within its directory.
    [[nodiscard]] Result<UniqueFd> open(const std::string &named) const {
        if (!named.starts_with(path_ + "/"))
            return fail(ErrorCode::kRefused, "pygrub names a file that is not its own: {}", named.substr(0, 200));
        return directory_->open_file(named.substr(path_.size() + 1));
    }

private:
    explicit PygrubDirectory(std::string path) : path_(std::move(path)) {}
    std::string path_;
    std::optional<PrivateDirectory> directory_;
};

std::vector<std::string> pygrub_command(const std::string &program, const Request &request, const std::string &place,
                                        int output) {
    std::vector<std::string> command{program};
    if (!request.ramdisk.empty()) command.push_back("--ramdisk=" + request.ramdisk);
    if (!request.arguments.empty()) command.push_back("--args=" + request.arguments);
    command.insert(command.end(), request.others.begin(), request.others.end());
    command.push_back(fmt::format("--output=/proc/self/fd/{}", output));
    command.emplace_back("--output-format=simple0");
    command.push_back("--output-directory=" + place);
    command.push_back(request.disk);
    return command;
}

// Its terminal is ours.
[[noreturn]] void become_pygrub(std::vector<std::string> command, int output) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)::fcntl(output, F_SETFD, 0);
    std::vector<char *> arguments;
    arguments.reserve(command.size() + 1);
    for (std::string &argument : command) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
}

Result<> run_to_end(const std::vector<std::string> &command, int output) {
    const pid_t child = ::fork();
    if (child < 0) return fail_errno("fork");
    if (child == 0) become_pygrub(command, output);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return fail_errno("wait for {}", command[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return fail(ErrorCode::kRefused, "{} failed ({} {}): nothing to boot on {}", command[0],
                WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                command.back());
}

Result<Answer> answer_in(int output) {
    std::string text(kMaxAnswer, '\0');
    const ssize_t size = ::pread(output, text.data(), text.size(), 0);
    if (size < 0) return fail_errno("read pygrub's answer");
    return parse_simple0(std::string_view(text).substr(0, static_cast<std::size_t>(size)));
}

}  // namespace

Result<GuestFiles> files_of_configuration(const Request &request) {
    GuestFiles files;
    VTPM_ASSIGN(files.kernel, open_source(request.kernel));
    files.arguments = request.arguments;
    if (request.ramdisk.empty()) return files;
    VTPM_ASSIGN(files.ramdisk, open_source(request.ramdisk));
    return files;
}

Result<GuestFiles> files_of_disk(const Request &request, const PrivateDirectory &directory) {
    VTPM_ASSIGN(const std::string program, find_pygrub(request.pygrub));
    VTPM_ASSIGN(const PygrubDirectory place, PygrubDirectory::make(directory));
    const UniqueFd output(::memfd_create("pygrub", MFD_CLOEXEC));
    if (!output) return fail_errno("memfd_create");
    VTPM_TRY(run_to_end(pygrub_command(program, request, place.path(), output.get()), output.get()));
    VTPM_ASSIGN(const Answer answer, answer_in(output.get()));
    GuestFiles files;
    VTPM_ASSIGN(files.kernel, place.open(answer.kernel));
    files.arguments = answer.arguments;
    if (!answer.ramdisk) return files;
    VTPM_ASSIGN(files.ramdisk, place.open(*answer.ramdisk));
    return files;
}

}  // namespace vtpm::launch
