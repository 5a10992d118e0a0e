// SPDX-License-Identifier: Apache-2.0
#include "manager/groups/worker.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace vtpm {

// While the TPM has the word.
class TpmTalk {
public:
    explicit TpmTalk(Worker &worker) : worker_(worker), given_(worker.turn_) { set(Worker::Clock::now()); }
    TpmTalk(const TpmTalk &) = delete;
    TpmTalk &operator=(const TpmTalk &) = delete;
    ~TpmTalk() { set(std::nullopt); }

private:
    void set(std::optional<Worker::Clock::time_point> since) {
        const std::lock_guard lock(worker_.mutex_);
        worker_.waiting_since_ = since;
    }
    Worker &worker_;
    TurnGiven given_;
};

namespace {

class PatientSealer final : public Sealer {
public:
    PatientSealer(Worker &worker, std::unique_ptr<Sealer> sealer) : worker_(worker), sealer_(std::move(sealer)) {}
    ~PatientSealer() override {
        const TpmTalk talk(worker_);  // it flushes what it loaded
        sealer_.reset();
    }
    PatientSealer(const PatientSealer &) = delete;
    PatientSealer &operator=(const PatientSealer &) = delete;

    [[nodiscard]] ByteView identity() const override { return sealer_->identity(); }
    [[nodiscard]] std::string_view sealing() const override { return sealer_->sealing(); }
    [[nodiscard]] std::string description() const override { return sealer_->description(); }
    [[nodiscard]] bool has_signing_keys() const override { return sealer_->has_signing_keys(); }
    [[nodiscard]] std::uint32_t other_index(std::uint32_t index) const override { return sealer_->other_index(index); }

    Result<SealedObject> seal(const Key &key, const KeyPolicy &policy, Opens opens) override {
        const TpmTalk talk(worker_);
        return sealer_->seal(key, policy, opens);
    }
    Result<> advance(const SealedObject &object, const KeyPolicy &policy) override {
        const TpmTalk talk(worker_);
        return sealer_->advance(object, policy);
    }
    Result<Key> unseal(const SealedObject &object, const KeyPolicy &policy,
                       const std::vector<BootPolicy> &approvals) override {
        const TpmTalk talk(worker_);
        return sealer_->unseal(object, policy, approvals);
    }
    Result<> require_approved(const KeyPolicy &policy, const std::vector<BootPolicy> &approvals) override {
        const TpmTalk talk(worker_);
        return sealer_->require_approved(policy, approvals);
    }
    Result<PcrValues> read(const PcrSelection &pcrs) override {
        const TpmTalk talk(worker_);
        return sealer_->read(pcrs);
    }
    Result<SecretBytes> random(std::size_t size) override {
        const TpmTalk talk(worker_);
        return sealer_->random(size);
    }
    Result<TpmKey> create_signing_key(const Key &authorization) override {
        const TpmTalk talk(worker_);
        return sealer_->create_signing_key(authorization);
    }
    Result<TpmKey> change_authorization(const TpmKey &key, const Key &former, const Key &next) override {
        const TpmTalk talk(worker_);
        return sealer_->change_authorization(key, former, next);
    }
    Result<Bytes> sign(const TpmKey &key, const Key &authorization, ByteView digest) override {
        const TpmTalk talk(worker_);
        return sealer_->sign(key, authorization, digest);
    }
    Result<HostIdentity> host(std::optional<EkTemplate> wanted) override {
        const TpmTalk talk(worker_);
        return sealer_->host(wanted);
    }
    Result<SecretBytes> activate(const Credential &credential) override {
        const TpmTalk talk(worker_);
        return sealer_->activate(credential);
    }
    Result<HostEvidence> attest(const PcrSelection &pcrs, const TpmKey &ca, const Key &ca_authorization,
                                ByteView data) override {
        const TpmTalk talk(worker_);
        return sealer_->attest(pcrs, ca, ca_authorization, data);
    }
    Result<std::uint32_t> free_index(const std::vector<std::uint32_t> &taken) override {
        const TpmTalk talk(worker_);
        return sealer_->free_index(taken);
    }
    Result<std::vector<std::uint32_t>> used_indices() override {
        const TpmTalk talk(worker_);
        return sealer_->used_indices();
    }
    Result<SecretBytes> read_epoch(std::uint32_t index, const Key &authorization) override {
        const TpmTalk talk(worker_);
        return sealer_->read_epoch(index, authorization);
    }
    Result<> write_epoch(std::uint32_t index, const Key &authorization, ByteView epoch) override {
        const TpmTalk talk(worker_);
        return sealer_->write_epoch(index, authorization, epoch);
    }
    Result<> remove_epoch(std::uint32_t index) override {
        const TpmTalk talk(worker_);
        return sealer_->remove_epoch(index);
    }
    Result<> remove_counter(std::uint32_t index) override {
        const TpmTalk talk(worker_);
        return sealer_->remove_counter(index);
    }

private:
    Worker &worker_;
    std::unique_ptr<Sealer> sealer_;
};

}  // namespace

