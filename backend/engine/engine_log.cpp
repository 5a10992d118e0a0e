// SPDX-License-Identifier: Apache-2.0
#include "backend/engine/engine_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/log.hpp"

namespace vtpm {
namespace {

// In an engine's life, in which a handful would be many. A sanitizer's report has some hundred.
constexpr unsigned kMaxLines = 200;

// A terminal may read it.
char printable(char c) { return c >= ' ' && c <= '~' ? c : '?'; }

}  // namespace

Result<EngineLog> EngineLog::open(const Uuid &uuid, UniqueFd &engine_end) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail_errno("pipe");
    engine_end = UniqueFd(ends[1]);
    return EngineLog(uuid, UniqueFd(ends[0]));
}

// For want of memory a line may be lost; nobody who relays is to end for that.
EngineLog::Heard EngineLog::relay() try {
    if (told_ == kMaxLines) return Heard::kEnd;
    std::array<char, 1024> buffer;
    const ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
    if (size <= 0) return size == 0 ? Heard::kEnd : Heard::kNothing;
    std::string_view text(buffer.data(), static_cast<std::size_t>(size));
    while (!text.empty() && told_ < kMaxLines) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        tell(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (told_ < kMaxLines) return Heard::kSomething;
    log::warning("vTPM {}: its engine says too much, and is not heard any more", uuid_.to_string());
    return Heard::kEnd;
} catch (const std::bad_alloc &) {
    return Heard::kSomething;
}

void EngineLog::tell(std::string_view line) {
    ++told_;
    const char *const priority = line.starts_with("<3>") ? "<3>" : "<4>";
    if (line.size() > 2 && line[0] == '<' && line[2] == '>') line.remove_prefix(3);
    std::string text(line);
    std::ranges::transform(text, text.begin(), printable);
    log::line(priority, fmt::format("vTPM {}: {}", uuid_.to_string(), text));
}

}  // namespace vtpm
