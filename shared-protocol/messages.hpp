// SPDX-License-Identifier: Apache-2.0
// The messages between the processes; docs/protocol.md is their specification. Each is one SOCK_SEQPACKET datagram:
// a 16-bit type, then the fields in the order of declaration. Views borrow from the datagram that was decoded.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/seqpacket.hpp"
#include "base/uuid.hpp"
#include "shared-protocol/codec.hpp"

namespace vtpm {

// Who speaks with whom: each of these pairs has a version of its own, since they are upgraded at different times.
enum class Channel {
    kRequests,  // backend to manager
    kState,     // engine to manager. An engine is older than a backend that took it over.
    kEngines,   // backend with zygote and engine
    kDomains,   // backend to xen-vtpm-domains
};

// A digest of the channel's messages, their fields and bounds: whoever changes one of these gives it another version. A
// change of meaning alone is a change of kMeaning (messages.cpp).
std::uint32_t protocol_version(Channel channel);
// What is digested, a message a line: "17 u16 u64 text bytes text".
std::string protocol_layout(Channel channel);

// Bounds. libtpms' permanent state of a TPM 2.0 is at most 128 KiB of NV plus its administration.
constexpr std::size_t kMaxText = 512;
constexpr std::size_t kMaxGuestName = 128;  // of a longer one, so much is told
constexpr std::size_t kMaxState = 256UL * 1024;
constexpr std::size_t kMaxLaunchLog = 64UL * 1024;
constexpr std::size_t kMaxSmallMessage = 1024;  // every message but the requests and those of the state channel
constexpr std::size_t kMaxRequest = kMaxLaunchLog + kMaxSmallMessage;  // every message of Channel::kRequests
constexpr std::size_t kMaxMessage = kMaxState + 1024;                  // every message

enum class TpmVersion : std::uint8_t { k12 = 1, k20 = 2 };

std::string_view to_string(TpmVersion version);  // "1.2", "2.0"
std::optional<TpmVersion> parse_tpm_version(std::string_view text);

// Which of a vTPM's states: TCG "permanent" (NV, seeds, hierarchies) or "volatile" (PCRs, sessions, objects).
enum class StateKind : std::uint8_t { kPermanent = 1, kVolatile = 2 };

// Of an engine: a power cycle of its TPM, or what follows SuspendTpm.
enum class Beginning : std::uint8_t { kPowerOn = 1, kResume = 2 };

// Of a domain: Xen's handle of it, which is the same in all its lives, and the how many-th life this is. One that is
// restored is of the next.
struct Incarnation {
    Uuid domain;
    std::uint32_t number = 0;
};

enum class Transport : std::uint8_t {
    kXen = 1,       // grant page and event channel
    kLoopback = 2,  // memfd and two eventfds: tests and benchmarks on a host without Xen
};

// ---- backend -> manager, /run/xen-vtpm/manager.sock ----------------------------------------------------------------

// The first field of both requests, and VtpmAnswer, are the same in all versions: so that a refusal can be told.

// May this vTPM be attached? Answered by VtpmAnswer without a descriptor. kPowerOn: creates it if it is unknown and
// auto_create is on; and ends a volatile state, since a guest that is started anew will not be restored any more.
struct PrepareVtpm {
    static constexpr std::uint16_t kType = 1;
    std::uint32_t protocol = protocol_version(Channel::kRequests);
    Uuid uuid;
    Beginning beginning = Beginning::kPowerOn;
    ByteView launch{};  // as in OpenVtpm: so that what that would refuse is refused here
};

// Start using it. Answered by VtpmAnswer with the state channel as its descriptor. The vTPM is in use until the
// channel is closed.
struct OpenVtpm {
    static constexpr std::uint16_t kType = 2;
    std::uint32_t protocol = protocol_version(Channel::kRequests);
    std::uint32_t state_protocol = protocol_version(Channel::kState);  // of the engine that will use it
    Uuid uuid;
    ByteView launch{};  // the log of its guest's launch (launch/event_log.hpp), for PowerOn; empty: nobody measured it
    std::string_view guest{};  // its name, as xenstore has it; empty: it has none
};

struct VtpmAnswer {
    static constexpr std::uint16_t kType = 3;
    Uuid uuid;
    ErrorCode code = ErrorCode::kNone;
    TpmVersion version = TpmVersion::k20;
    std::string_view text;
};

// ---- engine <-> manager, the state channel; one request at a time ----

struct LoadState {
    static constexpr std::uint16_t kType = 16;
    StateKind kind = StateKind::kPermanent;
};

// code kNone: `state` is what was stored last. kNotFound: the inventory says that nothing was ever stored: a new TPM
// may be made, with these algorithms only, as libtpms names them (empty: all). Anything else: stop.
struct LoadedState {
    static constexpr std::uint16_t kType = 17;
    ErrorCode code = ErrorCode::kNone;
    std::uint64_t sequence = 0;  // of the last stored state; 0 if there was none
    std::string_view text;
    ByteView state;
    std::string_view algorithms{};
};

struct StoreState {
    static constexpr std::uint16_t kType = 18;
    StateKind kind = StateKind::kPermanent;
    ByteView state;
};

// code kNone: the state is durable.
struct StoredState {
    static constexpr std::uint16_t kType = 19;
    ErrorCode code = ErrorCode::kNone;
    std::uint64_t sequence = 0;
    std::string_view text;
};

// A new TPM 2.0: the manager says what its manufacturer does to it, one command after the other. `response` is the one
// to the former command; empty: this is the first. Only while nothing was ever stored.
struct ManufactureStep {
    static constexpr std::uint16_t kType = 20;
    ByteView response;
};

// code kNone and no command: it is done. Any other code: stop.
struct ManufactureCommand {
    static constexpr std::uint16_t kType = 21;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
    ByteView command;
};

// The guest wants an attestation of its vTPM. The manager never lets it wait: kUnavailable says to ask again.
struct AskAttestation {
    static constexpr std::uint16_t kType = 22;
    ByteView nonce;
};

struct GiveAttestation {
    static constexpr std::uint16_t kType = 23;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
    ByteView attestation;
};

// A TPM is powered on: its state is loaded, its guest does not have it yet. What does the host do to it? Once per
// channel; a channel that takes another's place while the TPM runs is not asked.
struct PowerOn {
    static constexpr std::uint16_t kType = 24;
};

// code kNone: TPM commands, one after the other, to be executed after the start-up; each must succeed, and there may be
// none. Before all that, if `text` is kReissueFirst, ManufactureStep leads to commands that issue its certificates
// again: what fails of that leaves those that it has. (In the text, so that engines of before, which run, are
// understood.) The first command may be kGiveEventLog (event_log_command.hpp), which is for the engine itself. Any
// other code: stop, no guest may have this TPM now.
struct PowerOnCommands {
    static constexpr std::uint16_t kType = 25;
    static constexpr std::string_view kReissueFirst = "reissue";
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
    ByteView commands;
};

// ---- backend <-> zygote --------------------------------------------------------------------------------------------

constexpr std::uint32_t kNoMeter = 0xffffffff;

// With both ends of its control socket, its state channel, and perhaps cgroup.procs of the control group that it enters
// (the fourth). The zygote keeps the backend's end too: an engine outlives the backend that started it.
struct StartEngine {
    static constexpr std::uint16_t kType = 32;
    std::uint32_t engine = 0;  // the backend's number for it, never reused
    std::uint32_t uid = 0;     // user and group it runs as
    TpmVersion version = TpmVersion::k20;
    Uuid uuid;
    std::uint32_t domain = 0;  // for whom: the zygote only remembers these two
    std::uint32_t device = 0;
    Beginning beginning = Beginning::kPowerOn;
    Incarnation incarnation;  // of the domain; kResume: that of SuspendTpm was the one before
};

// So that people and the journal can name the process.
struct EngineStarted {
    static constexpr std::uint16_t kType = 35;
    std::uint32_t engine = 0;
    std::uint32_t pid = 0;
    std::uint32_t meter = kNoMeter;  // which page of GiveMeters' file it counts on
};

// With the file of its engines' meters (meter.hpp), to be read only: when the zygote has come up, and before each
// answer to ListEngines.
struct GiveMeters {
    static constexpr std::uint16_t kType = 40;
};

struct EngineExited {
    static constexpr std::uint16_t kType = 33;
    std::uint32_t engine = 0;
    std::uint32_t wait_status = 0;  // wait(2)
};

// An exit status: 1 is an error that the engine has told.
constexpr int kCommandTookTooLong = 3;
// The zygote could not start it for want of memory, descriptors or processes.
constexpr int kCouldNotStart = 4;

// Ends an engine that does not answer: SIGKILL by its parent, which alone knows that the pid is still its.
struct KillEngine {
    static constexpr std::uint16_t kType = 34;
    std::uint32_t engine = 0;
};

// The zygote closes its copy of the control socket; when the backend's is closed too, the engine ends.
struct ReleaseEngine {
    static constexpr std::uint16_t kType = 36;
    std::uint32_t engine = 0;
};

// A new backend asks what a former one has left: as many LivingEngine as there are, then EnginesListed. What the former
// one has not read comes first.
struct ListEngines {
    static constexpr std::uint16_t kType = 37;
    std::uint32_t asker = 0;  // its pid: a former one may have asked, and not have read the answer
};

// With the backend's end of the control socket, unless it was released: the engine is then about to end.
struct LivingEngine {
    static constexpr std::uint16_t kType = 38;
    std::uint32_t engine = 0;
    std::uint32_t uid = 0;
    std::uint32_t pid = 0;
    Uuid uuid;
    std::uint32_t domain = 0;
    std::uint32_t device = 0;
    std::uint32_t meter = kNoMeter;
};

struct EnginesListed {
    static constexpr std::uint16_t kType = 39;
    std::uint32_t asker = 0;
    std::string_view version;  // of the program
};

// ---- backend <-> engine, the control socket. Its end means: shut the TPM down and exit. ----

struct EngineReady {
    static constexpr std::uint16_t kType = 48;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
};

// With descriptors. kXen: gntdev (with the grant entered at `grant_index`), evtchn (with `port` bound).
// kLoopback: memfd of the page, eventfd to wait on, eventfd to notify by.
struct AttachRing {
    static constexpr std::uint16_t kType = 49;
    Transport transport = Transport::kXen;
    std::uint64_t grant_index = 0;
    std::uint32_t port = 0;
    std::uint32_t ring_ref = 0;  // the guest's numbers, to be remembered for EngineStatus
    std::uint32_t event_channel = 0;
};

struct RingAttached {
    static constexpr std::uint16_t kType = 50;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
};

struct DetachRing {
    static constexpr std::uint16_t kType = 51;
};

struct RingDetached {
    static constexpr std::uint16_t kType = 52;
};

// With one descriptor: the state channel to use from now on, after the manager was restarted.
struct ReplaceStateChannel {
    static constexpr std::uint16_t kType = 53;
};

// What became of ReplaceStateChannel, or: the present channel is no longer of use (code is not kNone).
struct StateChannelStatus {
    static constexpr std::uint16_t kType = 54;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text;
};

// A new backend asks; the answer comes when the engine is ready. What it has told the former one may come before.
struct AskStatus {
    static constexpr std::uint16_t kType = 55;
};

struct EngineStatus {
    static constexpr std::uint16_t kType = 56;
    ErrorCode state_channel = ErrorCode::kNone;  // kUnavailable: it stores nothing
    std::uint32_t ring_ref = 0;
    std::uint32_t event_channel = 0;  // 0, which Xen never uses: no ring is attached
};

// Store all that the TPM knows, for who resumes it, and exit: its guest has been saved, or is migrated.
struct SuspendTpm {
    static constexpr std::uint16_t kType = 57;
    Incarnation incarnation;
};

// ---- backend -> xen-vtpm-domains, which alone may ask the hypervisor ----

// Answered by DomainAnswer.
struct AskDomain {
    static constexpr std::uint16_t kType = 80;
    std::uint32_t protocol = protocol_version(Channel::kDomains);
    std::uint32_t domain = 0;
};

enum DomainFlag : std::uint32_t {
    kDomainSuspended = 1,  // it has suspended itself (SHUTDOWN_suspend), to be saved or migrated
    kDomainHasRun = 2,     // it has had processor time
    kDomainPaused = 4,     // by the toolstack
};

// kNotFound: there is no such domain.
struct DomainAnswer {
    static constexpr std::uint16_t kType = 81;
    std::uint32_t domain = 0;
    ErrorCode code = ErrorCode::kNone;
    std::string_view text{};
    std::uint32_t flags = 0;  // DomainFlag
    Incarnation incarnation{};
};

// ---- codec ----------------------------------------------------------------------------------------------------------

// The type of a datagram, 0 if it is too short to have one.
std::uint16_t message_type(ByteView datagram);
// The version that a PrepareVtpm, OpenVtpm or AskDomain of any version begins with, 0 if it is too short to have one.
std::uint32_t requested_protocol(ByteView datagram);

// Encodes into `buffer`; the result is empty if it did not fit.
template <typename Message>
ByteView encode(const Message &message, MutableBytes buffer);

// kInvalid if the datagram is not exactly one such message.
template <typename Message>
Result<Message> decode(ByteView datagram);

// Sends a message that carries no state (at most kMaxSmallMessage bytes), with its descriptors: see send_message().
template <typename Message>
Result<> send(int socket, const Message &message, std::initializer_list<int> fds = {}) {
    std::array<std::uint8_t, kMaxSmallMessage> buffer;
    return send_message(socket, encode(message, buffer), fds);
}

}  // namespace vtpm
