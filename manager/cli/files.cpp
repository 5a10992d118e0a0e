// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/files.hpp"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/unique_fd.hpp"

namespace vtpm::cli {
namespace {

constexpr std::size_t kMaxInput = 1'048'576;

// Of a terminal, a line.
enum class Until { kEnd, kNewline };

Result<std::string> read_all(int fd, const std::string &path, Until until = Until::kEnd) {
    std::string text;
    std::array<char, 4096> buffer;
    for (;;) {
        const ssize_t size = ::read(fd, buffer.data(), buffer.size());
        if (size < 0) return fail_errno("read {}", path);
        if (size == 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(size));
        ::explicit_bzero(buffer.data(), buffer.size());
        if (until == Until::kNewline && text.ends_with('\n')) return text;
        if (text.size() > kMaxInput) return fail(ErrorCode::kInvalid, "{} is too large", path);
    }
}

Result<> write_all(int fd, std::string_view content, const std::string &path) {
    while (!content.empty()) {
        const ssize_t size = ::write(fd, content.data(), content.size());
        if (size < 0) return fail_errno("write {}", path);
        content.remove_prefix(static_cast<std::size_t>(size));
    }
    return {};
}

template <typename Fill>
Result<> new_file(const std::string &path, Fill fill) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file && errno == EEXIST) return fail(ErrorCode::kInUse, "{} exists: it is not overwritten", path);
    if (!file) return cannot("be created", path);
    Result<> filled = fill(file.get());
    if (filled && ::fsync(file.get()) != 0) filled = fail_errno("write {}", path);
    if (!filled) (void)::unlink(path.c_str());
    return filled;
}

// The terminal without its echo.
class NoEcho {
public:
    NoEcho() : changed_(::tcgetattr(STDIN_FILENO, &before_) == 0) {
        termios silent = before_;
        silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        if (changed_) (void)::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    NoEcho(const NoEcho &) = delete;
    NoEcho &operator=(const NoEcho &) = delete;
    ~NoEcho() {
        if (changed_) (void)::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    }

private:
    termios before_{};
    bool changed_;
};

}  // namespace

tl::unexpected<Error> cannot(const char *do_what, const std::string &path) {
    const int error = errno;
    const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kSystem;
    const bool forbidden = (error == EACCES || error == EPERM) && ::geteuid() != 0;
    return fail(forbidden ? ErrorCode::kRefused : code, "{} cannot {}: {}{}", path, do_what, std::strerror(error),
                forbidden ? " (are you root?)" : "");
}

SecretText::~SecretText() { ::explicit_bzero(text.data(), text.size()); }

Result<std::string> read_input(const std::string &path) {
    if (path == "-") return read_all(STDIN_FILENO, "standard input");
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return cannot("be read", path);
    return read_all(file.get(), path);
}

Result<SecretBytes> read_key(const std::string &path) {
    VTPM_ASSIGN(std::string text, read_input(path));
    SecretBytes key(bytes_of(text));
    ::explicit_bzero(text.data(), text.size());
    return key;
}

Result<std::string> read_secret(const std::string &path, const char *what) {
    if (path != "-" || ::isatty(STDIN_FILENO) == 0) return read_input(path);
    std::fprintf(stderr, "%s: ", what);
    const NoEcho no_echo;
    auto text = read_all(STDIN_FILENO, "standard input", Until::kNewline);
    std::fputs("\n", stderr);
    return text;
}

bool says_yes(std::string_view question) {
    if (::isatty(STDIN_FILENO) == 0) return false;
    std::fprintf(stderr, "%.*s [y/N] ", static_cast<int>(question.size()), question.data());
    const auto answer = read_all(STDIN_FILENO, "standard input", Until::kNewline);
    return answer && (answer->starts_with('y') || answer->starts_with('Y'));
}

Result<> confirm(bool yes, std::string_view consequence) {
    if (yes) return {};
    if (::isatty(STDIN_FILENO) == 0)
        return fail(ErrorCode::kRefused, "{} Nothing was changed: say --yes to do it", consequence);
    std::fprintf(stderr, "%.*s\n", static_cast<int>(consequence.size()), consequence.data());
    if (says_yes("Do it?")) return {};
    return fail(ErrorCode::kRefused, "nothing was changed");
}

Result<> write_output(const std::string &path, std::string_view content) {
    return new_file(path, [&](int file) { return write_all(file, content, path); });
}

Result<> move_into(const std::string &from, const std::string &path) {
    const UniqueFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!source) return fail_errno("{}", from);
    (void)::unlink(from.c_str());  // whatever becomes of it: it is ours alone
    return new_file(path, [&](int file) -> Result<> {
        std::array<char, 65'536> buffer;
        for (;;) {
            const ssize_t size = ::read(source.get(), buffer.data(), buffer.size());
            if (size < 0) return fail_errno("read {}", from);
            if (size == 0) return {};
            VTPM_TRY(write_all(file, {buffer.data(), static_cast<std::size_t>(size)}, path));
        }
    });
}

}  // namespace vtpm::cli
