// SPDX-License-Identifier: Apache-2.0
// A guest's FAPI, as docs/keys.md has it: TPM2 Software Stack's own tools on a vTPM.
#include "machine.hpp"
#include "tpm_socket.hpp"

namespace vtpm {
namespace {

// tss2-tcti-cmd's other end: one command in, one response out.
constexpr const char *kBridge = R"(import socket, struct, sys
tpm = socket.socket(socket.AF_UNIX)
tpm.connect(sys.argv[1])
def message(read):
    head = read(10)
    return head + read(struct.unpack('>I', head[2:6])[0] - 10) if len(head) == 10 else b''
answers = tpm.makefile('rb')
while command := message(sys.stdin.buffer.read):
    tpm.sendall(command)
    sys.stdout.buffer.write(message(answers.read))
    sys.stdout.buffer.flush()
)";

class FapiGuest {
public:
    explicit FapiGuest(const std::string &profile) {
        machine.power_on();
        tools_.emplace(machine.file("tpm.sock"), machine.ring);
        tcti_ = fmt::format("cmd:python3 {} {}", machine.write("bridge.py", kBridge), machine.file("tpm.sock"));
        (void)machine.write("fapi-config.json", fmt::format(R"({{
     "profile_name": "{0}",
     "profile_dir": "/etc/tpm2-tss/fapi-profiles/",
     "user_dir": "{1}/user",
     "system_dir": "{1}/system",
     "tcti": "{2}",
     "system_pcrs" : [],
     "log_dir" : "{1}/log"
}}
)",
                                                            profile, machine.file("fapi"), tcti_));
        for (const char *directory : {"fapi/user", "fapi/system", "fapi/log"})
            std::filesystem::create_directories(machine.file(directory));
    }
    // In the guest's shell, where the files of the test stand for those of /etc/tpm2-tss.
    Output shell(const std::string &script) {
        return run(
            {{"sh", "-ec", "cd " + machine.file("") + "; " + script},
             {{"TSS2_FAPICONF", machine.file("fapi-config.json")}, {"TPM2TOOLS_TCTI", tcti_}, {"TSS2_LOG", "all+none"}},
             {}});
    }

    Machine machine;

private:
    std::optional<TpmSocket> tools_;
    std::string tcti_;
};

}  // namespace

TEST_CASE("FAPI, which knows no CA but those of TPMs' makers, takes a vTPM whose certificate the guest has verified") {
    const auto &[profile, index] = GENERATE(
        table<const char *, const char *>({{"P_ECCP256SHA256", "0x01c0000a"}, {"P_RSA2048SHA256", "0x01c00002"}}));
    FapiGuest guest(profile);
    (void)guest.machine.write("vtpm-ca.pem", guest.machine.xen_vtpm({"ca", "export"}).out);
    REQUIRE(guest.shell("tss2_provision").status != 0);
    const auto set = [&](const std::string &line) {
        const Output done =
            guest.shell("sed -i 's|\"system_pcrs\"|" + line + ",\\n     &|' fapi-config.json && tss2_provision");
        CAPTURE(done.out, done.err);
        REQUIRE(done.status == 0);
    };
    if (GENERATE(false, true)) {
        set("\"ek_cert_less\": \"yes\"");
        return;
    }
    const Output verified = guest.shell(std::string("tpm2_nvread -o ek.der ") + index +
                                        " && openssl x509 -inform DER -in ek.der -out ek.pem"
                                        " && openssl verify -CAfile vtpm-ca.pem ek.pem");
    CAPTURE(verified.out, verified.err);
    REQUIRE(verified.status == 0);
    set("\"ek_cert_file\": \"file://" + guest.machine.file("ek.pem") + "\"");
    const Output made = guest.shell("tss2_createkey --path=HS/SRK/key --type=noDa --authValue= && tss2_list");
    CAPTURE(made.out, made.err);
    REQUIRE_THAT(made.out, Contains("HS/SRK/key"));
}

}  // namespace vtpm
