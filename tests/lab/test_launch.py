# SPDX-License-Identifier: Apache-2.0
"""Guests whose boot xen-vtpm-launch measures: their TPMs tell it, and those of others do not."""

import json
import time

import pytest

from lab import EVENT_LOG

BOOT_LOADER = 'bootloader="xen-vtpm-launch"'
PCRS = "sha256:4,8,9,11"
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
        self.initrd = f"/var/lib/lab/guests/{name}/initrd"
        self.vtpm = self.setting("vtpm").split("uuid=")[1].split('"')[0]

    def setting(self, key):
        return self.lab.dom0(f"sed -n 's/^{key}=//p' {self.config}").stdout.strip()

    def edit(self, script):
        self.lab.dom0(f"sed -i '{script}' {self.config}")

    def measure(self):
        """From now on, with an initrd of its own."""
        self.edit(f"1i {BOOT_LOADER}")
        self.edit(f's#^ramdisk=.*#ramdisk="{self.initrd}"#')
        self.make_initrd("first")

    def make_initrd(self, word):
        """That of all guests, and before it an archive of a file that nobody needs."""
        self.lab.dom0(f"mkdir -p /tmp/initrd; cd /tmp/initrd; echo {word} > word; (echo word | cpio --quiet -o -H newc; cat /run/lab/base/boot/initrd) > {self.initrd}")

    def shut_down(self):
        self.lab.run("guest", "shutdown", self.name)

    def start(self):
        self.lab.run("guest", "start", self.name, timeout=400)
        self.lab.await_tpm(self.name)

    def reboot(self):
        self.lab.run("guest", "reboot", self.name, timeout=400)
        self.lab.await_tpm(self.name)

    def sh(self, script, **options):
        return self.lab.guest(self.name, script, **options)

    def pcrs(self):
        return self.lab.pcrs(self.name, PCRS)

    def replayed(self):
        return self.lab.replayed(self.name, PCRS)

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
    launched.measure()
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
    assert f"kernel_cmdline: {launched.setting('extra')[1:-1].strip()}" in launched.sh(f"tpm2_eventlog {EVENT_LOG}").stdout
    assert launched.sh(f"stat -c '%a %U' {EVENT_LOG}").stdout == "440 root\n"


def test_the_tpm_itself_tells_the_same_log(launched, expected):
    launched.lab.install_xen_vtpm(launched.name)
    text = launched.sh(f"xen-vtpm eventlog --raw /root/log; cmp /root/log {EVENT_LOG}").stdout
    assert "kernel_cmdline: console=hvc0" in text, text


def test_both_survive_restarts_of_the_daemons_and_save_and_restore(launched, expected):
    log = launched.sh(f"sha256sum {EVENT_LOG}").stdout
    launched.sh(SEAL)
    launched.lab.dom0("systemctl restart xen-vtpmd xen-vtpm-managerd; "
                      f"xl save {launched.name} /var/lib/saved && xl restore /var/lib/saved && rm /var/lib/saved", timeout=400)
    launched.lab.await_tpm(launched.name)
    assert launched.pcrs() == expected
    assert launched.sh(f"sha256sum {EVENT_LOG}").stdout == log
    # The driver is unbound and bound again: it asks the TPM.
    launched.sh("echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; test ! -e /sys/kernel/security/tpm0; "
                "echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/bind")
    launched.lab.await_tpm(launched.name)
    assert launched.sh(f"sha256sum {EVENT_LOG}").stdout == log
    assert launched.sh(UNSEAL).stdout == "secret"


def test_both_are_the_same_after_a_reboot_of_the_guest(launched, expected):
    log = launched.sh(f"sha256sum {EVENT_LOG}").stdout
    launched.reboot()
    assert launched.pcrs() == launched.replayed() == expected
    assert launched.sh(f"sha256sum {EVENT_LOG}").stdout == log
    assert launched.sh(UNSEAL).stdout == "secret"


