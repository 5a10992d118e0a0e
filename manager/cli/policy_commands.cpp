// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/policy_commands.hpp"

#include "base/secret.hpp"
#include "manager/boot/boot_policy.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/files.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

Result<PcrSelection> selection(const std::string &text) {
    return PcrSelection::parse(text.empty() ? kUsualPcrs : text);
}

// Of a prediction, `wanted` or all.
Result<MeasuredBoot> predicted(const std::string &file, const std::string &wanted) {
    VTPM_ASSIGN(const std::string text, read_input(file));
    VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
    if (wanted.empty() && !boot.unknown.empty())
        return fail(ErrorCode::kInvalid,
                    "{} does not know PCR {}, so that an approval would not cover it: say which PCRs it is to cover, "
                    "such as --pcrs {}",
                    file, boot.unknown.begin()->first, boot.pcrs.to_string());
    if (wanted.empty()) return boot;
    VTPM_ASSIGN(const PcrSelection pcrs, PcrSelection::parse(wanted));
    const auto bank = [](const PcrSelection &of) { return of.to_string().substr(0, of.to_string().find(':')); };
    if (bank(pcrs) != bank(boot.pcrs))
        return fail(ErrorCode::kInvalid, "{} has values of {}, not of {}", file, boot.pcrs.to_string(), wanted);
    PcrValues chosen;
    for (const unsigned pcr : pcrs.numbers()) {
        const auto value = boot.values.find(pcr);
        if (value == boot.values.end()) return fail(ErrorCode::kInvalid, "{} has no value of PCR {}", file, pcr);
        chosen.insert(*value);
    }
    return MeasuredBoot{pcrs, std::move(chosen), {}, {}};
}

Result<MeasuredBoot> boot_to_sign(const SignOrder &order) {
    if (!order.this_host) return predicted(order.values, order.pcrs);
    VTPM_ASSIGN(const PcrSelection pcrs, selection(order.pcrs));
    return measure_boot(pcrs, BootSources::of_this_host());
}

Result<std::optional<std::int64_t>> expiry(const std::string &text) {
    if (text.empty()) return std::nullopt;
    auto seconds = from_utc(text);
    if (!seconds) return fail(ErrorCode::kInvalid, "'{}' is no time such as 2027-01-31T23:59:59Z", text);
    return seconds;
}

}  // namespace

Result<Json> predict_policy(const PredictOrder &order) {
    VTPM_ASSIGN(const PcrSelection selected, selection(order.pcrs));
    const BootSources sources =
        order.event_log.empty() ? BootSources::of_this_host() : BootSources{"", order.event_log};
    VTPM_ASSIGN(const MeasuredBoot boot,
                order.next ? predict_boot(selected, sources, order.root) : measure_boot(selected, sources));
    return Json::parse(to_json(boot));
}

Result<Json> sign_policy(const SignOrder &order) {
    VTPM_ASSIGN(const auto not_after, expiry(order.not_after));
    VTPM_ASSIGN(MeasuredBoot boot, boot_to_sign(order));
    VTPM_ASSIGN(const SecretBytes key, read_key(order.key));
    VTPM_ASSIGN(const BootPolicy policy, BootPolicy::sign(key.view(), {order.group, boot.pcrs, std::move(boot.values),
                                                                       not_after, order.generation}));
    return Json::parse(policy.to_json());
}

Result<Json> install_policy(Daemons &daemons, const std::string &file) {
    VTPM_ASSIGN(const std::string document, read_input(file));
    VTPM_ASSIGN(const std::string id, daemons.install_policy(document));
    VTPM_ASSIGN(const Json policies, list_policies(daemons));
    for (const Json &policy : policies)
        if (policy.value("policy", "") == id) return policy;
    return fail(ErrorCode::kNotFound, "the boot policy {} was revoked meanwhile", id);
}

Result<Json> list_policies(Daemons &daemons) {
    VTPM_ASSIGN(const auto policies, daemons.policies());
    return json_of(policies);
}

Result<Json> revoke_policy(Daemons &daemons, const std::string &id) {
    VTPM_TRY(daemons.revoke_policy(id));
    return Json{{"policy", id}, {"revoked", true}};
}

}  // namespace vtpm::cli
