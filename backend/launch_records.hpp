// SPDX-License-Identifier: Apache-2.0
// The launches that xen-vtpm-launch recorded: each until its guest's TPM takes it, or the guest is gone. They live as
// long as this process: a guest that is being created while xen-vtpmd is restarted is created without a record.
#pragma once

#include <map>

#include "backend/xen/domains.hpp"
#include "shared-protocol/record_launch.hpp"

namespace vtpm {

class LaunchRecords {
public:
    explicit LaunchRecords(Domains &domains) : domains_(domains) {}

    // Takes the place of an earlier one of the domain. kInvalid: it is no log of a launch. kNotFound: there is no such
    // domain. kRefused: it runs already, and what it booted is not known any more. kUnavailable: the hypervisor cannot
    // be asked. kShortage: there are kMost already.
    Result<> record(RecordLaunch launch);
    // The log of this domain, if Xen's handle of it is still the same; or nullptr. Until the next call of a method.
    [[nodiscard]] const Bytes *find(std::uint32_t domain, const Uuid &handle) const;
    void forget(std::uint32_t domain) { records_.erase(domain); }
    // Those of domains that are gone, or others by now.
    void forget_gone();
    [[nodiscard]] std::size_t size() const { return records_.size(); }

    static constexpr std::size_t kMost = 1024;

private:
    struct Record {
        Uuid handle;
        Bytes log;
    };
    Domains &domains_;
    std::map<std::uint32_t, Record> records_;
};

}  // namespace vtpm
