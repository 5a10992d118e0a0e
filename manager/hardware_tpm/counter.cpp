// SPDX-License-Identifier: Apache-2.0
#include "manager/hardware_tpm/counter.hpp"

#include <algorithm>

#include "base/big_endian.hpp"
#include "manager/hardware_tpm/hardware_tpm.hpp"
#include "manager/hardware_tpm/nv_handle.hpp"
#include "manager/hardware_tpm/tpm_error.hpp"

namespace vtpm {
namespace {

constexpr std::uint16_t kSize = 8;

// Without a secret: it is read before any key is there, and after a crash incremented before one is. Who increments it
// makes keys worthless, as does who removes it, for which the owner's empty authorization is enough.
TPMS_NV_PUBLIC counter_area(std::uint32_t index) {
    TPMS_NV_PUBLIC area{};
    area.nvIndex = index;
    area.nameAlg = TPM2_ALG_SHA256;
    area.attributes = TPM2_NT_COUNTER << TPMA_NV_TPM2_NT_SHIFT | TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA;
    area.dataSize = kSize;
    return area;
}

struct FoundCounter {
    NvHandle handle;
    bool counts;  // it was incremented once; before that it has no value
};

// By its Name, which the TPM authenticates with each command: an index that can be set back would open old keys.
Result<FoundCounter> find(ESYS_CONTEXT *context, std::uint32_t index) {
    VTPM_ASSIGN(NvHandle handle, find_nv(context, index, {}));
    VTPM_ASSIGN(const TPM2B_NAME name, nv_name(context, handle));
    if (is_counter(name, index)) return FoundCounter{std::move(handle), name == counter_name(index)};
    return fail(ErrorCode::kRefused,
                "NV index {0:#x} of the hardware TPM is not the counter that it must be: if nobody else needs it, "
                "tpm2_nvundefine -C o {0:#x}",
                index);
}

}  // namespace

Result<NvHandle> find_counter(ESYS_CONTEXT *context, std::uint32_t index) {
    return find(context, index).map([](FoundCounter &&found) { return std::move(found.handle); });
}

TPM2B_NAME counter_name(std::uint32_t index) {
    TPMS_NV_PUBLIC area = counter_area(index);
    area.attributes |= TPMA_NV_WRITTEN;
    return nv_name(area);
}

bool is_counter(const TPM2B_NAME &name, std::uint32_t index) {
    return name == counter_name(index) || name == nv_name(counter_area(index));
}

Bytes content_of(const Count &count) { return BigEndian().number(count.value, kSize).bytes(); }

Result<std::uint64_t> HardwareTpm::counter(std::uint32_t index) {
    VTPM_ASSIGN(const FoundCounter found, find(esys_.get(), index));
    if (!found.counts) return fail(ErrorCode::kNotFound, "NV counter {:#x} was never incremented", index);
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    EsysPtr<TPM2B_MAX_NV_BUFFER> data;
    VTPM_TRY(checked("TPM2_NV_Read of a counter", [&] {
        return Esys_NV_Read(esys_.get(), found.handle.get(), found.handle.get(), command, ESYS_TR_NONE, ESYS_TR_NONE,
                            kSize, 0, out(data));
    }));
    if (data->size != kSize) return fail(ErrorCode::kSystem, "NV counter {:#x} has {} bytes", index, data->size);
    return big_endian(ByteView(data->buffer, kSize));
}

Result<std::uint64_t> HardwareTpm::ensure_counter(std::uint32_t index) {
    auto present = counter(index);
    if (present || present.error().code != ErrorCode::kNotFound) return present;
    const auto found = find_counter(esys_.get(), index);  // there, if a crash came before its first increment
    if (!found && found.error().code != ErrorCode::kNotFound) return tl::make_unexpected(found.error());
    if (!found) {
        VTPM_ASSIGN(const ESYS_TR command, command_session());
        VTPM_TRY(define_nv(esys_.get(), command, {0, counter_area(index)}, {}));
    }
    VTPM_TRY(increment(index));
    return counter(index);
}

Result<> HardwareTpm::increment(std::uint32_t index) {
    VTPM_ASSIGN(const NvHandle counter, find_counter(esys_.get(), index));
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    return checked("TPM2_NV_Increment", [&] {
        return Esys_NV_Increment(esys_.get(), counter.get(), counter.get(), command, ESYS_TR_NONE, ESYS_TR_NONE);
    });
}

Result<> HardwareTpm::assert_count(const EsysHandle &policy, const NvHandle &counter, const Count &count) {
    VTPM_ASSIGN(const ESYS_TR command, command_session());
    const Bytes content = content_of(count);
    TPM2B_OPERAND operand{static_cast<UINT16>(content.size()), {}};
    std::ranges::copy(content, operand.buffer);
    return checked("TPM2_PolicyNV", [&] {
        return Esys_PolicyNV(esys_.get(), counter.get(), counter.get(), policy.get(), command, ESYS_TR_NONE,
                             ESYS_TR_NONE, &operand, 0, TPM2_EO_EQ);
    });
}

}  // namespace vtpm
