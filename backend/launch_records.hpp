// SPDX-License-Identifier: Apache-2.0
// The launches that xen-vtpm-launch recorded: each until its guest is gone.
#pragma once

#include <map>
#include <string>

#include "backend/xen/domains.hpp"
#include "shared-protocol/record_launch.hpp"

namespace vtpm {

class LaunchRecords {
public:
    // They are in `directory` too, which this process' restarts leave alone, and what is there is taken over. Empty:
    // they end with this process.
    explicit LaunchRecords(Domains &domains, std::string directory = {});

    // Takes the place of an earlier one of the domain. kInvalid: it is no log of a launch. kNotFound: there is no such
    // domain. kRefused: it runs already, and what it booted is not known any more. kUnavailable: the hypervisor cannot
    // be asked. kShortage: there are kMost already, or there is no room in the directory.
    Result<> record(RecordLaunch launch);
    // The log of this domain, if Xen's handle of it is still the same; or nullptr. Until the next record().
    [[nodiscard]] const Bytes *find(std::uint32_t domain, const Uuid &handle) const;
    void forget(std::uint32_t domain);
    // Those of domains that are gone, or others by now.
    void forget_gone();
    [[nodiscard]] std::size_t size() const { return records_.size(); }

    static constexpr std::size_t kMost = 4096;  // guests that live

private:
    struct Record {
        Uuid handle;
        Bytes log;
    };
    [[nodiscard]] std::string file_of(std::uint32_t domain) const;
    [[nodiscard]] Result<> keep(std::uint32_t domain, const Record &record) const;
    void take_over();

    Domains &domains_;
    std::string directory_;
    std::map<std::uint32_t, Record> records_;
};

}  // namespace vtpm
