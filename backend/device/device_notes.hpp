// SPDX-License-Identifier: Apache-2.0
// What a daemon has to tell the next one of a device: in the backend's directory, which a guest cannot write.
#pragma once

#include <string>

#include "backend/xen/xenstore.hpp"

namespace vtpm {

class DeviceNotes {
public:
    // A TPM was ready for this device. A daemon that finds it without an engine knows that the PCRs are lost.
    static constexpr const char *kPoweredOn = "powered-on";
    // This device came with a domain that was restored, which only a look before it first runs can tell.
    static constexpr const char *kRestored = "restored";
    // This device came with a domain that was about to run what was measured. One that is attached later shows no
    // launch: whoever runs by then may be somebody else.
    static constexpr const char *kLaunched = "launched";

    // `directory`: the backend's. `xenstore` outlives it.
    DeviceNotes(Xenstore &xenstore, std::string directory) : xenstore_(xenstore), directory_(std::move(directory)) {}

    [[nodiscard]] bool has(const char *note) const { return xenstore_.read(path(note)).has_value(); }
    // Whether it is there now: not, if the toolstack has removed the device, or has put another one in its place since
    // it was `seen`.
    [[nodiscard]] bool add(const char *note, const Xenstore::Seen &seen) {
        const auto noted = xenstore_.update(directory_, seen, note, "1");
        return noted && *noted;
    }
    // A former daemon that noted it, and was killed before it offered the device, may have met another guest here.
    [[nodiscard]] bool set(const char *note, bool holds, const Xenstore::Seen &seen) {
        if (holds) return xenstore_.update(directory_, seen, note, "1").has_value();
        return !has(note) || xenstore_.remove(path(note)).has_value();
    }

private:
    [[nodiscard]] std::string path(const char *note) const { return directory_ + "/" + note; }

    Xenstore &xenstore_;
    std::string directory_;
};

}  // namespace vtpm
