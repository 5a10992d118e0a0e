// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/config_commands.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "base/unique_fd.hpp"
#include "version.hpp"

namespace vtpm::cli {
namespace {

struct Ended {
    int status = 0;
    std::string errors;
};

// Its standard error is read to the end, then it is waited for.
Result<Ended> run(std::vector<std::string> command) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("pipe");
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    std::vector<char *> arguments;
    for (std::string &word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to.get(), STDERR_FILENO);
    pid_t child = 0;
    errno = ::posix_spawn(&child, command[0].c_str(), &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (errno == ENOENT)
        return fail(ErrorCode::kRefused, "{} is not here: a configuration is checked where the package xen-vtpm is",
                    command[0]);
    if (errno != 0) return fail_errno("run {}", command[0]);
    to = UniqueFd();
    Ended ended;
    std::array<char, 4096> part{};
    ssize_t size = 0;
    while ((size = ::read(from.get(), part.data(), part.size())) > 0 || (size < 0 && errno == EINTR))
        if (size > 0) ended.errors.append(part.data(), static_cast<std::size_t>(size));
    while (::waitpid(child, &ended.status, 0) < 0)
        if (errno != EINTR) return fail_errno("wait for {}", command[0]);
    return ended;
}

// As the journal has it: without the priority, <3>.
std::string sentence(std::string text) {
    if (text.size() > 3 && text[0] == '<' && text[2] == '>') text.erase(0, 3);
    while (text.ends_with('\n')) text.pop_back();
    return text;
}

struct ConfigOptions {
    std::string file = "/etc/xen-vtpm/manager.toml";
};

// By the manager's own program, which reads it as it would at its start.
Result<Json> check_config(const ConfigOptions &options) {
    const std::string &file = options.file;
    VTPM_ASSIGN(const Ended ended, run({std::string(kSbinDir) + "/xen-vtpm-managerd", "--check", "--config", file}));
    if (!WIFEXITED(ended.status) || WEXITSTATUS(ended.status) != 0)
        return fail(ErrorCode::kRefused, "{}", sentence(ended.errors));
    return Json{{"file", file}, {"right", true}};
}

std::string check_config_text(const Json &answer) { return answer.at("file").get<std::string>() + " is right.\n"; }

}  // namespace

void add_config_commands(const Menu &menu) {
    const Menu config = menu.below("config", "Check the manager's configuration");
    auto [command, options] = config.add<ConfigOptions>(
        "check", "Check whether it is right, before a restart; needs no daemon", check_config, check_config_text);
    command.add_option("FILE", options.file, "Configuration file")->capture_default_str();
}

}  // namespace vtpm::cli
