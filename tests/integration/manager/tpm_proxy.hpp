// SPDX-License-Identifier: Apache-2.0
// Between a swtpm and those who use it: answers in the TPM's place what a test wants, and sends what others might.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.hpp"
#include "base/unique_fd.hpp"

class TpmProxy {
public:
    // `tpm`: of a Swtpm, now or later. `path`: of the proxy's own socket.
    TpmProxy(std::string tpm, std::string path);
    TpmProxy(const TpmProxy &) = delete;
    TpmProxy &operator=(const TpmProxy &) = delete;
    ~TpmProxy();

    [[nodiscard]] std::string tcti() const { return "swtpm:path=" + path_; }

    // What each command of a client meets, in the proxy's thread.
    struct Fate {
        std::optional<TSS2_RC> answer{};    // instead of the TPM's
        bool lost = false;                  // the TPM answers, but nobody hears it; what was loaded is lost as well
        std::vector<vtpm::Bytes> before{};  // commands that somebody else sends first
        std::function<void(vtpm::Bytes &response)> change{};  // by somebody on the bus
    };
    using Fates = std::function<Fate(TPM2_CC command, vtpm::ByteView whole)>;
    void set(Fates fates);

    // What the TPM answered, and what was answered in its place, since it was last asked.
    std::vector<TSS2_RC> take_answers();

private:
    void run();
    bool serve(int client);
    vtpm::Bytes ask(vtpm::ByteView command);
    std::vector<std::uint32_t> handles(std::uint32_t first);
    void flush_all();

    std::string tpm_;
    std::string path_;
    vtpm::UniqueFd listener_;
    vtpm::UniqueFd upstream_;  // reached when it is needed
    vtpm::UniqueFd end_;       // eventfd
    std::mutex mutex_;         // of what follows
    Fates fates_;
    std::vector<TSS2_RC> answers_;
    std::thread thread_;
};

// TPM2_PCR_Extend, in SHA-256's bank.
vtpm::Bytes extend(std::uint32_t pcr);
