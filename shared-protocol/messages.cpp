// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/messages.hpp"

#include <fmt/format.h>

#include <type_traits>
#include <utility>

namespace vtpm {
namespace {

// Of each channel: one more for a change that its layouts do not show.
constexpr int kMeaning = 1;

// One list of fields per message serves both directions, and their description: `io` is an Encoder, a Decoder or a
// Description. The overloads of field() say how each type travels and what it may be.

void field(Encoder &io, const std::uint32_t &value) { io.u32(value); }
void field(Encoder &io, const std::uint64_t &value) { io.u64(value); }
void field(Encoder &io, const Uuid &value) { io.uuid(value); }
void field(Encoder &io, const std::string_view &value) { io.text(value, kMaxText); }
void field(Encoder &io, const ByteView &value) { io.bytes(value); }
// A code that is none of the protocol would end the connection of its receiver.
void field(Encoder &io, const ErrorCode &value) {
    const auto number = static_cast<std::uint16_t>(value);
    io.u16(number > kErrorCodeLast ? static_cast<std::uint16_t>(ErrorCode::kRefused) : number);
}
void field(Encoder &io, const TpmVersion &value) { io.u8(static_cast<std::uint8_t>(value)); }
void field(Encoder &io, const StateKind &value) { io.u8(static_cast<std::uint8_t>(value)); }
void field(Encoder &io, const Transport &value) { io.u8(static_cast<std::uint8_t>(value)); }
void field(Encoder &io, const Beginning &value) { io.u8(static_cast<std::uint8_t>(value)); }

void field(Encoder &io, const Incarnation &value) {
    io.uuid(value.domain);
    io.u32(value.number);
}

void field(Decoder &io, std::uint32_t &value) { value = io.u32(); }
void field(Decoder &io, std::uint64_t &value) { value = io.u64(); }
void field(Decoder &io, Uuid &value) { value = io.uuid(); }
void field(Decoder &io, std::string_view &value) { value = io.text(kMaxText); }
void field(Decoder &io, ByteView &value) { value = io.bytes(kMaxState); }

void field(Decoder &io, ErrorCode &value) {
    const std::uint16_t number = io.u16();
    if (number > kErrorCodeLast) return io.reject();
    value = static_cast<ErrorCode>(number);
}

// The enumerations of the protocol all have the values 1 and 2.
template <typename Enumeration>
void one_or_two(Decoder &io, Enumeration &value) {
    const std::uint8_t number = io.u8();
    if (number != 1 && number != 2) return io.reject();
    value = static_cast<Enumeration>(number);
}
void field(Decoder &io, TpmVersion &value) { one_or_two(io, value); }
void field(Decoder &io, StateKind &value) { one_or_two(io, value); }
void field(Decoder &io, Transport &value) { one_or_two(io, value); }
void field(Decoder &io, Beginning &value) { one_or_two(io, value); }

void field(Decoder &io, Incarnation &value) {
    value.domain = io.uuid();
    value.number = io.u32();
}

struct Description {
    std::string text{};
};
template <typename Enumeration>
void field(Description &io, const Enumeration &) {
    static_assert(std::is_enum_v<Enumeration>);
    io.text += sizeof(Enumeration) == 1 ? " enum8 to 2" : " enum16";  // one_or_two(); kErrorCodeLast
}
void field(Description &io, const std::uint32_t &) { io.text += " u32"; }
void field(Description &io, const std::uint64_t &) { io.text += " u64"; }
void field(Description &io, const Uuid &) { io.text += " uuid"; }
void field(Description &io, const std::string_view &) { io.text += " text"; }
void field(Description &io, const ByteView &) { io.text += " bytes"; }
void field(Description &io, const Incarnation &) { io.text += " uuid u32"; }

template <typename Io, typename... Fields>
void all(Io &io, Fields &...fields) {
    (field(io, fields), ...);
}

// `Message` is const when encoding. Overloads are chosen by tag, so each list stands once.
template <typename M>
struct Layout;
template <>
struct Layout<PrepareVtpm> {
    static void visit(auto &io, auto &m) { all(io, m.protocol, m.uuid, m.beginning, m.launch); }
};
template <>
struct Layout<OpenVtpm> {
    static void visit(auto &io, auto &m) { all(io, m.protocol, m.state_protocol, m.uuid, m.launch, m.guest); }
};
template <>
struct Layout<VtpmAnswer> {
    static void visit(auto &io, auto &m) { all(io, m.uuid, m.code, m.version, m.text); }
};
template <>
struct Layout<LoadState> {
    static void visit(auto &io, auto &m) { all(io, m.kind); }
};
template <>
struct Layout<LoadedState> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.sequence, m.text, m.state, m.algorithms); }
};
template <>
struct Layout<StoreState> {
    static void visit(auto &io, auto &m) { all(io, m.kind, m.state); }
};
template <>
struct Layout<StoredState> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.sequence, m.text); }
};
template <>
struct Layout<ManufactureStep> {
    static void visit(auto &io, auto &m) { all(io, m.response); }
};
template <>
struct Layout<ManufactureCommand> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text, m.command); }
};
template <>
struct Layout<AskAttestation> {
    static void visit(auto &io, auto &m) { all(io, m.nonce); }
};
template <>
struct Layout<GiveAttestation> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text, m.attestation); }
};
template <>
struct Layout<PowerOn> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<PowerOnCommands> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text, m.commands); }
};
template <>
struct Layout<StartEngine> {
    static void visit(auto &io, auto &m) {
        all(io, m.engine, m.uid, m.version, m.uuid, m.domain, m.device, m.beginning, m.incarnation);
    }
};
template <>
struct Layout<EngineStarted> {
    static void visit(auto &io, auto &m) { all(io, m.engine, m.pid, m.meter); }
};
template <>
struct Layout<GiveMeters> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<EngineExited> {
    static void visit(auto &io, auto &m) { all(io, m.engine, m.wait_status); }
};
template <>
struct Layout<KillEngine> {
    static void visit(auto &io, auto &m) { all(io, m.engine); }
};
template <>
struct Layout<ReleaseEngine> {
    static void visit(auto &io, auto &m) { all(io, m.engine); }
};
template <>
struct Layout<ListEngines> {
    static void visit(auto &io, auto &m) { all(io, m.asker); }
};
template <>
struct Layout<LivingEngine> {
    static void visit(auto &io, auto &m) { all(io, m.engine, m.uid, m.pid, m.uuid, m.domain, m.device, m.meter); }
};
template <>
struct Layout<EnginesListed> {
    static void visit(auto &io, auto &m) { all(io, m.asker, m.version); }
};
template <>
struct Layout<EngineReady> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text); }
};
template <>
struct Layout<AttachRing> {
    static void visit(auto &io, auto &m) { all(io, m.transport, m.grant_index, m.port, m.ring_ref, m.event_channel); }
};
template <>
struct Layout<RingAttached> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text); }
};
template <>
struct Layout<DetachRing> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<RingDetached> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<ReplaceStateChannel> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<StateChannelStatus> {
    static void visit(auto &io, auto &m) { all(io, m.code, m.text); }
};
template <>
struct Layout<AskStatus> {
    static void visit(auto &, auto &) {}
};
template <>
struct Layout<SuspendTpm> {
    static void visit(auto &io, auto &m) { all(io, m.incarnation); }
};
template <>
struct Layout<EngineStatus> {
    static void visit(auto &io, auto &m) { all(io, m.state_channel, m.ring_ref, m.event_channel); }
};

