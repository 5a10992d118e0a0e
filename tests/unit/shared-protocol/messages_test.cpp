// SPDX-License-Identifier: Apache-2.0
#include "shared-protocol/messages.hpp"

#include <array>
#include "tests/catch.hpp"

namespace vtpm {
namespace {

const Uuid kUuid = *Uuid::parse("00112233-4455-6677-8899-aabbccddeeff");

template <typename Message>
Bytes encoded(const Message &message) {
    Bytes buffer(kMaxMessage);
    const ByteView view = encode(message, buffer);
    return {view.begin(), view.end()};
}

// Every message: what was encoded decodes, and neither a part of it nor more than it does.
template <typename Message>
void check_bounds(const Message &message) {
    Bytes bytes = encoded(message);
    REQUIRE_FALSE(bytes.empty());
    CHECK(message_type(bytes) == Message::kType);
    REQUIRE(decode<Message>(bytes));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        INFO(size);
        CHECK_FALSE(decode<Message>(ByteView(bytes).first(size)));
        Bytes small(size);
        CHECK(encode(message, small).empty());
    }
    bytes.push_back(0);
    CHECK_FALSE(decode<Message>(bytes));
}

}  // namespace

TEST_CASE("each message decodes from exactly its own bytes") {
    const Bytes state{1, 2, 3};
    check_bounds(PrepareVtpm{.uuid = kUuid, .beginning = Beginning::kResume, .launch = state});
    check_bounds(OpenVtpm{.uuid = kUuid, .launch = state});
    check_bounds(VtpmAnswer{kUuid, ErrorCode::kInUse, TpmVersion::k12, "in use"});
    check_bounds(LoadState{StateKind::kVolatile});
    check_bounds(LoadedState{ErrorCode::kNone, 7, "", state});
    check_bounds(StoreState{StateKind::kPermanent, state});
    check_bounds(StoredState{ErrorCode::kStoreFailed, 8, "disk full"});
    check_bounds(PowerOn{});
    check_bounds(PowerOnCommands{ErrorCode::kUnavailable, "no TPM", state});
    check_bounds(StartEngine{1, 1000, TpmVersion::k20, kUuid, 7, 0, Beginning::kResume, {kUuid, 2}});
    check_bounds(SuspendTpm{{kUuid, 1}});
    check_bounds(EngineStarted{1, 4711, 3});
    check_bounds(EngineExited{1, 256});
    check_bounds(KillEngine{1});
    check_bounds(ReleaseEngine{1});
    check_bounds(ListEngines{4711});
    check_bounds(LivingEngine{1, 1000, 4711, kUuid, 7, 0, 3});
    check_bounds(EnginesListed{4711, "1.0"});
    check_bounds(EngineReady{ErrorCode::kRefused, "no"});
    check_bounds(AttachRing{Transport::kLoopback, 4096, 11});
    check_bounds(RingAttached{});
    check_bounds(DetachRing{});
    check_bounds(RingDetached{});
    check_bounds(ReplaceStateChannel{});
    check_bounds(StateChannelStatus{});
    check_bounds(AskStatus{});
    check_bounds(AskDomain{.domain = 7});
    check_bounds(DomainAnswer{7, ErrorCode::kNone, "", kDomainHasRun | kDomainPaused, {kUuid, 2}});
    check_bounds(EngineStatus{ErrorCode::kUnavailable, 8, 9});
}

TEST_CASE("fields arrive as they were sent") {
    const Bytes state(300, 0xee);
    const auto loaded = decode<LoadedState>(encoded(LoadedState{ErrorCode::kNone, 1ULL << 40, "text", state}));
    REQUIRE(loaded);
    CHECK(loaded->sequence == 1ULL << 40);
    CHECK(loaded->state.size() == 300);
    const auto answer = decode<VtpmAnswer>(encoded(VtpmAnswer{kUuid, ErrorCode::kRefused, TpmVersion::k12, "why"}));
    REQUIRE(answer);
    CHECK(answer->uuid == kUuid);
    CHECK(answer->code == ErrorCode::kRefused);
    CHECK(answer->version == TpmVersion::k12);
}

