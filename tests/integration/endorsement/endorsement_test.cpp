// SPDX-License-Identifier: Apache-2.0
// A new vTPM's endorsement keys and their certificates, as openssl(1) sees them.
#include <openssl/pem.h>

#include "machine.hpp"
#include "manager/crypto/der.hpp"
#include "manager/crypto/pem.hpp"
#include "manager/crypto/x509.hpp"

namespace vtpm {
namespace {

using commands::Command;

constexpr EkTemplate kKinds[] = {EkTemplate::kRsa2048, EkTemplate::kEccP256, EkTemplate::kEccP384};

}  // namespace

TEST_CASE("a new vTPM has endorsement keys with certificates that lead to its group's CA") {
    Machine machine;
    machine.power_on();
    const Output exported = machine.xen_vtpm({"ca", "certificate"});
    REQUIRE(exported.status == 0);
    const std::string ca = machine.write("ca.pem", exported.out);
    REQUIRE(openssl({"verify", "-CAfile", ca, ca}).status == 0);
    for (const EkTemplate kind : kKinds) {
        const Bytes certificate = machine.nv_content(ek_certificate_index(kind));
        REQUIRE_FALSE(certificate.empty());
        const std::string der = machine.write("ek.der", text(certificate));
        const std::string pem = machine.file("ek.pem");
        REQUIRE(openssl({"x509", "-inform", "DER", "-in", der, "-out", pem}).status == 0);
        const Output verified = openssl({"verify", "-CAfile", ca, pem});
        CAPTURE(verified.err);
        REQUIRE(verified.status == 0);
        const Output shown = openssl({"x509", "-in", pem, "-noout", "-text"});
        // OpenSSL 3.5 knows its name.
        REQUIRE_THAT(shown.out, Contains("2.23.133.8.1") || Contains("Endorsement Key Certificate"));
        REQUIRE_THAT(shown.out, Contains(machine.uuid.to_string()));

        // It is for the key that this TPM makes from the template, now and after a power cycle.
        const EndorsementKey key = expect(endorsement_key(machine.endorsement_public(kind)));
        const Output spki = openssl({"x509", "-in", pem, "-noout", "-pubkey"});
        const Bio bio(BIO_new_mem_buf(spki.out.data(), static_cast<int>(spki.out.size())));
        const EvpKey certified(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
        REQUIRE(EVP_PKEY_eq(certified.get(), key.key.get()) == 1);
    }
    REQUIRE(machine.nv_content(kEkCertificateChainIndex).empty());  // its CA is a root
    const Bytes before = machine.endorsement_public(EkTemplate::kRsa2048);
    machine.power_off();
    machine.power_on();
    REQUIRE(machine.endorsement_public(EkTemplate::kRsa2048) == before);
}

TEST_CASE("a guest can neither change nor remove its certificates") {
    Machine machine;
    machine.power_on();
    const std::uint32_t index = ek_certificate_index(EkTemplate::kRsa2048);
    const Bytes certificate = machine.nv_content(index);
    for (const std::uint32_t who : {commands::kOwner, commands::kPlatform, index}) {
        const Bytes write =
            Command(commands::kSessions, 0x137).u32(who).u32(index).password().sized(Bytes(4, 0)).u16(0).build();
        REQUIRE(return_code(machine.execute(write)) != 0);
        const Bytes undefine = Command(commands::kSessions, 0x122).u32(who).u32(index).password().build();
        REQUIRE(return_code(machine.execute(undefine)) != 0);
    }
    // TPM2_Clear by the owner's lockout authorization: NV of the owner goes, the platform's stays.
    REQUIRE(return_code(machine.execute(Command(commands::kSessions, 0x126).u32(0x4000000A).password().build())) == 0);
    REQUIRE(machine.nv_content(index) == certificate);
}

TEST_CASE("with a certificate by another CA, new vTPMs have the chain that leads to it") {
    Machine machine;
    const std::string request = machine.write("ca.csr", machine.xen_vtpm({"ca", "csr"}).out);
    const std::string root = machine.file("root.pem");
    const std::string key = machine.file("root.key");
    REQUIRE(openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                     "-out", root, "-subj", "/CN=Our own CA"})
                .status == 0);
    const std::string extensions =
        machine.write("ca.ext",
                      "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n"
                      "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    const std::string signed_ca = machine.file("signed.pem");
    const Output made = openssl({"x509", "-req", "-in", request, "-CA", root, "-CAkey", key, "-CAcreateserial",
                                 "-extfile", extensions, "-days", "3650", "-out", signed_ca});
    CAPTURE(made.err);
    REQUIRE(made.status == 0);
    REQUIRE(machine.xen_vtpm({"ca", "install-certificate", root}).status == 2);
    const Output imported = machine.xen_vtpm({"ca", "install-certificate", signed_ca});
    CAPTURE(imported.err);
    REQUIRE(imported.status == 0);
    REQUIRE_THAT(imported.out, Contains("CN=Our own CA"));

    machine.power_on();
    const std::string chain = machine.write("chain.der", text(machine.nv_content(kEkCertificateChainIndex)));
    const std::string chain_pem = machine.file("chain.pem");
    REQUIRE(openssl({"x509", "-inform", "DER", "-in", chain, "-out", chain_pem}).status == 0);
    const std::string der =
        machine.write("ek.der", text(machine.nv_content(ek_certificate_index(EkTemplate::kEccP256))));
    REQUIRE(openssl({"x509", "-inform", "DER", "-in", der, "-out", machine.file("ek.pem")}).status == 0);
    REQUIRE(openssl({"verify", "-CAfile", root, "-untrusted", chain_pem, machine.file("ek.pem")}).status == 0);
    REQUIRE(openssl({"verify", "-CAfile", root, machine.file("ek.pem")}).status != 0);
}

TEST_CASE("a chain that no NV index has room for is there for the guest, and leads to the root") {
    Machine machine;
    const std::string request = machine.write("ca.csr", machine.xen_vtpm({"ca", "csr"}).out);
    const auto key_of = [&](const char *name) { return machine.file(std::string(name) + ".key"); };
    const auto pem_of = [&](const char *name) { return machine.file(std::string(name) + ".pem"); };
    REQUIRE(openssl({"req", "-x509", "-newkey", "rsa:4096", "-nodes", "-keyout", key_of("root"), "-out", pem_of("root"),
                     "-subj", "/CN=Our own root"})
                .status == 0);
    REQUIRE(openssl({"req", "-newkey", "rsa:4096", "-nodes", "-keyout", key_of("between"), "-out",
                     machine.file("between.csr"), "-subj", "/CN=Our own CA"})
                .status == 0);
    const std::string extensions = machine.write("ca.ext",
                                                 "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
                                                 "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    const auto sign = [&](const std::string &csr, const char *issuer, const std::string &out) {
        REQUIRE(openssl({"x509", "-req", "-in", csr, "-CA", pem_of(issuer), "-CAkey", key_of(issuer), "-CAcreateserial",
                         "-extfile", extensions, "-days", "3650", "-out", out})
                    .status == 0);
    };
    sign(machine.file("between.csr"), "root", pem_of("between"));
    sign(request, "between", machine.file("signed.pem"));
    const auto read = [](const std::string &path) {
        std::ifstream file(path);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string chain =
        machine.write("chain.pem", read(machine.file("signed.pem")) + read(pem_of("between")) + read(pem_of("root")));
    const Output imported = machine.xen_vtpm({"ca", "install-certificate", chain});
    CAPTURE(imported.err);
    REQUIRE(imported.status == 0);
    REQUIRE(machine.xen_vtpm({"ca", "certificate"}).out == read(machine.file("signed.pem")) + read(pem_of("between")));

    machine.power_on();
    const Bytes first = machine.nv_content(kEkCertificateChainIndex);
    const Bytes second = machine.nv_content(kEkCertificateChainIndex + 1);
    REQUIRE(first.size() == 2048);
    REQUIRE_FALSE(second.empty());
    REQUIRE(machine.nv_content(kEkCertificateChainIndex + 2).empty());
    Bytes whole = first;
    whole.insert(whole.end(), second.begin(), second.end());
    const auto certificates = expect(certificates_from(whole));
    REQUIRE(certificates.size() == 2);
    std::string untrusted;
    for (const Certificate &certificate : certificates)
        untrusted += to_pem("CERTIFICATE", der_of(i2d_X509, certificate.get()));
    const std::string der =
        machine.write("ek.der", text(machine.nv_content(ek_certificate_index(EkTemplate::kEccP256))));
    REQUIRE(openssl({"x509", "-inform", "DER", "-in", der, "-out", machine.file("ek.pem")}).status == 0);
    REQUIRE(openssl({"verify", "-CAfile", pem_of("root"), "-untrusted", machine.write("untrusted.pem", untrusted),
                     machine.file("ek.pem")})
                .status == 0);
}

TEST_CASE("where certificates are not wanted, or nothing could sign them, there are none") {
    const std::string config = GENERATE("ek_certificates = false\n", "sealing = \"file\"\n");
    Machine machine(config);
    machine.power_on();
    for (const EkTemplate kind : kKinds) REQUIRE(machine.nv_content(ek_certificate_index(kind)).empty());
    REQUIRE(endorsement_key(machine.endorsement_public(EkTemplate::kEccP256)));
}

TEST_CASE("a new vTPM whose certificates cannot be signed stays new, and is refused until they can") {
    Machine machine;
    machine.tpm.reset();
    REQUIRE_FALSE(machine.host->comes_up(machine.device, machine.uuid, machine.ring));
    machine.power_off();
    machine.tpm.emplace(machine.directory / "hardware-tpm");
    machine.power_on();
    REQUIRE_FALSE(machine.nv_content(ek_certificate_index(EkTemplate::kRsa2048)).empty());
}

}  // namespace vtpm
