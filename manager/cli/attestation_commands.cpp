// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/attestation_commands.hpp"

#include <algorithm>
#include <ctime>

#include "manager/attestation/enrolment.hpp"
#include "manager/attestation/verification.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/guest_tpm.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

Result<std::vector<Certificate>> certificates_in(const std::string &file) {
    VTPM_ASSIGN(const std::string text, read_input(file));
    auto certificates = certificates_from_pem(text);
    if (!certificates) return fail(certificates.error().code, "{}: {}", file, certificates.error().text);
    return certificates;
}

Result<> trust_boots(const VerifyOrder &order, Trust &trust) {
    if (!order.approver.empty()) {
        VTPM_ASSIGN(const std::string pem, read_input(order.approver));
        VTPM_ASSIGN(trust.approver, ApproverKey::from_pem(pem));
    }
    if (!order.values.empty()) {
        VTPM_ASSIGN(const std::string text, read_input(order.values));
        VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
        if (!boot.unknown.empty())
            return fail(ErrorCode::kInvalid, "{} does not know PCR {}: predict without it (--pcrs)", order.values,
                        boot.unknown.begin()->first);
        trust.pcrs = std::move(boot.pcrs);
        trust.values = std::move(boot.values);
    }
    return {};
}

Result<> trust_launch(const VerifyOrder &order, Trust &trust) {
    if (order.launch.empty()) return {};
    VTPM_ASSIGN(const std::string text, read_input(order.launch));
    VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
    trust.launch_pcrs = std::move(boot.pcrs);
    trust.launch = std::move(boot.values);
    return {};
}

Result<Trust> trust_of(const VerifyOrder &order) {
    Trust trust;
    VTPM_ASSIGN(trust.nonce, nonce_from(order.nonce));
    VTPM_ASSIGN(const std::string identity, read_input(order.host));
    VTPM_ASSIGN(HostIdentity host, parse_host_identity(identity));
    trust.attestation_key = std::move(host.attestation_key);
    if (!order.uuid.empty()) {
        trust.vtpm = Uuid::parse(order.uuid);
        if (!trust.vtpm) return fail(ErrorCode::kInvalid, "'{}' is not a UUID", order.uuid);
    }
    trust.group = order.group;
    trust.min_generation = order.min_generation;
    VTPM_TRY(trust_boots(order, trust));
    VTPM_TRY(trust_launch(order, trust));
    if (!order.former_cas.empty()) {
        VTPM_ASSIGN(trust.former_cas, certificates_in(order.former_cas));
    }
    trust.now = std::time(nullptr);
    return trust;
}

// The one that tools make by default.
Result<> write_endorsement_key(const Attestation &attestation, const std::string &file) {
    for (const CertifiedKey &certified : attestation.endorsement_keys) {
        VTPM_ASSIGN(const EndorsementKey key, endorsement_key(certified.public_area));
        if (key.kind != EkTemplate::kRsa2048) continue;
        const Bytes &area = certified.public_area;
        return write_output(file, {reinterpret_cast<const char *>(area.data()), area.size()});  // bytes as text
    }
    return fail(ErrorCode::kNotFound, "the attestation has no RSA endorsement key");
}

Json quote_of(const Attestation &attestation, const Trust &trust) {
    const auto quote = host_quote(attestation, trust);
    if (!quote) return nullptr;
    Json values = Json::object();
    for (const auto &[pcr, value] : attestation.host.values) values[std::to_string(pcr)] = to_hex(value);
    const TPMS_CLOCK_INFO &clock = quote->clockInfo;
    return {{"pcrs", attestation.pcrs.to_string()},
            {"values", std::move(values)},
            {"clock", clock.clock},
            {"clock_safe", clock.safe == TPM2_YES},
            {"reset_count", clock.resetCount},
            {"restart_count", clock.restartCount},
            {"firmware_version", fmt::format("{:016x}", quote->firmwareVersion)}};  // JSON's numbers have 53 bits
}

// Its digest is in the document. A log that makes that too large for a file is not brought.
Result<std::string> with_event_log(const std::string &document, const std::string &device) {
    VTPM_ASSIGN(Attestation attestation, Attestation::parse(document));
    if (attestation.event_log_digest.empty()) return document;
    VTPM_ASSIGN(attestation.event_log, read_guest_event_log(device));
    std::string complete = attestation.to_json();
    return complete.size() <= Attestation::kMaxSize ? complete : document;
}

}  // namespace

