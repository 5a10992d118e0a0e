// SPDX-License-Identifier: Apache-2.0
// NV indices, found and defined.
#pragma once

#include <utility>

#include "base/bytes.hpp"
#include "manager/hardware_tpm/esys.hpp"

namespace vtpm {

// ESAPI's knowledge of an index: the TPM has nothing to flush.
class NvHandle {
public:
    NvHandle(ESYS_CONTEXT *context, ESYS_TR handle) : context_(context), handle_(handle) {}
    NvHandle(NvHandle &&other) noexcept
        : context_(other.context_), handle_(std::exchange(other.handle_, ESYS_TR_NONE)) {}
    NvHandle &operator=(NvHandle &&) = delete;
    NvHandle(const NvHandle &) = delete;
    NvHandle &operator=(const NvHandle &) = delete;
    ~NvHandle() {
        if (handle_ != ESYS_TR_NONE) (void)Esys_TR_Close(context_, &handle_);
    }
    [[nodiscard]] ESYS_TR get() const { return handle_; }

private:
    ESYS_CONTEXT *context_;
    ESYS_TR handle_;
};

// For use with `authorization`. kNotFound: there is none. With a salted `session` it is the TPM that says what is
// there.
Result<NvHandle> find_nv(ESYS_CONTEXT *context, std::uint32_t index, ByteView authorization,
                         ESYS_TR session = ESYS_TR_NONE);
// TCG Part 1, 16: of an index with this public area.
TPM2B_NAME nv_name(const TPMS_NV_PUBLIC &area);
Result<TPM2B_NAME> nv_name(ESYS_CONTEXT *context, const NvHandle &nv);
bool operator==(const TPM2B_NAME &left, const TPM2B_NAME &right);
// Of one of our counters, whether or not it was ever incremented.
bool is_counter(const TPM2B_NAME &name, std::uint32_t index);
// One of our counters, whether or not it was ever incremented. kRefused: something else is there.
Result<NvHandle> find_counter(ESYS_CONTEXT *context, std::uint32_t index);
// In the owner's hierarchy. kRefused: the TPM has no room.
Result<NvHandle> define_nv(ESYS_CONTEXT *context, ESYS_TR session, const TPM2B_NV_PUBLIC &area, ByteView authorization);

}  // namespace vtpm