Result<std::unique_ptr<Worker>> Worker::start(EventLoop &loop, Turn &turn) {
    UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) return fail_errno("eventfd");
    std::unique_ptr<Worker> worker(new Worker(turn, std::move(wake)));
    Worker *const self = worker.get();
    VTPM_ASSIGN(worker->done_source_, loop.on_readable(worker->wake_.get(), [self] { self->finish(); }));
    worker->thread_ = std::thread([self] { self->work(); });
    return worker;
}

Worker::~Worker() {
    (void)stop(std::chrono::milliseconds(0));
    const TurnGiven given(turn_);
    thread_.join();
}

bool Worker::stop(std::chrono::milliseconds limit, std::function<void()> last) {
    const TurnGiven given(turn_);
    std::unique_lock lock(mutex_);
    ending_ = true;
    waiting_.clear();
    later_.clear();
    if (last) waiting_.push_back({std::move(last), [] {}});
    changed_.notify_all();
    return changed_.wait_for(lock, limit, [&] { return !busy_ && waiting_.empty(); });
}

void Worker::run(std::function<void()> job, std::function<void()> done, Haste haste) {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    (haste == Haste::kNone ? later_ : waiting_).push_back({std::move(job), std::move(done)});
    changed_.notify_all();
}

void Worker::when_idle(std::function<void()> rest) {
    const std::lock_guard lock(mutex_);
    rest_ = std::move(rest);
}

std::optional<Worker::Clock::time_point> Worker::waiting_since() const {
    const std::lock_guard lock(mutex_);
    return waiting_since_;
}

OpenSealer Worker::giving_the_turn(OpenSealer opener) {
    return [this, opener = std::move(opener)](ByteView pinned) -> Result<std::unique_ptr<Sealer>> {
        Result<std::unique_ptr<Sealer>> opened = [&] {
            const TpmTalk talk(*this);
            return opener(pinned);
        }();
        if (!opened) return opened;
        return std::make_unique<PatientSealer>(*this, std::move(*opened));
    };
}

// Nothing: none waits.
std::optional<Worker::Job> Worker::next_job() {
    std::deque<Job> &jobs = waiting_.empty() ? later_ : waiting_;
    if (jobs.empty()) return std::nullopt;
    Job job = std::move(jobs.front());
    jobs.pop_front();
    return job;
}

void Worker::perform(Job job, std::unique_lock<std::mutex> &lock) {
    lock.unlock();
    turn_.take();
    job.work();
    job.work = nullptr;  // what it held goes in its turn, too
    turn_.give();
    lock.lock();
    if (waiting_.empty() && later_.empty() && rest_) {
        waiting_since_ = Clock::now();
        lock.unlock();
        rest_();
        lock.lock();
        waiting_since_.reset();
    }
    done_.push_back(std::move(job.done));
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
}

// The thread.
void Worker::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return ending_ || !waiting_.empty() || !later_.empty(); });
        auto job = next_job();
        if (!job) return;
        busy_ = true;
        perform(std::move(*job), lock);
        busy_ = false;
        changed_.notify_all();
    }
}

Result<> Worker::give_way() {
    const TurnGiven given(turn_);
    std::unique_lock lock(mutex_);
    if (ending_) return fail(ErrorCode::kUnavailable, "the manager ends");
    if (auto job = next_job()) perform(std::move(*job), lock);
    return {};
}

// In the loop.
void Worker::finish() {
    std::uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
    std::deque<std::function<void()>> done;
    {
        const std::lock_guard lock(mutex_);
        done.swap(done_);
    }
    for (const auto &callback : done) callback();
}

}  // namespace vtpm
