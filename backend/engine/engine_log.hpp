// SPDX-License-Identifier: Apache-2.0
// What an engine says on stderr, told by its zygote in the vTPM's name: an engine that was taken over neither speaks
// for others in the journal nor fills it.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "base/uuid.hpp"

namespace vtpm {

class EngineLog {
public:
    // `engine_end` is to become the engine's stderr. Who writes to it never waits; what does not fit is lost.
    static Result<EngineLog> open(const Uuid &uuid, UniqueFd &engine_end);

    // Readable when there is something to relay, or at the end.
    [[nodiscard]] int fd() const { return fd_.get(); }
    // Tells a part of what there is. kEnd: the engine has ended, or has said too much to be heard any more.
    enum class Heard { kSomething, kNothing, kEnd };
    Heard relay();

private:
    EngineLog(const Uuid &uuid, UniqueFd fd) : uuid_(uuid), fd_(std::move(fd)) {}
    void tell(std::string_view line);

    Uuid uuid_;
    UniqueFd fd_;
    unsigned told_ = 0;
};

}  // namespace vtpm