template <>
struct Layout<AskDomain> {
    static void visit(auto &io, auto &m) { all(io, m.protocol, m.domain); }
};
template <>
struct Layout<DomainAnswer> {
    static void visit(auto &io, auto &m) { all(io, m.domain, m.code, m.text, m.flags, m.incarnation); }
};

template <typename... Messages>
std::string describe(const Messages &...messages) {
    Description all{
        fmt::format("meaning {} text {} state {} codes {}\n", kMeaning, kMaxText, kMaxState, kErrorCodeLast)};
    const auto add = [&]<typename Message>(const Message &message) {
        all.text += std::to_string(Message::kType);
        Layout<Message>::visit(all, message);
        all.text += "\n";
    };
    (add(messages), ...);
    return std::move(all.text);
}

// FNV-1a.
std::uint32_t digest(std::string_view text) {
    std::uint32_t hash = 0x811c9dc5;
    for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x01000193;
    return hash;
}

}  // namespace

std::string protocol_layout(Channel channel) {
    switch (channel) {
        case Channel::kRequests:  // without their default values, which are digests of this
            return describe(PrepareVtpm{.protocol = 0, .uuid = {}}, OpenVtpm{0, 0, {}}, VtpmAnswer{});
        case Channel::kState:
            return describe(LoadState{}, LoadedState{}, StoreState{}, StoredState{}, ManufactureStep{},
                            ManufactureCommand{}, AskAttestation{}, GiveAttestation{}, PowerOn{}, PowerOnCommands{});
        case Channel::kEngines:
            return describe(StartEngine{}, EngineStarted{}, GiveMeters{}, EngineExited{}, KillEngine{}, ReleaseEngine{},
                            ListEngines{}, LivingEngine{}, EnginesListed{}, EngineReady{}, AttachRing{}, RingAttached{},
                            DetachRing{}, RingDetached{}, ReplaceStateChannel{}, StateChannelStatus{}, AskStatus{},
                            EngineStatus{}, SuspendTpm{});
        case Channel::kDomains:
            return describe(AskDomain{0, 0}, DomainAnswer{});
    }
    return {};
}

