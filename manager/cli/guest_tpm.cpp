// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/guest_tpm.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <thread>

#include "base/unique_fd.hpp"
#include "shared-protocol/attest_command.hpp"
#include "shared-protocol/event_log_command.hpp"
#include "shared-protocol/messages.hpp"
#include "shared-protocol/tpm_message.hpp"

namespace vtpm::cli {
namespace {

constexpr std::uint32_t kCommandCode = 0x143;  // TPM_RC_COMMAND_CODE
constexpr std::uint32_t kRetry = 0x922;        // TPM_RC_RETRY
constexpr std::size_t kMaxResponse = 4096;
constexpr std::size_t kMaxAttestation = 65'536;
constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kPause{500};

struct Response {
    std::uint32_t code = 0;
    Bytes parameters;
};

Result<Response> transmit(int device, ByteView command) {
    if (::write(device, command.data(), command.size()) != static_cast<ssize_t>(command.size()))
        return fail_errno("the TPM takes no command");
    std::array<std::uint8_t, kMaxResponse> buffer{};
    const ssize_t size = ::read(device, buffer.data(), buffer.size());
    if (size < 0) return fail_errno("the TPM gives no response");
    if (static_cast<std::size_t>(size) < TPM_MESSAGE_HEADER_SIZE)
        return fail(ErrorCode::kSystem, "the TPM's response is too short");
    const ByteView response = ByteView(buffer).first(static_cast<std::size_t>(size));
    const ByteView parameters = response.subspan(TPM_MESSAGE_HEADER_SIZE);
    return Response{tpm_code(response), Bytes(parameters.begin(), parameters.end())};
}

// One part, and how large the whole is; nothing while it is being made.
struct Part {
    std::size_t whole = 0;
    Bytes bytes;
};
Result<Part> part_of(const Response &response) {
    if (response.code != 0) return fail(ErrorCode::kSystem, "the TPM answers {:#x}", response.code);
    constexpr std::size_t kFixed = 6;
    const ByteView given = response.parameters;
    if (given.size() < kFixed || big_endian(given.subspan(4, 2)) != given.size() - kFixed)
        return fail(ErrorCode::kSystem, "the TPM's response is malformed");
    return Part{big_endian(given.first(4)), Bytes(given.begin() + kFixed, given.end())};
}

Result<std::optional<Part>> read_part(int device, ByteView nonce, std::size_t offset) {
    const BigEndian parameters = BigEndian().sized(nonce).number(offset, 4);
    VTPM_ASSIGN(const Response response,
                transmit(device, tpm_message(kTpmNoSessions, kAttestCommand, parameters.bytes())));
    if (response.code == kRetry) return std::nullopt;
    if (response.code == kCommandCode)
        return fail(ErrorCode::kRefused,
                    "this TPM gives no attestations: it is not one of xen-vtpm's, or its host does "
                    "not let guests ask (guest_attestation)");
    return part_of(response);
}

Result<Part> read_log_part(int device, std::size_t offset) {
    VTPM_ASSIGN(const Response response,
                transmit(device, tpm_message(kTpmNoSessions, kReadEventLog, BigEndian().number(offset, 4).bytes())));
    if (response.code == kCommandCode)
        return fail(ErrorCode::kNotFound, "this TPM has no event log: it is not one of xen-vtpm's, or of an older one");
    return part_of(response);
}

// kUnavailable: it changed meanwhile.
template <typename Next>
Result<Bytes> all_parts(Part first, std::size_t most, Next next) {
    Bytes all = std::move(first.bytes);
    if (first.whole > most) return fail(ErrorCode::kSystem, "the TPM's answer has {} bytes", first.whole);
    while (all.size() < first.whole) {
        VTPM_ASSIGN(const std::optional<Part> part, next(all.size()));
        if (!part || part->whole != first.whole || part->bytes.empty())
            return fail(ErrorCode::kUnavailable, "the TPM's answer changed while it was read: try again");
        all.insert(all.end(), part->bytes.begin(), part->bytes.end());
    }
    return all;
}

Result<UniqueFd> open_tpm(const std::string &path) {
    UniqueFd device(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!device && errno == EBUSY)
        return fail(ErrorCode::kInUse, "{}: another program has it open (use /dev/tpmrm0 for everything else)", path);
    if (!device) return fail_errno("{}", path);
    return device;
}

Result<Part> first_part(int device, ByteView nonce) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        VTPM_ASSIGN(auto part, read_part(device, nonce, 0));
        if (part) return std::move(*part);
        if (std::chrono::steady_clock::now() > end)
            return fail(ErrorCode::kUnavailable, "the host made no attestation within {} s: try again",
                        kPatience.count());
        std::this_thread::sleep_for(kPause);
    }
}

}  // namespace

Result<std::string> attest_guest(const std::string &path, ByteView nonce) {
    VTPM_ASSIGN(const UniqueFd device, open_tpm(path));
    VTPM_ASSIGN(Part part, first_part(device.get(), nonce));
    VTPM_ASSIGN(const Bytes all, all_parts(std::move(part), kMaxAttestation,
                                           [&](std::size_t offset) { return read_part(device.get(), nonce, offset); }));
    return std::string(all.begin(), all.end());
}

Result<Bytes> read_guest_event_log(const std::string &path) {
    VTPM_ASSIGN(const UniqueFd device, open_tpm(path));
    VTPM_ASSIGN(Part part, read_log_part(device.get(), 0));
    if (part.whole == 0)
        return fail(ErrorCode::kNotFound, "nothing was measured into this TPM: its host has launch = \"off\" for it");
    return all_parts(std::move(part), kMaxLaunchLog,
                     [&](std::size_t offset) { return read_log_part(device.get(), offset); });
}

}  // namespace vtpm::cli
