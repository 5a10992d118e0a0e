// SPDX-License-Identifier: Apache-2.0
// xenstore, as much of it as a backend needs. An interface, so that the state machine runs on a fake in unit tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/number.hpp"
#include "base/result.hpp"

namespace vtpm {

class Xenstore {
public:
    struct WatchEvent {
        std::string path;
        std::string token;
    };

    // Keys of a directory, and their values. None is absent.
    using Seen = std::vector<std::pair<std::string, std::string>>;

    virtual ~Xenstore() = default;

    // The value, or nothing if xenstored says that the node is absent, or not ours to read.
    virtual std::optional<std::string> read(const std::string &path) = 0;
    virtual std::vector<std::string> list(const std::string &path) = 0;
    // Writes `directory`/`key` if the keys of `seen` still say there what they said when the caller looked, in one
    // transaction: a device that the toolstack has removed is never brought back, and one that it has put in its place
    // gets nothing that was meant for the former. False if they do not.
    virtual Result<bool> update(const std::string &directory, const Seen &seen, const std::string &key,
                                const std::string &value) = 0;
    virtual Result<> remove(const std::string &path) = 0;

    virtual Result<> watch(const std::string &path, const std::string &token) = 0;
    virtual void unwatch(const std::string &path, const std::string &token) = 0;
    // Readable when next_event() may have something.
    [[nodiscard]] virtual int fd() const = 0;
    virtual std::optional<WatchEvent> next_event() = 0;

    std::optional<std::uint32_t> read_number(const std::string &path);
};

// Called when an operation gets no answer: the connection to xenstored has ended. What it would have said is not known,
// and a guess ("absent") would power TPMs off. So it does not return: it ends the process (engines outlive that), or
// throws.
using XenstoreLost = std::function<void(const std::string &why)>;

// The real one. Starts a hidden thread (libxenstore's reader), so signals must be blocked before. That thread ends with
// the connection, and then says nothing any more: who only waits for events looks now and then (any read() does).
Result<std::unique_ptr<Xenstore>> open_xenstore(XenstoreLost lost);

}  // namespace vtpm
