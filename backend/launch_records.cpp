// SPDX-License-Identifier: Apache-2.0
#include "backend/launch_records.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "backend/xen/xenstore.hpp"
#include "launch/event_log.hpp"

namespace vtpm {
namespace {

static_assert(kMaxLaunchLog == launch::kMaxLog, "what is sent is what is read");

constexpr std::size_t kHandleSize = sizeof(Uuid::bytes);

// As keep() wrote it; nothing, if it did not end.
Bytes content_of(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    std::string text(kHandleSize + kMaxLaunchLog + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    return {text.begin(), text.begin() + file.gcount()};
}

}  // namespace

LaunchRecords::LaunchRecords(Domains &domains, std::string directory)
    : domains_(domains), directory_(std::move(directory)) {
    if (!directory_.empty()) take_over();
}

void LaunchRecords::take_over() {
    std::error_code none;
    for (const auto &entry : std::filesystem::directory_iterator(directory_, none)) {
        const auto domain = parse_number(entry.path().filename().string());
        const Bytes content = content_of(entry.path());
        const ByteView log = ByteView(content).subspan(std::min(content.size(), kHandleSize));
        if (!domain || !launch::read_event_log(log)) continue;
        Record record{{}, Bytes(log.begin(), log.end())};
        std::copy_n(content.begin(), kHandleSize, record.handle.bytes.begin());
        records_.insert_or_assign(*domain, std::move(record));
    }
}

std::string LaunchRecords::file_of(std::uint32_t domain) const { return fmt::format("{}/{}", directory_, domain); }

Result<> LaunchRecords::keep(std::uint32_t domain, const Record &record) const {
    if (directory_.empty()) return {};
    const std::string path = file_of(domain);
    const std::string fresh = path + ".new";
    std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
    for (const ByteView part : {ByteView(record.handle.bytes), ByteView(record.log)})
        file.write(reinterpret_cast<const char *>(part.data()), static_cast<std::streamsize>(part.size()));  // as text
    file.close();
    if (file && std::rename(fresh.c_str(), path.c_str()) == 0) return {};
    (void)std::remove(fresh.c_str());
    return fail(ErrorCode::kShortage, "the launch cannot be kept in {}: is there room?", directory_);
}

void LaunchRecords::forget(std::uint32_t domain) {
    records_.erase(domain);
    if (!directory_.empty()) (void)std::remove(file_of(domain).c_str());
}

// That it has not run is asked last: what runs later was created with the files that were measured.
Result<> LaunchRecords::record(RecordLaunch launch) {
    VTPM_TRY(launch::read_event_log(launch.log));
    VTPM_ASSIGN(const DomainFacts facts, domains_.ask(launch.domain));
    if (facts.has_run)
        return fail(ErrorCode::kRefused, "domain {} runs already: its launch is recorded before that", launch.domain);
    if (!records_.contains(launch.domain) && records_.size() >= kMost) forget_gone();
    if (!records_.contains(launch.domain) && records_.size() >= kMost)
        return fail(ErrorCode::kShortage, "there are {} recorded launches of living guests already", kMost);
    Record record{facts.incarnation.domain, std::move(launch.log)};
    VTPM_TRY(keep(launch.domain, record));
    records_.insert_or_assign(launch.domain, std::move(record));
    return {};
}

const Bytes *LaunchRecords::find(std::uint32_t domain, const Uuid &handle) const {
    const auto found = records_.find(domain);
    return found != records_.end() && found->second.handle == handle ? &found->second.log : nullptr;
}

void LaunchRecords::forget_gone() {
    std::vector<std::uint32_t> gone;
    for (const auto &[domain, record] : records_) {
        const auto facts = domains_.ask(domain);
        const bool is_gone =
            facts ? facts->incarnation.domain != record.handle : facts.error().code == ErrorCode::kNotFound;
        if (is_gone) gone.push_back(domain);
    }
    for (const std::uint32_t domain : gone) forget(domain);
}

}  // namespace vtpm
