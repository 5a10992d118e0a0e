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
    const auto unlocked = std::make_shared<Result<>>();
    worker_.run([this, unlocked] { *unlocked = keys_.unlock(); },
                [this, unlocked] {
                    tell(*unlocked);
                    attempted();
                });
}

void Unlocker::tell(const Result<> &unlocked) {
    if (unlocked) {
        log::info("group keys unsealed by {}", keys_.sealer_description());
        tell_systemd("ready: sealed to " + keys_.sealer_description());
        return;
    }
    log::error("no vTPM can be opened: {}", unlocked.error().text);
    tell_systemd("refusing: " + unlocked.error().text);
    // A refusal is an answer: another one needs another TPM, another boot or another configuration, so a restart.
    if (unlocked.error().code != ErrorCode::kRefused) try_later();
}

void Unlocker::try_later() {
    auto source = loop_.after(wait_, [this] { attempt(); });
    if (!source) return log::error("no further attempt: {}", source.error().text);
    retry_ = std::move(*source);
    wait_ = std::min(2 * wait_, kLongestWait);
}

}  // namespace vtpm
