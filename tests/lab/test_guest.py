# SPDX-License-Identifier: Apache-2.0
"""What a user of a guest does with its TPM 2.0, through our driver, in a PV and in a PVH guest."""

import base64
import json
import re
import secrets
import subprocess

import pytest

from lab import XEN_VTPM

# tpm2-tools keep objects in files; each test works in a directory of its own.
IN_TEMP = "set -e; cd $(mktemp -d); "


def test_the_tpm_is_a_tpm_2_with_a_resource_manager(lab, guest):
    out = lab.guest(guest, "cat /sys/class/tpm/tpm0/tpm_version_major; test -c /dev/tpm0 && test -c /dev/tpmrm0").stdout
    assert out.strip() == "2"


def test_pcrs_start_at_zero_and_extend(lab, guest):
    out = lab.guest(
        guest,
        "set -e; tpm2_pcrread sha256:15; tpm2_pcrextend 15:sha256=$(printf 'a%.0s' $(seq 64)); tpm2_pcrread sha256:15",
    ).stdout
    before, after = re.findall(r"0x([0-9A-F]{64})", out)
    assert before == "0" * 64
    assert after != before


def test_the_pcr_banks_are_those_of_the_profile(lab, guest):
    banks = lab.guest(guest, "cd /sys/class/tpm/tpm0; ls -d pcr-*; cat pcr-*/10").stdout.split()
    assert banks == ["pcr-sha256", "pcr-sha384", "0" * 64, "0" * 96]


def test_getrandom_gives_different_bytes(lab, guest):
    first, second = lab.guest(guest, "tpm2_getrandom --hex 32; echo; tpm2_getrandom --hex 32").stdout.split()
    assert len(first) == len(second) == 64 and first != second


def test_a_secret_is_sealed_and_unsealed(lab, guest):
    out = lab.guest(
        guest,
        IN_TEMP + "tpm2_createprimary -Q -C o -g sha256 -G ecc -c primary; "
        "printf 'open sesame' | tpm2_create -Q -C primary -i- -u pub -r priv; "
        "tpm2_load -Q -C primary -u pub -r priv -c sealed; tpm2_unseal -c sealed",
    ).stdout
    assert out == "open sesame"


def test_nv_is_defined_written_and_read(lab, guest):
    out = lab.guest(
        guest,
        "set -e; tpm2_nvdefine -Q 0x1500016 -C o -s 11; printf 'hello world' | tpm2_nvwrite -Q 0x1500016 -C o -i-; "
        "tpm2_nvread 0x1500016 -C o -s 11; tpm2_nvundefine -Q 0x1500016 -C o",
    ).stdout
    assert out == "hello world"


def test_the_endorsement_certificates_lead_to_the_hosts_ca(lab, guest, tmp_path):
    lines = lab.guest(
        guest,
        IN_TEMP + "tpm2_getekcertificate -o rsa.der -o ecc.der; tpm2_nvread -o p384.der 0x1c00016; "
        "tpm2_createek -Q -c ek -G rsa -f pem -u ek.pem; tpm2_flushcontext -t; "
        "for file in rsa.der ecc.der p384.der ek.pem; do base64 -w0 $file; echo; done",
        timeout=400,
    ).stdout.split()
    rsa, ecc, p384, ek = (base64.b64decode(line) for line in lines)
    (tmp_path / "ca.pem").write_text(lab.dom0("xen-vtpm ca certificate").stdout)

    def openssl(*arguments, **options):
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path, **options).stdout

    for der in (rsa, ecc, p384):
        (tmp_path / "ek.pem").write_bytes(openssl("x509", "-inform", "DER", input=der))
        assert openssl("verify", "-x509_strict", "-CAfile", "ca.pem", "ek.pem") == b"ek.pem: OK\n"
    assert openssl("x509", "-inform", "DER", "-noout", "-pubkey", input=rsa) == openssl("pkey", "-pubin", input=ek)


@pytest.fixture(scope="module")
def verifier(lab, guest, tmp_path_factory):
    """This machine, which has neither Xen nor a TPM, and has challenged the host's: runs xen-vtpm."""
    place = tmp_path_factory.mktemp("verifier")

    def run(*arguments, check=True):
        return subprocess.run([XEN_VTPM, *arguments], cwd=place, check=check, capture_output=True, text=True)

    (place / "host.json").write_text(lab.dom0("xen-vtpm host identity").stdout)
    challenge = run("host", "challenge", "host.json", "--any-tpm", "--write-answer", "expected").stdout
    assert lab.dom0("xen-vtpm host answer -", input=challenge).stdout == (place / "expected").read_text()
    run.place = place
    return run


def test_the_selftests_of_linux_pass(lab, guest, linux):
    lab.run("push", "--guest", guest, linux / "tools/testing/selftests/tpm2", "/tmp/selftests")
    out = lab.guest(guest, "cd /tmp/selftests && sh test_smoke.sh 2>&1; sh test_space.sh 2>&1", check=False).stdout
    assert re.findall(r"^(?:OK|FAILED).*", out, re.M) == ["OK"] * 3, out