Result<Json> attest(const AttestOrder &order) {
    VTPM_ASSIGN(const Bytes nonce, nonce_from(order.nonce));
    std::string document;
    if (order.uuid.empty()) {
        if (!order.pcrs.empty()) return fail(ErrorCode::kInvalid, "a guest does not choose the host's PCRs");
        VTPM_ASSIGN(document, attest_guest(order.device, nonce));
        VTPM_ASSIGN(document, with_event_log(document, order.device));
    } else {
        VTPM_ASSIGN(Daemons daemons, Daemons::reach(nullptr));
        VTPM_ASSIGN(document, daemons.attest(order.uuid, order.nonce, order.pcrs));
    }
    VTPM_TRY(Attestation::parse(document));
    return Json::parse(document);
}

Result<Json> verify_attestation(const VerifyOrder &order) {
    VTPM_ASSIGN(const Trust trust, trust_of(order));
    VTPM_ASSIGN(const std::string text, read_input(order.file));
    VTPM_ASSIGN(const Attestation attestation, Attestation::parse(text));
    const std::vector<Check> checks = verify(attestation, trust);
    const bool verified = std::ranges::all_of(checks, [](const Check &check) { return check.problem.empty(); });
    if (verified && !order.endorsement_key.empty()) VTPM_TRY(write_endorsement_key(attestation, order.endorsement_key));
    Json list = Json::array();
    for (const Check &check : checks)
        list.push_back({{"check", check.what},
                        {"holds", check.problem.empty()},
                        {"text", check.problem.empty() ? check.detail : check.problem}});
    return Json{{"verified", verified},
                {"vtpm", attestation.vtpm.to_string()},
                {"group", attestation.group},
                {"generation", attestation.generation},
                {"quote", quote_of(attestation, trust)},
                {"checks", std::move(list)}};
}

Result<Json> host_identity(Daemons &daemons, const std::string &ek_certificate) {
    if (ek_certificate.empty()) {
        VTPM_ASSIGN(const std::string document, daemons.host_identity({}));
        return Json::parse(document);
    }
    VTPM_ASSIGN(const std::string content, read_input(ek_certificate));
    const auto certificates = certificates_from_file(content);
    if (!certificates) return fail(ErrorCode::kInvalid, "{}: {}", ek_certificate, certificates.error().text);
    VTPM_ASSIGN(const EkTemplate kind, certified_template(certificates->front().get()));
    VTPM_ASSIGN(const std::string document, daemons.host_identity(std::string(name_of(kind))));
    VTPM_ASSIGN(HostIdentity host, parse_host_identity(document));
    VTPM_TRY(use_certificate(host, *certificates));
    return Json::parse(to_json(host));
}

Result<Json> challenge_host(const ChallengeOrder &order) {
    VTPM_ASSIGN(const std::string text, read_input(order.file));
    VTPM_ASSIGN(const HostIdentity host, parse_host_identity(text));
    std::optional<Makers> makers;
    if (!order.any_tpm) {
        makers.emplace();
        VTPM_ASSIGN(makers->certificates, certificates_in(order.makers));
    }
    if (makers && !order.revoked.empty()) {
        VTPM_ASSIGN(const std::string content, read_input(order.revoked));
        auto lists = revocation_lists_from_file(content);
        if (!lists) return fail(ErrorCode::kInvalid, "{}: {}", order.revoked, lists.error().text);
        makers->revoked = std::move(*lists);
    }
    VTPM_ASSIGN(const Challenge made, challenge(host, makers, std::time(nullptr)));
    VTPM_TRY(write_output(order.answer, to_hex(made.answer.view()) + "\n"));
    return Json::parse(to_json(made.credential));
}

Result<Json> answer_challenge(Daemons &daemons, const std::string &file) {
    VTPM_ASSIGN(const std::string document, read_input(file));
    VTPM_ASSIGN(const std::string answer, daemons.answer_challenge(document));
    return Json{{"answer", answer}};
}

}  // namespace vtpm::cli
