// SPDX-License-Identifier: Apache-2.0
// A hypervisor's word at a test's command; the real one's is shown by tests/lab (test_save_restore.py).
#pragma once

#include <map>
#include <set>

#include "backend/xen/domains.hpp"

namespace vtpm {

class FakeDomains final : public Domains {
public:
    // Who is not spoken of has just been built, and is not yet let run.
    Result<DomainFacts> ask(std::uint32_t domain) override {
        if (silent_about.contains(domain)) return fail(ErrorCode::kUnavailable, "as the test wants it");
        if (silent || answers == 0) return fail(silence, "as the test wants it");
        if (gone.contains(domain)) return fail(ErrorCode::kNotFound, "there is no domain {}", domain);
        if (answers > 0) --answers;
        return facts(domain);
    }
    DomainFacts &facts(std::uint32_t domain) {
        if (!facts_.contains(domain)) build(domain);
        return facts_.at(domain);
    }
    // A new one; from its second life on restored from the memory of the one before.
    void build(std::uint32_t domain, std::uint32_t life = 1) {
        facts_[domain] = {.paused = true, .incarnation = {kImage, life}};
    }

    static constexpr Uuid kImage{
        {0x99, 0x99, 0x99, 0x99, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55}};
    bool silent = false;
    int answers = -1;  // that come before it is silent; negative: all
    std::set<std::uint32_t> silent_about{};
    std::set<std::uint32_t> gone{};
    ErrorCode silence = ErrorCode::kSystem;

private:
    std::map<std::uint32_t, DomainFacts> facts_;
};

}  // namespace vtpm
