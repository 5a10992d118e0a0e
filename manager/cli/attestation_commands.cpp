// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/attestation_commands.hpp"

#include <algorithm>
#include <ctime>

#include "manager/attestation/enrolment.hpp"
#include "manager/attestation/verification.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/cli/files.hpp"
#include "manager/cli/guest_tpm.hpp"
#include "manager/cli/text.hpp"
#include "manager/crypto/encoding.hpp"

namespace vtpm::cli {
namespace {

struct AttestOptions {
    std::string vtpm;   // empty: of the guest that we are in
    std::string nonce;  // hexadecimal
    std::string pcrs;
    std::string device = "/dev/tpm0";  // of the guest
};

struct VerifyOptions {
    std::string file;
    std::string nonce;
    std::string host;  // file of its identity, which was challenged
    std::string uuid;  // may be empty, as all that follow
    std::string group;
    std::uint32_t min_generation = 1;
    std::string approver;      // file of a public key
    std::string measurements;  // file of policy measure or predict
    bool any_boot = false;
    std::string launch;      // file of launch predict
    std::string former_cas;  // file of certificates
    std::string write_ek;    // file to write
};

Result<std::vector<Certificate>> certificates_in(const std::string &file) {
    VTPM_ASSIGN(const std::string text, read_input(file));
    auto certificates = certificates_from_pem(text);
    if (!certificates) return fail(certificates.error().code, "{}: {}", file, certificates.error().text);
    return certificates;
}

Result<> trust_boots(const VerifyOptions &options, Trust &trust) {
    if (!options.approver.empty()) {
        VTPM_ASSIGN(const std::string pem, read_input(options.approver));
        VTPM_ASSIGN(trust.approver, ApproverKey::from_pem(pem));
    }
    if (!options.measurements.empty()) {
        VTPM_ASSIGN(const std::string text, read_input(options.measurements));
        VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
        if (!boot.unknown.empty())
            return fail(ErrorCode::kInvalid, "{} does not know PCR {}: predict without it (--pcrs)",
                        options.measurements, boot.unknown.begin()->first);
        trust.pcrs = std::move(boot.pcrs);
        trust.values = std::move(boot.values);
    }
    return {};
}

Result<> trust_launch(const VerifyOptions &options, Trust &trust) {
    if (options.launch.empty()) return {};
    VTPM_ASSIGN(const std::string text, read_input(options.launch));
    VTPM_ASSIGN(MeasuredBoot boot, parse_measured_boot(text));
    trust.launch_pcrs = std::move(boot.pcrs);
    trust.launch = std::move(boot.values);
    return {};
}

Result<Trust> trust_of(const VerifyOptions &options) {
    Trust trust;
    VTPM_ASSIGN(trust.nonce, nonce_from(options.nonce));
    VTPM_ASSIGN(const std::string identity, read_input(options.host));
    VTPM_ASSIGN(HostIdentity host, parse_host_identity(identity));
    trust.attestation_key = std::move(host.attestation_key);
    if (!options.uuid.empty()) {
        trust.vtpm = Uuid::parse(options.uuid);
        if (!trust.vtpm) return fail(ErrorCode::kInvalid, "'{}' is not a UUID", options.uuid);
    }
    trust.group = options.group;
    trust.min_generation = options.min_generation;
    VTPM_TRY(trust_boots(options, trust));
    VTPM_TRY(trust_launch(options, trust));
    if (!options.former_cas.empty()) {
        VTPM_ASSIGN(trust.former_cas, certificates_in(options.former_cas));
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

Result<Json> attest(const AttestOptions &options) {
    VTPM_ASSIGN(const Bytes nonce, nonce_from(options.nonce));
    std::string document;
    if (options.vtpm.empty()) {
        if (!options.pcrs.empty()) return fail(ErrorCode::kInvalid, "a guest does not choose the host's PCRs");
        VTPM_ASSIGN(document, attest_guest(options.device, nonce));
        VTPM_ASSIGN(document, with_event_log(document, options.device));
    } else {
        VTPM_ASSIGN(Daemons daemons, Daemons::reach(nullptr));
        VTPM_ASSIGN(const std::string uuid, resolve(daemons, options.vtpm));
        VTPM_ASSIGN(document, daemons.attest(uuid, options.nonce, options.pcrs));
    }
    VTPM_TRY(Attestation::parse(document));
    return Json::parse(document);
}

// "verified" says whether all of "checks" hold. "quote" is what the host's TPM said, null if its quote does not hold.
Result<Json> verify_attestation(const VerifyOptions &options) {
    VTPM_ASSIGN(const Trust trust, trust_of(options));
    VTPM_ASSIGN(const std::string text, read_input(options.file));
    VTPM_ASSIGN(const Attestation attestation, Attestation::parse(text));
    const std::vector<Check> checks = verify(attestation, trust);
    const bool verified = std::ranges::all_of(checks, [](const Check &check) { return check.problem.empty(); });
    if (verified && !options.write_ek.empty()) VTPM_TRY(write_endorsement_key(attestation, options.write_ek));
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

// `ek_certificate`: a file of the maker's certificate, where the TPM keeps none; may be empty.
struct IdentityOptions {
    std::string ek_certificate;
};

Result<Json> host_identity(Daemons &daemons, const IdentityOptions &options) {
    const std::string &ek_certificate = options.ek_certificate;
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

struct ChallengeOptions {
    std::string file;
    std::string tpm_cas;  // file of certificates
    std::string revoked;  // file of revocation lists; may be empty
    bool any_tpm = false;
    std::string write_answer;  // file to write
};

Result<Json> challenge_host(const ChallengeOptions &options) {
    VTPM_ASSIGN(const std::string text, read_input(options.file));
    VTPM_ASSIGN(const HostIdentity host, parse_host_identity(text));
    std::optional<Makers> makers;
    if (!options.any_tpm) {
        makers.emplace();
        VTPM_ASSIGN(makers->certificates, certificates_in(options.tpm_cas));
    }
    if (makers && !options.revoked.empty()) {
        VTPM_ASSIGN(const std::string content, read_input(options.revoked));
        auto lists = revocation_lists_from_file(content);
        if (!lists) return fail(ErrorCode::kInvalid, "{}: {}", options.revoked, lists.error().text);
        makers->revoked = std::move(*lists);
    }
    VTPM_ASSIGN(const Challenge made, challenge(host, makers, std::time(nullptr)));
    VTPM_TRY(write_output(options.write_answer, to_hex(made.answer.view()) + "\n"));
    return Json::parse(to_json(made.credential));
}

struct AnswerOptions {
    std::string file;
};

Result<Json> answer_challenge(Daemons &daemons, const AnswerOptions &options) {
    VTPM_ASSIGN(const std::string document, read_input(options.file));
    VTPM_ASSIGN(const std::string answer, daemons.answer_challenge(document));
    return Json{{"answer", answer}};
}

void add_create_attestation(const Menu &attestation) {
    auto [command, options] = attestation.add<AttestOptions>(
        "create", "Print an attestation of a vTPM, or, in a guest, of its own", attest, document_text);
    command.add_option("VTPM", options.vtpm, std::string(kVtpmHelp) + "; none: this guest's own");
    command.add_option("--nonce", options.nonce, "Nonce of the verifier, 8 to 64 bytes in hexadecimal")->required();
    command.add_option("--pcrs", options.pcrs, "PCRs of the host to quote; default: those that its group opens by");
    command.add_option("--device", options.device, "Device of the guest's TPM")->capture_default_str();
}

void add_verify_attestation(const Menu &attestation) {
    auto [command, options] =
        attestation.add<VerifyOptions>("verify", "Verify an attestation, on any machine; needs no daemon and no TPM",
                                       verify_attestation, verify_attestation_text);
    command.add_option("FILE", options.file, "File that attestation create printed; - is standard input")->required();
    command.add_option("--nonce", options.nonce, "Nonce that you asked with")->required();
    command.add_option("--host", options.host, "Identity of the host, whose TPM answered your challenge")->required();
    command.add_option("--uuid", options.uuid, "UUID of the vTPM that it must be of");
    command.add_option("--group", options.group, "Group that the vTPM must be of");
    command
        .add_option("--min-generation", options.min_generation,
                    "Lowest generation of the group's key: approvals of former ones are void")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    auto *boots = command.add_option_group("boots of the host that are good");
    boots->add_option("--approver", options.approver,
                      "Boots that the owner of this key approved (PEM file of a public key)");
    boots->add_option("--measurements", options.measurements, "Boots as in this file of policy measure or predict");
    boots->add_flag("--any-boot", options.any_boot, "All boots: then the host may lie about the vTPM");
    boots->require_option(1, 2);
    command.add_option("--launch", options.launch, "What the guest must have booted: a file of launch predict");
    command.add_option("--former-ca", options.former_cas,
                       "Certificates (PEM) of CAs that certified the vTPM where it was before");
    command.add_option("--write-ek", options.write_ek,
                       "New file for the vTPM's RSA endorsement key, for tpm2_makecredential");
}

void add_challenge(const Menu &host) {
    auto [command, options] = host.add<ChallengeOptions>(
        "challenge", "Print a question that only the TPM of an identity can answer; needs no daemon, no TPM",
        challenge_host, document_text);
    command.add_option("FILE", options.file, "File that host identity printed; - is standard input")->required();
    auto *tpms = command.add_option_group("TPMs that are good");
    auto *trusted = tpms->add_option("--tpm-ca", options.tpm_cas, "TPMs whose certificates lead to one of these (PEM)");
    tpms->add_flag("--any-tpm", options.any_tpm, "All TPMs: you know its endorsement key otherwise");
    tpms->require_option(1);
    command.add_option("--crl", options.revoked, "File of the TPM makers' revocation lists (PEM, or one in DER)")
        ->needs(trusted);
    command.add_option("--write-answer", options.write_answer, "New file for the answer that must come")->required();
}

}  // namespace

void add_attestation_commands(const Menu &menu) {
    const Menu attestation = menu.below("attestation", "Create and verify attestations of vTPMs");
    add_create_attestation(attestation);
    add_verify_attestation(attestation);
    const Menu host = menu.below("host", "Identify the TPM that a host's attestations come from");
    auto identity = host.add<IdentityOptions>("identity", "Print this host's identity, for verifiers", host_identity,
                                              document_text);
    identity.command.add_option(
        "--ek-certificate", identity.options.ek_certificate,
        "Certificate of the TPM by its maker, and those that lead on (PEM or DER), where the TPM keeps none");
    add_challenge(host);
    auto answer =
        host.add<AnswerOptions>("answer", "Answer a challenge by this host's TPM", answer_challenge, answer_text);
    answer.command.add_option("FILE", answer.options.file, "File that host challenge printed; - is standard input")
        ->required();
}

}  // namespace vtpm::cli
