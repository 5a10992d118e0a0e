// SPDX-License-Identifier: Apache-2.0
// The page that a guest shares with its TPM (shared-protocol/tpmif.h). The guest may change every byte at any time:
// what is taken from the page is a copy, and only the copy is looked at.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "shared-protocol/tpmif.h"

namespace vtpm {

class SharedPage {
public:
    enum class Event : std::uint8_t {
        kNothing,    // not our turn
        kCommand,    // `command` is a TPM command whose header's size is its length
        kMalformed,  // submitted, but not a message: answer with a TPM error
        kCancel,     // the guest wants nothing more, and nothing is running
    };
    struct Taken {
        Event event = Event::kNothing;
        std::uint8_t locality = 0;  // as the guest claims
        ByteView command{};         // borrowed from this object until the next take()
    };

    // Maps the grant that was entered into `gntdev` at `index`; when this process dies the guest's command is
    // completed as cancelled, with an event on `port`. kSystem if the guest has revoked it.
    static Result<SharedPage> map_grant(int gntdev, std::uint64_t index, std::uint32_t port);
    // Maps a memfd of one page in the place of a grant.
    static Result<SharedPage> map_memory(int memfd);

    SharedPage(SharedPage &&other) noexcept;
    SharedPage &operator=(SharedPage &&other) noexcept;
    SharedPage(const SharedPage &) = delete;
    SharedPage &operator=(const SharedPage &) = delete;
    ~SharedPage();

    Taken take();
    // The response to what was taken last. It must fit: see room().
    void publish(ByteView response);
    // The answer to kCancel.
    void acknowledge_cancel();
    // How many bytes a response to what was taken last may have.
    [[nodiscard]] std::size_t room() const { return TPMIF_PAGE_SIZE - data_offset_; }

private:
    explicit SharedPage(void *page) : page_(static_cast<std::uint8_t *>(page)) {}
    static Result<SharedPage> map(int fd, std::uint64_t offset);
    void unmap();
    void set_state(std::uint8_t state);

    std::uint8_t *page_;
    std::size_t data_offset_ = TPMIF_DATA_OFFSET(std::size_t{0});
    std::array<std::uint8_t, TPMIF_MAX_MESSAGE> copy_;
};

}  // namespace vtpm
