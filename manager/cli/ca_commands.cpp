// SPDX-License-Identifier: Apache-2.0
#include "manager/cli/ca_commands.hpp"

#include "manager/cli/files.hpp"
#include "manager/cli/text.hpp"

namespace vtpm::cli {
namespace {

struct CaOptions {
    std::string group = "default";
};

Result<Json> show_ca(Daemons &daemons, const CaOptions &options) {
    VTPM_ASSIGN(const auto ca, daemons.ca(options.group));
    return json_of(ca);
}

Result<Json> ca_certificate(Daemons &daemons, const CaOptions &options) {
    VTPM_ASSIGN(const Json ca, show_ca(daemons, options));
    return Json{{"group", options.group}, {"pem", ca.value("certificate", "")}};
}

Result<Json> ca_csr(Daemons &daemons, const CaOptions &options) {
    VTPM_ASSIGN(const std::string pem, daemons.request_ca(options.group));
    return Json{{"group", options.group}, {"pem", pem}};
}

struct InstallOptions : CaOptions {
    std::string file;
};

Result<Json> install_certificate(Daemons &daemons, const InstallOptions &options) {
    VTPM_ASSIGN(const std::string certificate, read_input(options.file));
    VTPM_TRY(daemons.import_ca(options.group, certificate));
    return show_ca(daemons, options);
}

template <typename Added>
void add_ca_group(Added &added) {
    added.command.add_option("--group", added.options.group, "Group of the CA")->capture_default_str();
}

}  // namespace

void add_ca_commands(const Menu &menu) {
    const Menu ca = menu.below("ca", "Manage who certifies the endorsement keys of a group's vTPMs");
    auto show = ca.add<CaOptions>("show", "Show the CA of a group", show_ca, show_ca_text);
    add_ca_group(show);
    auto certificate = ca.add<CaOptions>("certificate", "Print the CA's certificate, for those who shall trust it",
                                         ca_certificate, export_ca_text);
    add_ca_group(certificate);
    auto csr =
        ca.add<CaOptions>("csr", "Print a request (PKCS#10) for a certificate by another CA", ca_csr, export_ca_text);
    add_ca_group(csr);
    auto install = ca.add<InstallOptions>("install-certificate", "Use the certificate that another CA made of the csr",
                                          install_certificate, show_ca_text);
    add_ca_group(install);
    install.command
        .add_option("FILE", install.options.file,
                    "Certificate (PEM), and those that lead to its root; - is standard input")
        ->required();
}

}  // namespace vtpm::cli
