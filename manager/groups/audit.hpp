// SPDX-License-Identifier: Apache-2.0
// What was done to the keys of this machine's vTPMs, one record after the other, each with a digest over all before it.
// The groups' manifests know how far the chain had come (open_group.hpp): a log that was cut or written anew does not
// fit them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/store/store.hpp"

namespace vtpm {

class Audit {
public:
    explicit Audit(Store &store) : store_(store) {}

    // A part of `change`: what is not durable is not recorded. `subject`: a group, a vTPM, a policy.
    Result<> record(Change &change, std::string_view event, std::string_view subject, std::string_view detail = {});
    // By itself.
    Result<> record(std::string_view event, std::string_view subject, std::string_view detail = {});

    // At most kMostRecords stay, and the last kKeptRecords do: a record tells where the others ended.
    static constexpr std::int64_t kMostRecords = 20'000;
    static constexpr std::int64_t kKeptRecords = 10'000;

    // The chain's end after `change`, and the number of its last record; empty before the first record.
    Result<Bytes> head(const Change &change);
    // Whether the chain once ended so, as far as the log goes back: a record that was dropped for its age is not
    // missing. It always did when it was empty. Without a number, as manifests had it, only what is there counts.
    Result<bool> has(ByteView head);

private:
    [[nodiscard]] Result<std::optional<AuditRecord>> last(const Change &change);
    Result<> append(Change &change, std::string_view event, std::string_view subject, std::string_view detail);
    Result<> shorten(Change &change);
    Store &store_;
};

// kRefused names the first record that is not as it was written, or is missing. Those that were dropped for their age
// are not missing.
Result<> verify_chain(const std::vector<AuditRecord> &records);

}  // namespace vtpm
