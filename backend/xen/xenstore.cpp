// SPDX-License-Identifier: Apache-2.0
#include "backend/xen/xenstore.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "backend/xen/libxen.hpp"

namespace vtpm {
namespace {

struct FreeMemory {
    void operator()(void *memory) const { std::free(memory); }
};
template <typename T>
using Malloced = std::unique_ptr<T, FreeMemory>;

class LibXenstore final : public Xenstore {
public:
    LibXenstore(XenstoreHandle handle, XenstoreLost lost) : handle_(std::move(handle)), lost_(std::move(lost)) {}

    std::optional<std::string> read(const std::string &path) override { return read_in(XBT_NULL, path); }

    std::vector<std::string> list(const std::string &path) override {
        unsigned count = 0;
        const Malloced<char *> names(xs_directory(handle_.get(), XBT_NULL, path.c_str(), &count));
        if (!names) {
            if (errno != E2BIG) expect_absence("list", path);  // an old xenstored lists no more than 4 KiB
            return {};
        }
        return {names.get(), names.get() + count};
    }

    Result<bool> update(const std::string &directory, const Seen &seen, const std::string &key,
                        const std::string &value) override {
        const std::string path = directory + "/" + key;
        for (;;) {
            const xs_transaction_t transaction = xs_transaction_start(handle_.get());
            if (transaction == XBT_NULL) return failed("start a transaction for", path);
            const bool is_so = std::ranges::all_of(seen, [&](const auto &node) {
                return read_in(transaction, directory + "/" + node.first) == node.second;
            });
            const bool written = is_so && xs_write(handle_.get(), transaction, path.c_str(), value.data(),
                                                   static_cast<unsigned>(value.size()));
            const int write_error = errno;
            if (xs_transaction_end(handle_.get(), transaction, !written)) {
                if (written || !is_so) return written;
                errno = write_error;
                return fail_errno("write {}", path);
            }
            if (errno != EAGAIN) return failed("write", path);
        }
    }

    Result<> remove(const std::string &path) override {
        if (xs_rm(handle_.get(), XBT_NULL, path.c_str()) || errno == ENOENT) return {};
        return failed("remove", path);
    }

    Result<> watch(const std::string &path, const std::string &token) override {
        if (xs_watch(handle_.get(), path.c_str(), token.c_str())) return {};
        return failed("watch", path);
    }

    void unwatch(const std::string &path, const std::string &token) override {
        (void)xs_unwatch(handle_.get(), path.c_str(), token.c_str());
    }

    [[nodiscard]] int fd() const override { return xs_fileno(handle_.get()); }

    std::optional<WatchEvent> next_event() override {
        const Malloced<char *> event(xs_check_watch(handle_.get()));
        if (!event) return std::nullopt;
        return WatchEvent{event.get()[XS_WATCH_PATH], event.get()[XS_WATCH_TOKEN]};
    }

private:
    std::optional<std::string> read_in(xs_transaction_t transaction, const std::string &path) {
        unsigned length = 0;
        const Malloced<void> value(xs_read(handle_.get(), transaction, path.c_str(), &length));
        if (!value) {
            expect_absence("read", path);
            return std::nullopt;
        }
        return std::string(static_cast<const char *>(value.get()), length);
    }

    // xenstored's own words are that a node is not there, or not for us. Anything else is no word of it: the library
    // says EINVAL or EBADF when the connection has ended, ENOMEM when it has no memory.
    void expect_absence(const char *what, const std::string &path) const {
        if (errno != ENOENT && errno != EACCES) lose(what, path);
    }
    static bool is_lost(int error) {
        return error == EINVAL || error == EBADF || error == EPIPE || error == ECONNRESET;
    }

    [[nodiscard]] tl::unexpected<Error> failed(const char *what, const std::string &path) const {
        if (is_lost(errno)) lose(what, path);
        return fail_errno("{} {}", what, path);
    }

    [[noreturn]] void lose(const char *what, const std::string &path) const {
        const int saved = errno;
        lost_(fmt::format("xenstored is away: {} {}: {}", what, path, std::strerror(saved)));
        require(false, "nobody goes on without xenstore");
        std::abort();
    }

    XenstoreHandle handle_;
    XenstoreLost lost_;
};

}  // namespace

std::optional<std::uint32_t> Xenstore::read_number(const std::string &path) {
    const auto text = read(path);
    return text ? parse_number(*text) : std::nullopt;
}

Result<std::unique_ptr<Xenstore>> open_xenstore(XenstoreLost lost) {
    // Not XS_UNWATCH_FILTER: libxenstore (4.17 to 4.21) leaks each event that it drops by that.
    XenstoreHandle handle(xs_open(0));
    if (!handle) return fail_errno("connect to xenstored");
    return std::make_unique<LibXenstore>(std::move(handle), std::move(lost));
}

}  // namespace vtpm
