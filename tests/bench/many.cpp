// SPDX-License-Identifier: Apache-2.0
// A store of many vTPMs beside one of a hundred: how long the manager takes until it is ready, what status and list
// take, its memory, what a durable change of one guest costs, and what another key for the group does.
//
//   VTPMS=N many      prints JSON in a line: times in seconds, memory in KiB
#include <unistd.h>
#include <algorithm>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>

#include "manager/groups/drafts.hpp"
#include "manager/groups/file_sealer.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/store/sqlite_store.hpp"
#include "manager/vtpm/stored_state.hpp"
#include "tests/bench/figures.hpp"
#include "tests/catch.hpp"
#include "tests/integration/manager/manager_process.hpp"

namespace vtpm {
namespace {

constexpr std::size_t kState = 6'000;        // what libtpms 0.9 stores of a TPM 2.0 with certificates
constexpr std::size_t kEndorsement = 3'900;  // three keys and their certificates
constexpr std::size_t kAtOnce = 1'000;
constexpr std::size_t kRunning = 200;  // while the group gets another key, at most

double median(std::vector<double> values) {
    std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
    return values[values.size() / 2];
}

// As the manager leaves it, made in this process: a store, its key and its vTPMs.
std::vector<Uuid> fill(const std::string &directory, std::size_t count) {
    SqliteStore store = expect(SqliteStore::open(directory));
    GroupKeys keys(store, "file",
                   [path = directory + "/sealing.key"](ByteView pinned) { return open_file_sealer(path, pinned); });
    expect(keys.unlock());
    const Key &group_key = **keys.key("default");
    std::vector<Uuid> all;
    while (all.size() < count)
        expect(commit(store, [&](Change &change, Drafts &drafts) -> Result<> {
            Manifest::Draft &rows = drafts.of("default", *expect(keys.manifest("default")));
            for (std::size_t i = 0; i < kAtOnce && all.size() < count; ++i) {
                VtpmRecord vtpm;
                vtpm.uuid = all.emplace_back(Uuid::random());
                vtpm.group = "default";
                const VtpmIdentity identity{vtpm.uuid, vtpm.version, vtpm.group};
                const Key key = expect(random_key());
                vtpm.wrapped_key = expect(wrap_key(group_key, identity, {}, key));
                Bytes state(kState);
                expect(random_bytes(state));
                StateWrite write{vtpm.uuid,
                                 vtpm.group,
                                 StateKind::kPermanent,
                                 1,
                                 expect(seal_state(key, identity, StateKind::kPermanent, 1, state)),
                                 Bytes(kEndorsement, 0)};
                change.add(InsertVtpm{vtpm});
                expect(rows.put(vtpm));
                expect(rows.put(write));
                change.add(std::make_shared<const StateWrite>(std::move(write)));
            }
            return {};
        }));
    keys.close();
    ::sync();  // what the measurement writes is to wait for nothing else
    return all;
}

class Host {
public:
    explicit Host(std::size_t count) {
        (void)place_.write_config();
        vtpms_ = fill(place_.state_directory(), count);
    }
    void start() {
        figures_["start"] = time([&] { manager_.emplace(place_); });
        figures_["start, processor"] = cpu_seconds({manager_->pid()});
        figures_["memory"] = memory_kib("Rss", {manager_->pid()});
        std::vector<double> times;
        for (int i = 0; i < 10; ++i) times.push_back(time([&] { ask("status"); }));
        figures_["status"] = median(times);
        engine_.emplace(BackendEnd(place_.socket()).open(vtpms_.front()));
    }
    void store() {
        const double before = cpu_seconds({manager_->pid()});
        const std::size_t stored = changes_.size();
        for (const auto began = Clock::now(); seconds_since(began) < 1;)
            changes_.push_back(time([&] { store_once(); }));
        processor_.push_back((cpu_seconds({manager_->pid()}) - before) / static_cast<double>(changes_.size() - stored));
    }
    // The guest goes on, and others run.
    void rekey() {
        BackendEnd backend(place_.socket());
        std::vector<EngineEnd> running;
        for (std::size_t i = 1; i < vtpms_.size() && i < kRunning; ++i) running.push_back(backend.open(vtpms_[i]));
        std::atomic<bool> done{false};
        double took = 0;
        const std::jthread rekeys([&] {
            took = time([&] { ask("group", "rekey", "default"); });
            done = true;
        });
        std::vector<double> changes;
        std::uint64_t memory = 0;
        while (!done) {
            changes.push_back(time([&] { store_once(); }));
            // To look at it takes a while, and holds the process up.
            if (changes.size() % 100 == 1) memory = std::max(memory, memory_kib("Rss", {manager_->pid()}));
        }
        figures_["rekey"] = took;
        figures_["rekey, a change"] = median(changes);
        figures_["rekey, the longest change"] = std::ranges::max(changes);
        figures_["rekey, memory"] = memory;
    }
    nlohmann::json end() {
        figures_["change"] = median(changes_);
        figures_["change, processor"] = median(processor_);
        figures_["list"] = time([&] { ask("list"); });
        figures_["memory, after list"] = memory_kib("Rss", {manager_->pid()});
        engine_->close();
        figures_["end"] = time([&] { manager_->end(SIGTERM); });
        return figures_;
    }

private:
    static double time(const std::function<void()> &work) {
        const auto began = Clock::now();
        work();
        return seconds_since(began);
    }
    void store_once() {
        engine_->store(Bytes(kState, ++content_));
        REQUIRE(engine_->receive<StoredState>().code == ErrorCode::kNone);
    }
    template <typename... Words>
    void ask(const Words &...words) const {
        // The status is not 0 where nobody serves guests.
        const Output answer = cli(bus_.address(), {"--json", words...});
        if (answer.out.empty()) throw std::runtime_error(answer.err);
    }

    TemporaryDirectory directory_{std::filesystem::current_path()};  // on a disk
    PrivateBus bus_{directory_ / "bus"};
    ManagerPlace place_{directory_, "", bus_.address(), "sealing = \"file\"\n"};
    std::vector<Uuid> vtpms_;
    std::optional<ManagerProcess> manager_;
    std::optional<EngineEnd> engine_;
    nlohmann::json figures_;
    std::uint8_t content_ = 0;
    std::vector<double> changes_;
    std::vector<double> processor_;
};

}  // namespace
}  // namespace vtpm

TEST_CASE("many") {
    using namespace vtpm;
    Host few(100);
    Host many(size_of("VTPMS", 100'000));
    for (Host *host : {&few, &many}) host->start();
    for (int turn = 0; turn < 5; ++turn)
        for (Host *host : {&few, &many}) host->store();
    for (Host *host : {&few, &many}) host->rekey();
    print({{"few", few.end()}, {"many", many.end()}});
}
