// SPDX-License-Identifier: Apache-2.0
// A datagram of any process to any other: what decodes has one encoding, the datagram itself.
#include "shared-protocol/messages.hpp"

#include <algorithm>

namespace vtpm {
namespace {

template <typename Message>
void round_trip(ByteView datagram) {
    const auto message = decode<Message>(datagram);
    if (!message) return;
    require(message_type(datagram) == Message::kType, "a message has its own type");
    Bytes buffer(kMaxMessage);
    require(std::ranges::equal(encode(*message, buffer), datagram), "one message, one encoding");
}

template <typename... Messages>
void round_trips(ByteView datagram) {
    (round_trip<Messages>(datagram), ...);
}

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    round_trips<PrepareVtpm, OpenVtpm, VtpmAnswer, LoadState, LoadedState, StoreState, StoredState, ManufactureStep,
                ManufactureCommand, AskAttestation, GiveAttestation, PowerOn, PowerOnCommands, StartEngine,
                EngineStarted, GiveMeters, EngineExited, KillEngine, ReleaseEngine, ListEngines, LivingEngine,
                EnginesListed, EngineReady, AttachRing, RingAttached, DetachRing, RingDetached, ReplaceStateChannel,
                StateChannelStatus, AskStatus, EngineStatus, SuspendTpm>({data, size});
    return 0;
}
