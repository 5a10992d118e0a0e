# SPDX-License-Identifier: Apache-2.0
"""Guests whose boot xen-vtpm-launch measures: their TPMs tell it, and those of others do not."""

import json
import re

import pytest

BOOT_LOADER = 'bootloader="xen-vtpm-launch"'
PCRS = "sha256:4,8,9,11"
LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
# A secret that opens for this kernel, this initrd and this command line only.
SEAL = f"""set -e; cd /root
tpm2_createprimary -Q -C o -G ecc -c primary.ctx
tpm2_pcrread -Q {PCRS.replace(',8', '').replace(',11', '')} -o values
tpm2_createpolicy -Q --policy-pcr -l sha256:4,9 -f values -L policy
printf secret | tpm2_create -Q -C primary.ctx -L policy -i- -u sealed.pub -r sealed.priv
"""
UNSEAL = """cd /root; tpm2_createprimary -Q -C o -G ecc -c primary.ctx && tpm2_load -Q -C primary.ctx -u sealed.pub -r sealed.priv -c sealed.ctx &&
tpm2_unseal -c sealed.ctx -p pcr:sha256:4,9"""


class Launched:
    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.config = f"/var/lib/lab/guests/{name}/xl.cfg"
        self.vtpm = self.setting("vtpm").split("uuid=")[1].split('"')[0]

    def setting(self, key):
        return self.lab.dom0(f"sed -n 's/^{key}=//p' {self.config}").stdout.strip()

    def edit(self, script):
        self.lab.dom0(f"sed -i '{script}' {self.config}")

    def shut_down(self):
        self.lab.run("guest", "shutdown", self.name)

    def start(self):
        self.lab.run("guest", "start", self.name, timeout=400)
        self.lab.await_tpm(self.name)

    def sh(self, script, **options):
        return self.lab.guest(self.name, script, **options)

    def pcrs(self):
        return self.values(self.sh(f"tpm2_pcrread {PCRS}").stdout)

    @staticmethod
    def values(text):
        return {int(number): value.lower() for number, value in re.findall(r"^ +(\d+) *: 0x([0-9a-fA-F]{64})$", text, re.M)}

    def replayed(self):
        """What tpm2_eventlog makes of the log that the guest's kernel shows."""
        text = self.sh(f"tpm2_eventlog {LOG}").stdout.split("\npcrs:\n")[1]
        return {pcr: value for pcr, value in self.values(text.split("  sha384:")[0]).items() if pcr in (4, 8, 9, 11)}

    def predicted(self):
        """From the files, in dom0: what libxl gives to a guest's kernel as its command line begins with root=, if that is said."""
        arguments = [f"--{option} {self.setting(key)}" for option, key in
                     (("kernel", "kernel"), ("initrd", "ramdisk"), ("cmdline", "extra"))]
        boot = self.lab.dom0(f"xen-vtpm --json launch predict --pcrs {PCRS} {' '.join(arguments)}").stdout
        return {int(pcr): value for pcr, value in json.loads(boot)["values"].items()}


# Which kind of guest makes no difference to the boot loader, but to the driver.
@pytest.fixture(scope="module", params=[pytest.param("pv", marks=pytest.mark.long), "pvh"])
def launched(request, lab):
    lab.renew()
    launched = Launched(lab, request.param)
    launched.shut_down()
    lab.dom0(f"xen-vtpm launch set {launched.vtpm} require")
    launched.edit(f"1i {BOOT_LOADER}")
    launched.start()
    return launched


@pytest.fixture(scope="module")
def expected(launched):
    return launched.predicted()


def test_pcrs_are_what_the_files_predict(launched, expected):
    assert launched.pcrs() == expected
    assert len(expected) == 4


def test_the_kernel_shows_a_log_that_replays_to_the_pcrs(launched, expected):
    assert launched.replayed() == expected
    assert f"kernel_cmdline: {launched.setting('extra')[1:-1].strip()}" in launched.sh(f"tpm2_eventlog {LOG}").stdout
    assert launched.sh(f"stat -c '%a %U' {LOG}").stdout == "440 root\n"


