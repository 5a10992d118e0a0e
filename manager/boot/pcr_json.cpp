// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/pcr_json.hpp"

#include <algorithm>
#include <charconv>

#include "manager/crypto/encoding.hpp"

namespace vtpm {

Result<PcrSelection> pcrs_in(const JsonObject &document) {
    VTPM_ASSIGN(const std::string given, document.text("pcrs"));
    auto pcrs = PcrSelection::parse(given);
    if (given.empty()) return document.invalid("must have at least one PCR in 'pcrs'");
    if (!pcrs) return document.invalid("must have a PCR selection such as \"sha256:4,7\" as 'pcrs'");
    if (pcrs->to_string() != given)
        return document.invalid("must have its 'pcrs' in order and once, \"{}\"", pcrs->to_string());
    return pcrs;
}

Result<PcrValues> values_in(const JsonObject &document, const PcrSelection &pcrs) {
    VTPM_ASSIGN(const JsonObject object, document.object("values"));
    PcrValues values;
    for (const auto &[name, value] : object.all().items()) {
        unsigned pcr = 0;
        std::from_chars(name.data(), name.data() + name.size(), pcr);
        if (std::to_string(pcr) != name)
            return document.invalid("'values': '{}' is not a PCR's number", printable(name));
        const auto bytes = value.is_string() ? from_hex(value.get<std::string>()) : std::nullopt;
        if (!bytes) return document.invalid("'values': PCR {} needs a string of lower-case hexadecimal digits", pcr);
        values.emplace(pcr, *bytes);
    }
    if (!std::ranges::equal(pcrs.numbers(), values, {}, {}, &PcrValues::value_type::first))
        return document.invalid("must have as 'values' those of its 'pcrs', no more and no less");
    return values;
}

}  // namespace vtpm
