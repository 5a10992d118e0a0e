// SPDX-License-Identifier: Apache-2.0
// A hypervisor's word at a test's command; the real one's is shown by tests/lab (test_save_restore.py).
#pragma once

#include <set>

#include "backend/xen/domains.hpp"

namespace vtpm {

class FakeDomains final : public Domains {
public:
    Result<bool> is_suspended(std::uint32_t domain) override { return answer(suspended, domain); }
    Result<bool> is_fresh_restore(std::uint32_t domain) override { return answer(restored, domain); }

    std::set<std::uint32_t> suspended;
    std::set<std::uint32_t> restored;
    bool silent = false;

private:
    Result<bool> answer(const std::set<std::uint32_t> &domains, std::uint32_t domain) const {
        if (silent) return fail(ErrorCode::kSystem, "as the test wants it");
        return domains.contains(domain);
    }
};

}  // namespace vtpm
