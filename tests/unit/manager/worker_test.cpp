// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/worker.hpp"

#include <atomic>

#include "expect.hpp"

namespace vtpm::worker_test {
namespace {

struct Fixture {
    EventLoop loop = expect(EventLoop::create());
    Turn turn;
    std::unique_ptr<Worker> worker = expect(Worker::start(loop, turn));
    std::string order;  // of what happened

    std::function<void()> note(char what) {
        return [this, what] { order += what; };
    }
    void run_until(const std::string &expected) {
        for (int i = 0; i < 1000 && order.size() < expected.size(); ++i) {
            { const TurnGiven given(turn); }
            sd_event_run(loop.raw(), 1000);
        }
        REQUIRE(order == expected);
    }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a job that gives way has one of those that wait come first, in their order") {
    worker->run(
        [&] {
            order += '(';
            for (int i = 0; i < 4; ++i) {
                expect(worker->give_way());
                order += '.';
            }
            order += ')';
        },
        note('L'));
    worker->run(
        note('c'), [] {}, Worker::Haste::kNone);
    worker->run(note('a'), [] {});
    worker->run(note('b'), [] {});
    run_until("(a.b.c..)L");
}

TEST_CASE_METHOD(Fixture, "who waits for a job that another one gave way to hears of it before that ends") {
    bool heard = false;
    worker->run(
        [&] {
            while (!heard) expect(worker->give_way());
            order += 'l';
        },
        [] {});
    worker->run([] {}, [&] { heard = true; });
    run_until("l");
}

TEST_CASE_METHOD(Fixture, "what jobs share is given up when none is left, also while one gives way") {
    worker->when_idle(note('-'));
    worker->run(
        [&] {
            expect(worker->give_way());
            expect(worker->give_way());
            order += 'l';
        },
        [] {});
    worker->run(note('a'), [] {});
    run_until("a-l-");
}

TEST_CASE_METHOD(Fixture,
                 "a job that gives way is told of the manager's end, and nothing comes between that and the last job") {
    std::atomic<bool> begun = false;
    worker->run(
        [&] {
            begun = true;
            while (worker->give_way()) {}
            order += 'l';
        },
        [] {});
    while (!begun) {
        const TurnGiven given(turn);
    }
    REQUIRE(worker->stop(std::chrono::seconds(10), note('z')));
    REQUIRE(order == "lz");
}

}  // namespace vtpm::worker_test
