// SPDX-License-Identifier: Apache-2.0
// Ownership of what ESAPI hands out: the context with its connection, handles, memory.
#pragma once

#include <tss2/tss2_esys.h>

#include <memory>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace vtpm {

// ESAPI allocates its results; some are secrets, so all are wiped.
struct EsysFree {
    template <typename T>
    void operator()(T *memory) const {
        explicit_bzero(memory, sizeof *memory);
        Esys_Free(memory);
    }
};
template <typename T>
using EsysPtr = std::unique_ptr<T, EsysFree>;

// Takes a call's result: `out(pointer)` where ESAPI wants a T **.
template <typename T>
class EsysOut {
public:
    explicit EsysOut(EsysPtr<T> &target) : target_(target) {}
    EsysOut(const EsysOut &) = delete;
    EsysOut &operator=(const EsysOut &) = delete;
    ~EsysOut() { target_.reset(raw_); }
    operator T **() { return &raw_; }  // NOLINT(google-explicit-constructor): that is its use

private:
    EsysPtr<T> &target_;
    T *raw_ = nullptr;
};
template <typename T>
EsysOut<T> out(EsysPtr<T> &target) {
    return EsysOut<T>(target);
}

struct CloseEsys {
    void operator()(ESYS_CONTEXT *context) const;
};
using Esys = std::unique_ptr<ESYS_CONTEXT, CloseEsys>;

// `tcti` as tss2-tctildr reads it: "device:/dev/tpmrm0". kUnavailable if nobody answers there.
Result<Esys> connect_tpm(const std::string &tcti);

// A loaded object or a session: flushed when it goes, so that a TPM without a resource manager keeps its slots.
class EsysHandle {
public:
    EsysHandle(ESYS_CONTEXT *context, ESYS_TR handle) : context_(context), handle_(handle) {}
    EsysHandle(EsysHandle &&other) noexcept
        : context_(other.context_), handle_(std::exchange(other.handle_, ESYS_TR_NONE)) {}
    EsysHandle &operator=(EsysHandle &&) = delete;
    EsysHandle(const EsysHandle &) = delete;
    EsysHandle &operator=(const EsysHandle &) = delete;
    ~EsysHandle() {
        if (handle_ != ESYS_TR_NONE) (void)Esys_FlushContext(context_, handle_);
    }
    [[nodiscard]] ESYS_TR get() const { return handle_; }

private:
    ESYS_CONTEXT *context_;
    ESYS_TR handle_;
};

}  // namespace vtpm
