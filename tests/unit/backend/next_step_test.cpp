// SPDX-License-Identifier: Apache-2.0
// Every pair of states. What libxl and the frontends of Linux and mini-os wait for is in docs/protocol.md.
#include "backend/device/next_step.hpp"

#include <array>
#include <string>
#include "tests/catch.hpp"

namespace vtpm {
namespace {

constexpr int kStates = 9;  // kUnknown and Xen's eight

char letter(Step step) {
    switch (step) {
        case Step::kWait:
            return '.';
        case Step::kEnd:
            return 'E';
        case Step::kLeave:
            return 'L';
        case Step::kPrepare:
            return 'P';
        case Step::kOpen:
            return 'O';
        case Step::kAttachRing:
            return 'A';
        case Step::kDetachRing:
            return 'D';
        case Step::kSayInitWait:
            return '2';
        case Step::kSayConnected:
            return '4';
        case Step::kSayClosing:
            return '5';
        case Step::kSayClosed:
            return '6';
    }
    return '?';
}

// A line for each state of ours, in it a letter for each of the frontend's.
std::string table(const Progress &progress, XenbusView view = {.present = true, .online = true}) {
    std::string text;
    for (int own = 0; own < kStates; ++own) {
        text += '\n';
        for (int frontend = 0; frontend < kStates; ++frontend) {
            view.own = static_cast<XenbusState>(own);
            view.frontend = static_cast<XenbusState>(frontend);
            text += letter(next_step(view, progress));
        }
    }
    return text;
}

std::string whole(char step) {
    std::string text;
    for (int own = 0; own < kStates; ++own) text += '\n' + std::string(kStates, step);
    return text;
}

}  // namespace

TEST_CASE("a device without an engine") {
    // The frontend is:     012345678 (0: absent)
    const std::string fresh =
        "\n"
        ".........\n"  // we were refused
        "PPPPPPPPP\n"  // the toolstack has just made us
        "...OO56..\n"  // offered
        ".2.OO56..\n"  //
        ".2.OO56..\n"  //
        "LLLLLLLLL\n"  // the toolstack's order
        ".2.OO....\n"  // closed: not closing again
        ".2.OO56..\n"  //
        ".2.OO56..";
    CHECK(table({}) == fresh);
    std::string asked = fresh;
    asked.replace(asked.find("PPPPPPPPP"), kStates, ".........");
    CHECK(table({.asked = true}) == asked);
    std::string closes_itself = fresh;
    closes_itself.replace(closes_itself.find("LLLLLLLLL"), kStates, ".2.OO.6..");
    CHECK(table({.closing_is_ours = true}) == closes_itself);
}

TEST_CASE("a device whose engine is on its way") {
    const std::string waits =
        "\n"
        ".........\n"
        ".........\n"
        ".....56..\n"
        ".2...56..\n"
        ".2...56..\n"
        ".2....6..\n"
        ".2.......\n"
        ".2...56..\n"
        ".2...56..";
    for (const EngineState engine :
         {EngineState::kOpening, EngineState::kStarting, EngineState::kAdopting, EngineState::kStopping})
        CHECK(table({.asked = true, .closing_is_ours = true, .engine = engine}) == waits);
}

TEST_CASE("a device with an engine and its ring") {
    Progress runs{.asked = true, .closing_is_ours = true, .engine = EngineState::kRunning};
    CHECK(table(runs) ==
          "\n"
          ".........\n"
          ".........\n"
          "...AA56..\n"
          ".2.AA56..\n"
          ".2.AA56..\n"
          ".2.AA.6..\n"
          ".2.AA....\n"
          ".2.AA56..\n"
          ".2.AA56..");
    runs.ring = RingState::kAttached;
    runs.ring_is_current = true;
    CHECK(table(runs) ==
          "\n"
          ".........\n"
          ".........\n"
          "DDD44DDDD\n"
          "DDD44DDDD\n"
          "DDD..DDDD\n"
          "DDD44DDDD\n"
          "DDD44DDDD\n"
          "DDD44DDDD\n"
          "DDD44DDDD");
    runs.ring_is_current = false;  // the frontend has another one
    CHECK(table(runs) ==
          "\n"
          ".........\n"
          ".........\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD\n"
          "DDDDDDDDD");
    // No answer goes out before the engine has let go of the page.
    for (const RingState ring : {RingState::kAttaching, RingState::kDetaching}) {
        runs.ring = ring;
        CHECK(table(runs) == whole('.'));
    }
}

TEST_CASE("a device whose frontend has published no ring closes, and then follows it") {
    const Progress refused{
        .asked = true, .closing_is_ours = true, .engine = EngineState::kRunning, .ring = RingState::kRefused};
    CHECK(table(refused) ==
          "\n"
          ".........\n"
          ".........\n"
          "5.5555655\n"
          "525555655\n"
          "525555655\n"
          ".2....6..\n"
          ".2.......\n"
          "525555655\n"
          "525555655");
}

TEST_CASE("a device that has failed closes, and stays closed") {
    Progress failed{.asked = true, .failed = true, .closing_is_ours = true};
    const std::string closes =
        "\n"
        ".........\n"
        ".........\n"
        "565555655\n"
        "565555655\n"
        "565555655\n"
        ".6....6..\n"
        ".........\n"
        "565555655\n"
        "565555655";
    CHECK(table(failed) == closes);
    failed.engine = EngineState::kStopping;
    CHECK(table(failed) == closes);
}

TEST_CASE("the toolstack's word comes before the guest's") {
    for (const RingState ring :
         {RingState::kNone, RingState::kAttaching, RingState::kAttached, RingState::kDetaching, RingState::kRefused}) {
        std::string leaves = whole('L');
        leaves.replace(1, kStates, std::string(kStates, '.'));  // refused
        for (const bool failed : {false, true})
            CHECK(table({.asked = true, .failed = failed, .engine = EngineState::kRunning, .ring = ring},
                        {.present = true, .online = false}) == leaves);
        CHECK(table({.asked = true, .engine = EngineState::kRunning, .ring = ring}, {.present = false}) == whole('E'));
        CHECK(table({.gone = true, .engine = EngineState::kRunning, .ring = ring}) == whole('E'));
    }
}

namespace {

// For an engine that is: not there, asked for, starting, taken over, running, stopping.
std::string leaving_table(Leaving leaving) {
    std::string text;
    for (const EngineState engine : {EngineState::kNone, EngineState::kOpening, EngineState::kStarting,
                                     EngineState::kAdopting, EngineState::kRunning, EngineState::kStopping}) {
        leaving.engine = engine;
        switch (next_leaving_step(leaving)) {
            case LeavingStep::kWait:
                text += '.';
                break;
            case LeavingStep::kOpen:
                text += 'O';
                break;
            case LeavingStep::kSuspend:
                text += 'S';
                break;
            case LeavingStep::kPowerOff:
                text += 'P';
                break;
            case LeavingStep::kSayClosed:
                text += 'C';
                break;
        }
    }
    return text;
}

}  // namespace

TEST_CASE("a device that was told to leave") {
    for (const bool unused : {false, true})
        for (const bool can_store : {false, true}) {
            Leaving leaving{.has_time = true, .unused = unused, .can_store = can_store};
            CHECK(leaving_table(leaving) == "......");  // Xen does not say whether the guest was saved
            leaving.xen_answers = true;
            CHECK(leaving_table(leaving) == "CCPPP.");  // it was not
            leaving.suspended = true;
            CHECK(leaving_table(leaving) == (unused ? "O....." : can_store ? "CCS.S." : "CCS..."));
            leaving.has_time = false;
            CHECK(leaving_table(leaving) == "CCSSS.");
            leaving.suspended = false;
            CHECK(leaving_table(leaving) == "CCPPP.");
            leaving.xen_answers = false;
            CHECK(leaving_table(leaving) == "CCPPP.");
        }
}

}  // namespace vtpm
