// SPDX-License-Identifier: Apache-2.0
// The CAs of the groups: one each, whose key the hardware TPM makes and keeps, and uses for who knows the group's key.
// So a certificate says: this vTPM was made by this machine, in a boot in which the group could be opened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "manager/ca/manufacture.hpp"
#include "manager/ca/reissue.hpp"
#include "manager/groups/inventory.hpp"

namespace vtpm {

struct CaInfo {
    std::string group;
    std::string subject;
    std::string issuer;
    bool self_signed = true;
    std::string fingerprint;  // SHA-256 of the certificate
    std::string certificate;  // PEM; those that lead from it to its root follow
};

// For one operation: the TPM is reached, and let go after it.
struct OpenCa {
    std::unique_ptr<Sealer> sealer;
    Key authorization;
    CaRecord record;
    std::string common_name;
    Bytes certificate;  // DER

    // Good as long as the OpenCa stays where it is.
    [[nodiscard]] Result<CaKey> key() const;
};

class CertificateAuthorities {
public:
    // `enabled`: the configuration's word.
    CertificateAuthorities(GroupKeys &keys, Inventory &inventory, bool enabled)
        : keys_(keys), inventory_(inventory), enabled_(enabled) {}

    // Of a new vTPM: with its profile, with entropy of the hardware TPM, and, where that can sign and it is wanted,
    // with certificates.
    Result<std::unique_ptr<Manufacture>> manufacture(const VtpmRecord &vtpm);

    // New certificates for the endorsement keys that it has, by the group's CA as it is now. kRefused: nothing signs
    // here.
    Result<std::unique_ptr<Reissue>> reissue(const VtpmRecord &vtpm);

    // All of an open group; its CA is made when it is first needed. kRefused: it is not open, or nothing signs here.
    Result<OpenCa> open(const std::string &group);
    Result<CaInfo> show(const std::string &group);
    // A request for a certificate by another CA: PKCS#10, PEM.
    Result<std::string> request(const std::string &group);
    // That certificate, and others that lead from it to a root (PEM), in the place of the present one. kInvalid: it
    // does not fit (signed_ca.hpp).
    Result<> import_signed(const std::string &group, std::string_view pem);

private:
    Result<Certificates> certify(const std::string &group, const Uuid &vtpm, const std::vector<EndorsementKey> &keys,
                                 const TpmDescription &tpm);
    Result<CaRecord> record(const std::string &group);
    Result<CaRecord> create(const std::string &group, Sealer &sealer, const Key &authorization);

    GroupKeys &keys_;
    Inventory &inventory_;
    bool enabled_;
};

}  // namespace vtpm
