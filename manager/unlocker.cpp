// SPDX-License-Identifier: Apache-2.0
#include "manager/unlocker.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>

#include "base/log.hpp"

namespace vtpm {
namespace {

constexpr std::chrono::milliseconds kLongestWait = std::chrono::seconds(30);

void tell_systemd(const std::string &status) { (void)sd_notify(0, ("STATUS=" + status).c_str()); }

}  // namespace

void Unlocker::attempt() {
    const Result<> unlocked = keys_.unlock();
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