std::uint32_t protocol_version(Channel channel) {
    static const std::array<std::uint32_t, 4> kVersions{
        digest(protocol_layout(Channel::kRequests)), digest(protocol_layout(Channel::kState)),
        digest(protocol_layout(Channel::kEngines)), digest(protocol_layout(Channel::kDomains))};
    return kVersions.at(static_cast<std::size_t>(channel));
}

std::string_view to_string(TpmVersion version) { return version == TpmVersion::k12 ? "1.2" : "2.0"; }

std::optional<TpmVersion> parse_tpm_version(std::string_view text) {
    if (text == "1.2") return TpmVersion::k12;
    if (text == "2.0") return TpmVersion::k20;
    return std::nullopt;
}

std::uint16_t message_type(ByteView datagram) { return Decoder(datagram).u16(); }

std::uint32_t requested_protocol(ByteView datagram) {
    Decoder decoder(datagram);
    (void)decoder.u16();
    return decoder.u32();
}

template <typename Message>
ByteView encode(const Message &message, MutableBytes buffer) {
    Encoder encoder(buffer);
    encoder.u16(Message::kType);
    Layout<Message>::visit(encoder, message);
    return encoder.message();
}

template <typename Message>
Result<Message> decode(ByteView datagram) {
    Decoder decoder(datagram);
    Message message;
    const bool expected = decoder.u16() == Message::kType;
    Layout<Message>::visit(decoder, message);
    if (!expected || !decoder.complete())
        return fail(ErrorCode::kInvalid, "malformed message of type {}", Message::kType);
    return message;
}

#define VTPM_INSTANTIATE(Message)                                     \
    template ByteView encode<Message>(const Message &, MutableBytes); \
    template Result<Message> decode<Message>(ByteView)
VTPM_INSTANTIATE(PrepareVtpm);
VTPM_INSTANTIATE(OpenVtpm);
VTPM_INSTANTIATE(VtpmAnswer);
VTPM_INSTANTIATE(LoadState);
VTPM_INSTANTIATE(LoadedState);
VTPM_INSTANTIATE(StoreState);
VTPM_INSTANTIATE(StoredState);
VTPM_INSTANTIATE(ManufactureStep);
VTPM_INSTANTIATE(ManufactureCommand);
VTPM_INSTANTIATE(AskAttestation);
VTPM_INSTANTIATE(GiveAttestation);
VTPM_INSTANTIATE(PowerOn);
VTPM_INSTANTIATE(PowerOnCommands);
VTPM_INSTANTIATE(StartEngine);
VTPM_INSTANTIATE(EngineStarted);
VTPM_INSTANTIATE(GiveMeters);
VTPM_INSTANTIATE(EngineExited);
VTPM_INSTANTIATE(KillEngine);
VTPM_INSTANTIATE(ReleaseEngine);
VTPM_INSTANTIATE(ListEngines);
VTPM_INSTANTIATE(LivingEngine);
VTPM_INSTANTIATE(EnginesListed);
VTPM_INSTANTIATE(EngineReady);
VTPM_INSTANTIATE(AttachRing);
VTPM_INSTANTIATE(RingAttached);
VTPM_INSTANTIATE(DetachRing);
VTPM_INSTANTIATE(RingDetached);
VTPM_INSTANTIATE(ReplaceStateChannel);
VTPM_INSTANTIATE(StateChannelStatus);
VTPM_INSTANTIATE(AskStatus);
VTPM_INSTANTIATE(EngineStatus);
VTPM_INSTANTIATE(SuspendTpm);
VTPM_INSTANTIATE(AskDomain);
VTPM_INSTANTIATE(DomainAnswer);

}  // namespace vtpm