TEST_CASE("the wire is little endian and as docs/protocol.md says") {
    CHECK(encoded(AttachRing{Transport::kXen, 0x0102, 3, 4, 5}) ==
          Bytes{49, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0});
    CHECK(encoded(StoreState{StateKind::kPermanent, Bytes{9}}) == Bytes{18, 0, 1, 1, 0, 0, 0, 9});
}

// Whoever changes a message makes programs that do not understand those of before: engines that run are powered off by
// the next xen-vtpmd, or cannot store with the next manager. If that is meant, the new layouts and numbers belong here.
TEST_CASE("a protocol's version is that of its layouts") {
    CHECK(protocol_layout(Channel::kRequests) ==
          "meaning 1 text 512 state 262144 codes 8\n1 u32 uuid enum8 to 2 bytes\n2 u32 u32 uuid bytes text\n"
          "3 uuid enum16 enum8 to 2 text\n");
    CHECK(protocol_version(Channel::kRequests) == 0xee1c8b37);
    CHECK(protocol_version(Channel::kState) == 0x37b8224e);
    CHECK(protocol_version(Channel::kEngines) == 0x665bca04);
}

TEST_CASE("the version of a request can be read whatever else it has") {
    CHECK(requested_protocol(encoded(PrepareVtpm{.protocol = 0x01020304, .uuid = {}})) == 0x01020304);
    CHECK(requested_protocol(encoded(OpenVtpm{0x01020304, 0, {}})) == 0x01020304);
    CHECK(requested_protocol(Bytes{2, 0, 4, 3, 2, 1, 99}) == 0x01020304);
    CHECK(requested_protocol(Bytes{2, 0, 4}) == 0);
}

TEST_CASE("values outside the protocol are rejected") {
    Bytes bytes = encoded(LoadState{});
    for (int value = 0; value < 256; ++value) {
        bytes.back() = static_cast<std::uint8_t>(value);
        CHECK(decode<LoadState>(bytes).has_value() == (value == 1 || value == 2));
    }
    Bytes ready = encoded(EngineReady{});
    ready.at(2) = kErrorCodeLast + 1;
    CHECK_FALSE(decode<EngineReady>(ready));
}

TEST_CASE("an error that only D-Bus knows is told to an engine as a refusal") {
    const Bytes bytes = encoded(GiveAttestation{ErrorCode::kWrongState, "it never ran", {}});
    const auto answer = decode<GiveAttestation>(bytes);
    REQUIRE(answer);
    CHECK(answer->code == ErrorCode::kRefused);
    CHECK(answer->text == "it never ran");
}

TEST_CASE("a length beyond the message or the bound is rejected") {
    Bytes bytes = encoded(StoreState{StateKind::kPermanent, Bytes(4, 0)});
    for (const std::uint32_t length : {5U, 0xffffffffU, static_cast<std::uint32_t>(kMaxState + 1)}) {
        for (unsigned i = 0; i < 4; ++i) bytes.at(3 + i) = static_cast<std::uint8_t>(length >> (8 * i));
        CHECK_FALSE(decode<StoreState>(bytes));
    }
    CHECK_FALSE(decode<StoreState>(encoded(StoreState{StateKind::kPermanent, Bytes(kMaxState + 1, 0)})));
    CHECK(decode<StoreState>(encoded(StoreState{StateKind::kPermanent, Bytes(kMaxState, 0)})));
}

TEST_CASE("a text that is too long is cut, not refused") {
    const auto ready = decode<EngineReady>(encoded(EngineReady{ErrorCode::kRefused, std::string(5000, 'x')}));
    REQUIRE(ready);
    CHECK(ready->text.size() == kMaxText);
}

}  // namespace vtpm
