// SPDX-License-Identifier: Apache-2.0
#include "manager/attestation/verification.hpp"

#include <algorithm>
#include <optional>

#include "base/legible.hpp"
#include "launch/hashes.hpp"
#include "launch/tcg_log.hpp"
#include "manager/boot/boot_policy.hpp"
#include "manager/boot/event_data.hpp"
#include "manager/boot/event_log.hpp"
#include "manager/ca/ek_certificate.hpp"
#include "manager/crypto/encoding.hpp"
#include "manager/tpm/attestation_key.hpp"
#include "manager/tpm/ca_key.hpp"
#include "manager/tpm/public_area.hpp"
#include "manager/tpm/tpm_statement.hpp"

namespace vtpm {
namespace {

constexpr unsigned kCommandLinePcr = 8;

template <typename... Args>
tl::unexpected<Error> refused(fmt::format_string<Args...> format, Args &&...args) {
    return fail(ErrorCode::kRefused, format, std::forward<Args>(args)...);
}

// Each says what it found.
Result<std::string> check_nonce(const Attestation &attestation, const Trust &trust) {
    if (attestation.nonce == trust.nonce) return to_hex(trust.nonce);
    return refused("it answers {}, you asked with {}", to_hex(attestation.nonce), to_hex(trust.nonce));
}

Result<std::string> check_vtpm(const Attestation &attestation, const Trust &trust) {
    if (!trust.vtpm || *trust.vtpm == attestation.vtpm) return attestation.vtpm.to_string();
    return refused("it is of vTPM {}, you asked for {}", attestation.vtpm.to_string(), trust.vtpm->to_string());
}

// Bound by the quote, as all that is not the TPM's: the host says so that had the group's key.
Result<std::string> check_group(const Attestation &attestation, const Trust &trust) {
    if (!trust.group.empty() && trust.group != attestation.group)
        return refused("it is of group '{}', you asked for '{}'", attestation.group, trust.group);
    if (attestation.generation < trust.min_generation)
        return refused(
            "the group's key is of generation {}, you asked for {} at least: xen-vtpm group revoke-approvals",
            attestation.generation, trust.min_generation);
    return fmt::format("'{}', generation {}", attestation.group, attestation.generation);
}

Result<EvpKey> trusted_key(const Trust &trust) {
    const auto area = area_of_form(trust.attestation_key, attestation_key_form());
    EvpKey key = area ? openssl_key(*area) : nullptr;
    if (!key)
        return refused("the key that you trust is not an attestation key of a TPM: it could sign what no TPM said");
    return key;
}

Result<std::string> check_attestation_key(const Attestation &attestation, const Trust &trust) {
    VTPM_TRY(trusted_key(trust));
    if (attestation.host.attestation_key != trust.attestation_key)
        return refused("it is of another host: its attestation key is not the one that you trust");
    return std::string("the one that you trust");
}

bool selects(const TPML_PCR_SELECTION &quoted, const PcrSelection &pcrs) {
    const TPML_PCR_SELECTION wanted = pcrs.tpm();
    const TPMS_PCR_SELECTION &ours = wanted.pcrSelections[0];
    const TPMS_PCR_SELECTION &theirs = quoted.pcrSelections[0];
    return wanted.count == 1 && quoted.count == 1 && theirs.hash == ours.hash &&
           std::ranges::equal(ByteView(theirs.pcrSelect, theirs.sizeofSelect),
                              ByteView(ours.pcrSelect, ours.sizeofSelect));
}

Result<TPMS_ATTEST> quote_of(const Attestation &attestation, const Trust &trust) {
    VTPM_ASSIGN(const EvpKey key, trusted_key(trust));
    VTPM_ASSIGN(const Bytes bound, attestation.bound_data());
    VTPM_ASSIGN(const TPMS_ATTEST attest, verified(attestation.host.quote, key.get(), TPM2_ST_ATTEST_QUOTE, bound));
    const TPMS_QUOTE_INFO &quote = attest.attested.quote;
    if (!selects(quote.pcrSelect, attestation.pcrs))
        return refused("the TPM quoted other PCRs than {}", attestation.pcrs.to_string());
    VTPM_ASSIGN(const Bytes digest, digest_of(attestation.host.values));
    if (!std::ranges::equal(digest, ByteView(quote.pcrDigest.buffer, quote.pcrDigest.size)))
        return refused("the PCRs' values are not those that the TPM quoted");
    return attest;
}

Result<std::string> check_quote(const Attestation &attestation, const Trust &trust) {
    VTPM_TRY(quote_of(attestation, trust));
    return attestation.pcrs.to_string();
}

Result<std::string> check_ca_key(const Attestation &attestation, const Trust &trust) {
    VTPM_ASSIGN(const EvpKey key, trusted_key(trust));
    const auto area = area_of_form(attestation.ca_key, ca_key_form());
    if (!area) return refused("it is not one that xen-vtpm makes in a TPM");
    VTPM_ASSIGN(const Bytes bound, attestation.bound_data());
    VTPM_ASSIGN(const TPMS_ATTEST attest,
                verified(attestation.host.ca_certification, key.get(), TPM2_ST_ATTEST_CERTIFY, bound));
    const TPM2B_NAME &name = attest.attested.certify.name;
    if (!std::ranges::equal(tpm_name(*area), ByteView(name.name, name.size)))
        return refused("the TPM certified another key");
    const auto certificate = certificate_from(attestation.ca_certificate);
    if (!certificate) return refused("the CA's certificate: {}", certificate.error().text);
    const EvpKey in_tpm = openssl_key(*area);
    const EVP_PKEY *certified = X509_get0_pubkey(certificate->get());
    if (!in_tpm || certified == nullptr || EVP_PKEY_eq(certified, in_tpm.get()) != 1)
        return refused("the CA's certificate is for another key");
    return std::string("in the same TPM");
}

// Those of a vTPM that came from elsewhere are by the CA that it had there.
Result<std::vector<Certificate>> issuers(const Attestation &attestation, const Trust &trust) {
    std::vector<Certificate> issuers;
    VTPM_ASSIGN(issuers.emplace_back(), certificate_from(attestation.ca_certificate));
    for (const Certificate &former : trust.former_cas) {
        X509_up_ref(former.get());
        issuers.emplace_back(former.get());
    }
    return issuers;
}

Result<std::string> check_endorsement_keys(const Attestation &attestation, const Trust &trust) {
    if (attestation.endorsement_keys.empty()) return refused("there is none");
    const auto trusted = issuers(attestation, trust);
    if (!trusted) return refused("the CA's certificate: {}", trusted.error().text);
    for (const CertifiedKey &certified : attestation.endorsement_keys) {
        VTPM_ASSIGN(const EndorsementKey key, endorsement_key(certified.public_area));
        const auto certificate = certificate_from(certified.certificate);
        if (!certificate) return refused("a certificate: {}", certificate.error().text);
        VTPM_TRY(check_ek_certificate(certificate->get(), key, attestation.vtpm));
        const auto chain = verify_chain(certificate->get(), *trusted, trust.now, Strict::kYes);
        if (!chain)
            return refused(
                "a certificate is not by the group's CA: {} (of a vTPM that was imported or recovered it is "
                "by its former one: --former-ca)",
                chain.error().text);
    }
    return fmt::format("{}, certified by the group's CA", attestation.endorsement_keys.size());
}

// Of the values that must be, those that are others, or were not quoted.
std::string deviations(const PcrSelection &pcrs, const PcrValues &values, const Attestation &attestation,
                       std::string_view were) {
    if (pcrs.tpm().pcrSelections[0].hash != attestation.pcrs.tpm().pcrSelections[0].hash)
        return fmt::format("the quote is of another bank than {}", pcrs.to_string());
    for (const auto &[pcr, value] : values)
        if (!attestation.host.values.contains(pcr)) return fmt::format("PCR {} was not quoted", pcr);
    return differences(values, attestation.host.values, were);
}

// Whether each of its digests is over `bytes`, and it has one.
bool is_over(const launch::LogEvent &event, ByteView bytes) {
    return !event.digests.empty() && std::ranges::all_of(event.digests, [&](const launch::LogDigest &digest) {
        const auto hash = launch::hash_of_algorithm(digest.algorithm);
        const auto expected = hash ? launch::digests_of(bytes, {*hash}) : Result<launch::Digests>();
        return hash && expected && std::ranges::equal(expected->at(*hash), digest.value);
    });
}

// The whole line of a launch's log, whatever banks that has; none if nobody measured it.
std::optional<std::string> command_line_in(ByteView log) {
    constexpr std::string_view kGrubs = "kernel_cmdline: ";
    for (const launch::LogEvent &event : launch::read_tcg_log(log).value_or(launch::TcgLog()).events) {
        if (event.pcr != kCommandLinePcr || event.type != kIplEvent) continue;
        std::string text(event.data.begin(), event.data.end());
        if (!text.starts_with(kGrubs)) continue;
        if (text.ends_with('\0')) text.pop_back();
        text.erase(0, kGrubs.size());
        if (is_over(event, bytes_of(text))) return text;
    }
    return std::nullopt;
}

// The host's word, which its quote binds: the vTPM was given this log, and extended by what is in it, before its guest
// had it. The vTPM's own quote then tells what was extended since.
Result<std::string> check_launch(const Attestation &attestation, const Trust &trust) {
    const bool asked = !trust.launch.empty();
    if (attestation.event_log_digest.empty()) {
        if (asked || !attestation.event_log.empty())
            return refused(
                "its host tells nothing of it: the vTPM had launch = off at its last power-on, or had none yet");
        return std::string("its host tells nothing of it");
    }
    if (attestation.event_log.empty()) {
        if (asked)
            return refused(
                "its event log is not in the attestation: let the guest ask (xen-vtpm attestation create in it)");
        return std::string("its event log is not in the attestation");
    }
    VTPM_ASSIGN(const auto digest, launch::digests_of(attestation.event_log, {launch::Hash::kSha256}));
    if (digest.at(launch::Hash::kSha256) != attestation.event_log_digest)
        return refused("the event log is not the one that the host gave to the vTPM");
    const auto line = command_line_in(attestation.event_log);
    if (asked && !line) return refused("nobody measured what the guest was started with");
    if (asked) {
        VTPM_ASSIGN(const BootLog log, parse_event_log(attestation.event_log, trust.launch_pcrs));
        VTPM_ASSIGN(const PcrValues values, replayed(log, trust.launch_pcrs));
        const std::string differ = differences(trust.launch, values, "should be");
        if (!differ.empty()) return refused("the guest was started with something else: {}", differ);
        return trust.launch_pcrs.to_string() + " as you know them";
    }
    return line ? fmt::format("measured; command line '{}'", legible(*line)) : "nobody measured it";
}

Result<> check_approval(const Attestation &attestation, const ApproverKey &approver, std::int64_t now) {
    if (attestation.approver != approver.fingerprint())
        return refused("group '{}' is not bound to that approver's boots", attestation.group);
    if (attestation.boot_policy.empty()) return refused("its approver did not approve this boot of the host");
    VTPM_ASSIGN(const BootPolicy policy, BootPolicy::parse(attestation.boot_policy));
    VTPM_TRY(policy.verify(approver, now));
    const BootApproval &approval = policy.approval();
    if (approval.group != attestation.group || approval.generation != attestation.generation)
        return refused("the approver's boot policy is for another group, or for another generation of its key");
    const std::string differ = deviations(approval.pcrs, approval.values, attestation, "approved");
    if (!differ.empty()) return refused("the approver approved another boot: {}", differ);
    return {};
}

Result<std::string> check_boot(const Attestation &attestation, const Trust &trust) {
    std::string found;
    if (trust.approver) {
        VTPM_TRY(check_approval(attestation, *trust.approver, trust.now));
        found = "approved by " + trust.approver->fingerprint();
    }
    if (!trust.values.empty()) {
        const std::string differ = deviations(trust.pcrs, trust.values, attestation, "should be");
        if (!differ.empty()) return refused("the host booted something else: {}", differ);
        found += (found.empty() ? "" : "; ") + trust.pcrs.to_string() + " as you know them";
    }
    return found.empty() ? "any: you asked for none" : found;
}

}  // namespace

std::vector<Check> verify(const Attestation &attestation, const Trust &trust) {
    using Checking = Result<std::string> (*)(const Attestation &, const Trust &);
    constexpr std::pair<const char *, Checking> kChecks[] = {
        {"nonce", check_nonce},
        {"vTPM", check_vtpm},
        {"group", check_group},
        {"attestation key", check_attestation_key},
        {"host quote", check_quote},
        {"CA key", check_ca_key},
        {"endorsement keys", check_endorsement_keys},
        {"boot", check_boot},
        {"launch", check_launch},
    };
    std::vector<Check> checks;
    for (const auto &[what, check] : kChecks) {
        auto found = check(attestation, trust);
        checks.push_back(found ? Check{what, {}, std::move(*found)} : Check{what, std::move(found.error().text), {}});
    }
    return checks;
}

Result<TPMS_ATTEST> host_quote(const Attestation &attestation, const Trust &trust) {
    return quote_of(attestation, trust);
}

}  // namespace vtpm