def test_an_attestation_leads_from_the_hardware_tpm_to_the_guests_own_key(lab, guest, verifier):
    lab.install_xen_vtpm(guest)
    nonce = secrets.token_hex(16)
    (verifier.place / "attestation.json").write_text(lab.guest(guest, f"xen-vtpm attestation create --nonce {nonce}").stdout)
    (verifier.place / "boot.json").write_text(lab.dom0("xen-vtpm policy measure --pcrs sha256:7 --json").stdout)
    ek = verifier.place / f"ek-{guest}.pub"
    asked = ("attestation", "verify", "attestation.json", "--host", "host.json", "--measurements", "boot.json")
    verdict = verifier(*asked, "--nonce", nonce, "--write-ek", str(ek))
    assert "Result: verified" in verdict.stdout
    assert json.loads(verifier("--json", *asked, "--nonce", nonce).stdout)["vtpm"] == lab.device(guest)["uuid"]
    assert verifier(*asked, "--nonce", secrets.token_hex(16), check=False).returncode == 5

    # The verifier's secret comes back only from the TPM with that endorsement key, and tells its attestation key.
    lab.run("push", "--guest", guest, str(ek), "/tmp/verified-ek.pub")
    lab.guest(
        guest,
        "set -e; cd $(mktemp -d); printf 'what the verifier knows' > secret; "
        "tpm2_createek -Q -c ek -G rsa -u ek.pub; tpm2_createak -Q -C ek -c ak -u ak.pub -f pem -n ak.name; "
        "tpm2_makecredential -Q -T none -u /tmp/verified-ek.pub -s secret -n $(od -An -vtx1 ak.name | tr -d ' \\n') -o credential; "
        "tpm2_startauthsession --policy-session -S session; tpm2_policysecret -Q -S session -c e; "
        "tpm2_activatecredential -Q -c ak -C ek -i credential -o answer -P session:session; "
        "tpm2_flushcontext session; cmp secret answer; "
        "tpm2_quote -Q -c ak -l sha256:0,1,9 -q abc123 -m message -s signature -o pcrs -g sha256; "
        "tpm2_checkquote -Q -u ak.pub -m message -s signature -f pcrs -g sha256 -q abc123",
        timeout=400,
    )


def test_the_administrators_attestation_of_the_same_vtpm_is_as_good(lab, guest, verifier):
    nonce = secrets.token_hex(16)
    uuid = lab.device(guest)["uuid"]
    document = lab.dom0(f"xen-vtpm attestation create {uuid} --nonce {nonce} --pcrs sha256:0,7,10").stdout
    (verifier.place / "attestation.json").write_text(document)
    asked = ("attestation", "verify", "attestation.json", "--host", "host.json", "--nonce", nonce, "--uuid", uuid)
    assert verifier(*asked, "--measurements", "attestation.json").returncode == 0
    changed = json.loads(document)
    changed["values"]["10"] = "0" * 64
    (verifier.place / "changed.json").write_text(json.dumps(changed))
    asked = ("attestation", "verify", "changed.json", "--host", "host.json", "--nonce", nonce, "--any-boot")
    result = verifier(*asked, check=False)
    assert result.returncode == 5 and "FAILED  host quote" in result.stdout


def test_a_quote_checks(lab, guest):
    lab.guest(
        guest,
        IN_TEMP + "tpm2_createek -Q -c ek -G rsa -u ek.pub; tpm2_createak -Q -C ek -c ak -u ak.pub -f pem; "
        "tpm2_quote -Q -c ak -l sha256:0,1,9 -q abc123 -m message -s signature -o pcrs -g sha256; "
        "tpm2_checkquote -Q -u ak.pub -m message -s signature -f pcrs -g sha256 -q abc123; "
        "! tpm2_checkquote -Q -u ak.pub -m message -s signature -f pcrs -g sha256 -q ffffff",
        timeout=400,
    )


def test_the_largest_command_and_response_are_those_of_the_page(lab, guest):
    out = lab.guest(guest, "tpm2_getcap properties-fixed").stdout
    for name in ("TPM2_PT_MAX_COMMAND_SIZE", "TPM2_PT_MAX_RESPONSE_SIZE"):
        assert int(re.search(name + r":\s+raw: (0x[0-9A-F]+)", out).group(1), 16) == 4088


def test_rmmod_and_insmod_keep_the_pcrs(lab, guest):
    out = lab.guest(
        guest,
        "set -e; read_pcr() { tpm2_pcrread sha256:9; }; read_pcr; for i in 1 2 3; do "
        "echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; "  # xenbus holds a module with a bound device
        "rmmod xen_tpmfront; modprobe xen-tpmfront; udevadm settle; done; read_pcr",
    ).stdout
    before, after = re.findall(r"0x([0-9A-F]{64})", out)
    assert before == after != "0" * 64


def test_nothing_in_the_kernel_log_complains(lab, guest):
    out = lab.guest(guest, "dmesg").stdout
    for word in ("BUG:", "WARNING:", "Oops", "Call Trace", "tpm_try_transmit"):
        assert word not in out


def test_after_a_reboot_nv_is_there_and_pcrs_are_zero(lab, guest):
    lab.guest(
        guest,
        "set -e; tpm2_nvdefine -Q 0x1500017 -C o -s 4; printf kept | tpm2_nvwrite -Q 0x1500017 -C o -i-; "
        "tpm2_pcrextend 15:sha256=$(printf 'b%.0s' $(seq 64))",
    )
    lab.run("guest", "reboot", guest, timeout=400)
    out = lab.guest(guest, "tpm2_nvread 0x1500017 -C o -s 4; echo; tpm2_pcrread sha256:10,15").stdout
    assert out.startswith("kept")
    assert set(re.findall(r"0x([0-9A-F]{64})", out)) == {"0" * 64}