def test_both_survive_restarts_of_the_daemons_and_save_and_restore(launched, expected):
    log = launched.sh(f"sha256sum {LOG}").stdout
    launched.sh(SEAL)
    launched.lab.dom0("systemctl restart xen-vtpmd xen-vtpm-managerd; "
                      f"xl save {launched.name} /var/lib/saved && xl restore /var/lib/saved && rm /var/lib/saved", timeout=400)
    launched.lab.await_tpm(launched.name)
    assert launched.pcrs() == expected
    assert launched.sh(f"sha256sum {LOG}").stdout == log
    # The driver is unbound and bound again: it asks the TPM.
    launched.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; test ! -e /sys/kernel/security/tpm0; "
                "echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/bind")
    launched.lab.await_tpm(launched.name)
    assert launched.sh(f"sha256sum {LOG}").stdout == log
    assert launched.sh(UNSEAL).stdout == "secret"


def test_another_command_line_does_not_open_what_is_sealed_to_this_one(launched, expected):
    launched.shut_down()
    launched.edit('s/^extra="/&single_byte=1 /')
    launched.start()
    pcrs = launched.pcrs()
    assert {pcr for pcr in pcrs if pcrs[pcr] != expected[pcr]} == {8, 9}
    refused = launched.sh(UNSEAL, check=False)
    assert refused.returncode != 0 and "policy" in refused.stderr
    launched.edit('s/single_byte=1 //')


def test_a_tpm_that_is_attached_to_a_running_guest_shows_no_launch(launched, expected):
    launched.lab.dom0(f"xen-vtpm launch set {launched.vtpm} measure")
    launched.lab.power_cycle_vtpm(launched.name)
    launched.lab.await_tpm(launched.name)
    pcrs = launched.pcrs()
    assert len(pcrs) == 4 and all(pcrs[pcr] != expected[pcr] for pcr in pcrs)
    assert pcrs[8] == pcrs[9] == pcrs[11]
    assert launched.replayed() == pcrs
    assert "launch not measured" in launched.sh(f"strings {LOG} || cat {LOG} | tr -c '[:print:]' '\\n'").stdout


def test_without_the_boot_loader_there_is_no_guest_where_it_is_required(launched):
    launched.shut_down()
    launched.lab.dom0(f"xen-vtpm launch set {launched.vtpm} require")
    launched.edit("/^bootloader=/d")
    refused = launched.lab.dom0(f"date +%s; xl create -q {launched.config}; date +%s; xl list {launched.name}", check=False)
    began, ended = (int(line) for line in refused.stdout.split()[:2])
    assert refused.returncode != 0 and ended - began < 60
    assert "nobody measured what this one boots" in launched.lab.dom0("journalctl -b --no-pager -u xen-vtpmd").stdout
    launched.edit(f"1i {BOOT_LOADER}")


# What is done to the guest's configuration, or before it is started, and what is said then.
FAULTS = {
    "a command line that would be cut": (f"sed -i 's/^extra=.*/extra=\"{'x' * 1100}\"/' xl.cfg", "1023"),
    "a kernel that is a damaged PE image": ("printf 'MZ damaged' > kernel; sed -i \"s#^kernel=.*#kernel='$PWD/kernel'#\" xl.cfg", "PE"),
    "no daemon": ("systemctl stop xen-vtpmd", "xen-vtpmd does not record the launch"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_measured_is_not_started(launched, fault):
    prepare, said = FAULTS[fault]
    directory = "/var/lib/lab/launch"
    script = (f"xl destroy {launched.name} 2> /dev/null; rm -rf {directory} /var/log/xen/bootloader.*; mkdir {directory}; cd {directory}; cp {launched.config} xl.cfg; {prepare}; "
              "xl create -q xl.cfg; status=$?; systemctl start xen-vtpmd; cat /var/log/xen/bootloader.*; exit $status")
    refused = launched.lab.dom0(script, check=False)
    assert refused.returncode != 0 and said in refused.stdout, refused.stderr
    left = launched.lab.dom0(f"xl list {launched.name} 2> /dev/null; find /var/lib/xen -path '*bootloader*'", check=False)
    assert left.stdout == ""
