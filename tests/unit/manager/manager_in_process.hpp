// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "edited.hpp"
#include "expect.hpp"
#include "fake_sealer.hpp"
#include "manager/groups/inventory.hpp"
#include "manager/store/sqlite_store.hpp"
#include "manager/vtpm/vtpms.hpp"

// A manager without its sockets, and with a loop that the test turns. Not unlocked yet; destroyed without
// keys.close(), it has crashed.
struct ManagerInProcess {
    vtpm::EventLoop loop = expect(vtpm::EventLoop::create());
    vtpm::Turn threads;
    std::unique_ptr<vtpm::Worker> worker = expect(vtpm::Worker::start(loop, threads));
    vtpm::SqliteStore store;
    std::function<void()> between;  // the steps of what takes long
    bool ends = false;              // which is cut then
    vtpm::GroupKeys keys;
    vtpm::Inventory inventory{store, keys};
    vtpm::GroupCommit commit{loop, inventory};
    vtpm::CertificateAuthorities authorities{keys, inventory, true};
    vtpm::Attestor attestor{store, keys, authorities};
    vtpm::GuestAttestations attestations{*worker, attestor, true};
    vtpm::HostPcrs host_pcrs{loop, *worker, keys, {}};
    vtpm::LaunchApprovals approvals{store, keys};
    vtpm::StateServices services{loop,      store,   inventory,    commit,   authorities,
                                 host_pcrs, *worker, attestations, approvals};
    vtpm::CreationPolicy creation;
    vtpm::Vtpms vtpms{services, keys, creation};

    // `vfs`: as SqliteStore::open() takes it.
    ManagerInProcess(const std::string &directory, FakeTpm &tpm, const char *vfs = nullptr)
        : ManagerInProcess(expect(vtpm::SqliteStore::open(directory, vfs)), tpm) {}
    ManagerInProcess(vtpm::SqliteStore opened, FakeTpm &tpm)
        : store(std::move(opened)), keys(store, "tpm", tpm.opener(), {}, [this] {
              if (between) between();
              return ends ? vtpm::fail(vtpm::ErrorCode::kUnavailable, "the manager ends") : vtpm::Result<>();
          }) {}

    // Until the worker has done what it was given.
    void work() {
        bool done = false;
        worker->run([] {}, [&] { done = true; }, vtpm::Worker::Haste::kNone);
        while (!done) {
            { const vtpm::TurnGiven given(threads); }
            sd_event_run(loop.raw(), 1000);
        }
    }
    // Until nothing is ready any more, nor becomes so in that time.
    void turn(std::uint64_t microseconds = 20'000) {
        while (sd_event_run(loop.raw(), microseconds) > 0) {}
    }
};