def test_a_reboot_measures_what_is_there_by_then(launched, expected):
    launched.make_initrd("second")
    launched.reboot()
    pcrs = launched.pcrs()
    assert pcrs == launched.replayed() == launched.predicted()
    assert {pcr for pcr in pcrs if pcrs[pcr] != expected[pcr]} == {9}
    assert launched.sh(UNSEAL, check=False).returncode != 0
    launched.make_initrd("first")


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
    assert "launch not measured" in launched.sh(f"strings {EVENT_LOG} || cat {EVENT_LOG} | tr -c '[:print:]' '\\n'").stdout


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
    "no disk": ("sed -i '/^disk=/d' xl.cfg", "no boot disk"),
    "a disk that is missing": ("sed -i 's#target=[^\"]*#target=/dev/mapper/missing#' xl.cfg", "missing"),
    "a disk without anything to boot": ("sed -i '/^kernel=/d; /^ramdisk=/d; /^extra=/d' xl.cfg", "nothing to boot"),
}
LEFT = "find /var/lib/xen -path '*bootloader*'; pgrep -x xen-vtpm-launch; pgrep -x pygrub"


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_measured_is_not_started(launched, fault):
    prepare, said = FAULTS[fault]
    directory = "/var/lib/lab/launch"
    script = (f"xl destroy {launched.name} 2> /dev/null; rm -rf {directory} /var/log/xen/bootloader.*; mkdir {directory}; cd {directory}; cp {launched.config} xl.cfg; {prepare}; "
              "xl create -q xl.cfg 2>&1; status=$?; systemctl start xen-vtpmd; cat /var/log/xen/bootloader.*; exit $status")
    refused = launched.lab.dom0(script, check=False)
    assert refused.returncode != 0 and said in refused.stdout, refused.stdout
    left = launched.lab.dom0(f"xl list {launched.name} 2> /dev/null; {LEFT}", check=False)
    assert left.stdout == ""


def records(lab):
    """The domains whose launches xen-vtpmd keeps, in its directory too."""
    status = lab.dom0("busctl --json=short call org.xenvtpm.Backend1 /org/xenvtpm/Backend1 org.xenvtpm.Backend1 Status; "
                      "ls /run/xen-vtpmd | grep -x '[0-9]*'", check=False).stdout.splitlines()
    domains = set(status[1:])
    assert json.loads(status[0])["data"][0]["launches"]["data"] == len(domains)
    return domains


# The daemon is stopped, so that the boot loader waits for it with its copies made.
@pytest.mark.parametrize("killed", ["boot loader", "xl"])
def test_a_launch_that_is_killed_half_way_leaves_nothing(launched, killed):
    launched.lab.dom0(f"xl destroy {launched.name}", check=False)
    before = records(launched.lab)
    ended = launched.lab.dom0(f"""
daemon=$(systemctl show -P MainPID xen-vtpmd); kill -STOP $daemon
xl create -q {launched.config} 2>&1 & xl=$!
for i in $(seq 300); do loader=$(pgrep -x xen-vtpm-launch) && ls -l /proc/$loader/fd | grep -q bootloader.*deleted && break; sleep 0.2; done
kill -9 {'$loader' if killed == 'boot loader' else '$xl'}
wait $xl; echo "xl ended: $?"
for i in $(seq 50); do test -e /proc/$loader || break; sleep 0.2; done
kill -CONT $daemon; pgrep -x xen-vtpm-launch
{'' if killed == 'boot loader' else f"xl destroy {launched.name}; rm -rf /var/lib/xen/bootloader.*"}
xl list {launched.name} 2> /dev/null; {LEFT}; true""").stdout
    assert "xl ended: 0" not in ended
    assert ended.splitlines()[-1].startswith("xl ended: "), ended
    deadline = time.monotonic() + 90  # what was recorded of a domain that nobody built is looked for once a minute
    while not records(launched.lab) <= before:
        assert time.monotonic() < deadline, (records(launched.lab), before)
        time.sleep(2)
    launched.start()
    assert launched.pcrs() == launched.predicted()
    launched.shut_down()


def test_a_record_is_for_a_domain_that_is_there_and_has_not_run_and_roots_only(launched):
    launched.start()
    domain = launched.lab.dom0(f"xl domid {launched.name}").stdout.strip()
    before = records(launched.lab)
    kernel, line = launched.setting("kernel"), launched.setting("extra")
    for number, said in (("4242", "there is no domain 4242"), (domain, "runs already"), ("0", "names no guest")):
        refused = launched.lab.dom0(f"""directory=/var/lib/lab/hand/bootloader.{number}.d; mkdir -p -m 700 $directory; cd $directory
xen-vtpm-launch --kernel={kernel} --args={line} --output=$directory.out --output-format=simple0 --output-directory=$directory disk
status=$?; ls -A $directory; cat $directory.out; rm -rf /var/lib/lab/hand; exit $status""", check=False)
        assert refused.returncode == 1 and said in refused.stderr and refused.stdout == "", refused
    call = "busctl call org.xenvtpm.Backend1 /org/xenvtpm/Backend1 org.xenvtpm.Backend1 RecordLaunch ss 4242 00"
    assert "no event log" in launched.lab.dom0(call, check=False).stderr
    assert "denied" in launched.lab.dom0(f"setpriv --reuid=nobody --clear-groups {call}", check=False).stderr.lower()
    assert records(launched.lab) <= before and domain in before
    assert launched.pcrs() == launched.predicted()
