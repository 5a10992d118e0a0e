// SPDX-License-Identifier: Apache-2.0
// What guests and toolstacks write into xenstore.
#include "backend/xen/xenstore.hpp"
#include "base/uuid.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    const std::string text(data, data + size);
    if (const auto number = parse_number(text)) require(std::stoull(text) == *number, "a number is what it says");
    if (const auto uuid = Uuid::parse(text)) require(Uuid::parse(uuid->to_string()) == uuid, "a UUID has one text");
    return 0;
}
