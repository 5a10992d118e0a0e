// SPDX-License-Identifier: Apache-2.0
// What may wait for the hardware TPM is done here, one job after the other, in a thread beside the loop's. The
// manager's parts know nothing of threads: a job has its turn with all of them, as a callback of the loop has, and
// gives it away only while the TPM has the word (giving_the_turn()). So a TPM that does not answer holds up those who
// ask for it, and no guest that runs.
//
// What a job knows before such a wait may be otherwise after it. What belongs to groups is changed by jobs only: those
// that give way find other jobs' changes too.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "base/event_loop.hpp"
#include "base/turn.hpp"
#include "base/unique_fd.hpp"
#include "manager/groups/sealer.hpp"

namespace vtpm {

class Worker {
public:
    using Clock = std::chrono::steady_clock;

    // Who makes it has `turn`.
    static Result<std::unique_ptr<Worker>> start(EventLoop &loop, Turn &turn);
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;
    // Jobs that have not begun are dropped; one that has is waited for.
    ~Worker();

    // What guests can have the TPM do as often as they like (to attest them, to read PCRs) is followed by so many times
    // as long a pause: all of them together have a seventh of its time for each of the two. With a fifth, dom0's own
    // use took more than twice as long (scripts/bench chip).
    static constexpr int kPauses = 6;

    // Somebody waits for a job, or will ask again for what it made: such jobs come after all others.
    enum class Haste { kWaitedFor, kNone };
    // In order, but for that. `done` runs in the loop, after the job.
    void run(std::function<void()> job, std::function<void()> done, Haste haste = Haste::kWaitedFor);
    // In the thread, without a turn, after a job when no other waits, before it counts as done: to give up what jobs
    // that follow each other share.
    void when_idle(std::function<void()> rest);

    // In a job that takes long, and holds nothing of the TPM: the loop has a turn, and one of the jobs that wait. An
    // error: the manager ends.
    Result<> give_way();

    // Since when the TPM has the word, if it has.
    [[nodiscard]] std::optional<Clock::time_point> waiting_since() const;

    // For the manager's end, in its turn: the present job and then `last`, instead of all that wait. False: they do not
    // end within `limit`.
    [[nodiscard]] bool stop(std::chrono::milliseconds limit, std::function<void()> last = {});

    // `opener`, and what it opens, with the turn given away while the TPM has the word.
    OpenSealer giving_the_turn(OpenSealer opener);

private:
    struct Job {
        std::function<void()> work;
        std::function<void()> done;
    };
    Worker(Turn &turn, UniqueFd wake) : turn_(turn), wake_(std::move(wake)) {}
    void work();
    std::optional<Job> next_job();
    void perform(Job job, std::unique_lock<std::mutex> &lock);
    void finish();

    Turn &turn_;
    UniqueFd wake_;  // eventfd: there are jobs that are done
    EventSource done_source_;
    mutable std::mutex mutex_;  // of what follows
    std::condition_variable changed_;
    std::deque<Job> waiting_;
    std::deque<Job> later_;  // Haste::kNone
    std::function<void()> rest_;
    std::deque<std::function<void()>> done_;
    std::optional<Clock::time_point> waiting_since_;
    bool busy_ = false;
    bool ending_ = false;
    std::thread thread_;

    friend class TpmTalk;
};

}  // namespace vtpm
