// SPDX-License-Identifier: Apache-2.0
#include "manager/unlocker.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>

#include "base/log.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::milliseconds kLongestWait = std::chrono::seconds(30);
constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(20);  // less than systemd's

void tell_systemd(const std::string &status) { (void)sd_notify(0, ("STATUS=" + status).c_str()); }

}  // namespace

void Unlocker::start(std::function<void()> attempted) {
    attempted_ = std::move(attempted);
    if (auto source = loop_.after(kPatience, [this] { this->attempted(); })) patience_ = std::move(*source);
    attempt();
}

void Unlocker::attempted() {
    patience_.reset();
    if (const auto callback = std::exchange(attempted_, nullptr)) callback();
}

void Unlocker::attempt() {
    retry_.reset();
    worker_.run([this] { (void)keys_.unlock(); },
                [this] {
                    look();
                    attempted();
                });
}

// A refusal is an answer: when there may be another one, the administrator knows it (xen-vtpm group open).
void Unlocker::look() {
    tell();
    merge();
    if (!keys_.waits()) {
        retry_.reset();
        wait_ = kFirstWait;
    } else if (!retry_) {
        try_later();
    }
}

// Not before we are ready: the store reads through what is not done yet.
void Unlocker::merge() {
    if (merging_) return;
    const auto staged = keys_.has_staged();
    if (!staged || !*staged) return;
    merging_ = true;
    const auto job = [this] {
        if (const auto merged = keys_.merge_staged(); !merged)
            log::warning("what a rekey left to be done is left still: {}", merged.error().text);
    };
    worker_.run(
        job, [this] { merging_ = false; }, Worker::Haste::kNone);
}

void Unlocker::tell() {
    const Result<> &state = keys_.state();
    std::string status = state ? "ready: sealed to " + keys_.sealer_description() : "refusing: " + state.error().text;
    if (status == told_) return;
    if (state)
        log::info("group keys unsealed by {}", keys_.sealer_description());
    else
        log::error("no vTPM can be opened: {}", state.error().text);
    tell_systemd(status);
    told_ = std::move(status);
}

void Unlocker::try_later() {
    auto source = loop_.after(wait_, [this] { attempt(); });
    if (!source) return log::error("no further attempt: {}", source.error().text);
    retry_ = std::move(*source);
    wait_ = std::min(2 * wait_, kLongestWait);
}

}  // namespace vtpm
