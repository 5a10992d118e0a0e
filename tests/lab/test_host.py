# SPDX-License-Identifier: Apache-2.0
"""What the administrator of the host does, and what happens when parts of it fail."""

import json
import re
import time
from hashlib import sha256

import pytest

from lab import ROOT

PCR = r"(\d+) *: 0x([0-9A-F]{64})"


def rc(lab, guest, command):
    return lab.guest(guest, command, check=False).returncode


# The one is ours to break, the other is beside it.
ONE, TWO = PAIR = "pv", "pvh"


def test_the_manager_is_sealed_to_the_hardware_tpm(lab):
    out = lab.dom0("xen-vtpm status").stdout
    assert "IBM" in out and "ready" in out


def test_two_guests_have_different_endorsement_keys(lab):
    create = "cd /tmp && tpm2_createek -Q -G ecc -c ek -u ek.pub && sha256sum < ek.pub"
    assert lab.guest(ONE, create).stdout != lab.guest(TWO, create).stdout


def test_the_store_has_no_plaintext(lab):
    value = "plaintext-" + "4711" * 5
    lab.guest(ONE, f"tpm2_nvdefine -Q 0x1500020 -C o -s 30 && printf {value} | tpm2_nvwrite -Q 0x1500020 -C o -i-")
    assert rc_dom0(lab, f"grep -r -a -l {value} /var/lib/xen-vtpm") == 1
    assert lab.guest(ONE, "tpm2_nvread 0x1500020 -C o -s 30").stdout == value


def rc_dom0(lab, command):
    return lab.dom0(command, check=False).returncode


def test_the_command_line_lists_shows_creates_and_destroys(lab):
    uuid = lab.dom0("xen-vtpm create --tpm-version 1.2").stdout.strip()
    assert uuid in lab.dom0("xen-vtpm list").stdout
    shown = json.loads(lab.dom0(f"xen-vtpm --json show {uuid}").stdout)
    assert shown["tpm"] == "1.2"
    lab.dom0(f"xen-vtpm delete --yes {uuid}")
    assert rc_dom0(lab, f"xen-vtpm show {uuid}") == 3


def test_a_vtpm_is_called_by_its_guests_name_which_the_guest_does_not_choose(lab):
    domain = lab.dom0(f"xl domid {ONE}").stdout.strip()
    rows = lab.dom0("xen-vtpm list -H -o name,domain,state,last-used").stdout.splitlines()
    assert f"{ONE}\t{domain}\trunning\tnow" in rows
    shown = {name: json.loads(lab.dom0(f"xen-vtpm --json show {name}").stdout)["uuid"] for name in (ONE, domain)}
    assert shown[ONE] == shown[domain]
    lab.run("push", "--guest", ONE, str(ROOT / "tests/lab/xen_wire.py"), "/root/")
    lab.guest(ONE, "cd /root && python3 -c \"from xen_wire import Xenstore; store = Xenstore(); "
                   f"assert store.read('name') == '{ONE}' and store.write('device/vtpm/0/mine', 'x'); "
                   f"assert not store.write('name', 'x') and not store.write('/local/domain/{domain}/name', 'x')\"")
    lab.dom0(f"xen-vtpm alias {ONE} first.one && xen-vtpm show first.one && xen-vtpm alias first.one --remove")


def test_a_vtpm_in_use_is_not_destroyed(lab):
    in_use = [row["uuid"] for row in json.loads(lab.dom0("xen-vtpm --json list").stdout) if row["in_use"]]
    assert len(in_use) >= 2
    assert rc_dom0(lab, f"xen-vtpm delete --yes {in_use[0]}") == 4


def test_without_the_manager_reads_work_writes_fail_and_recover(lab):
    define = "tpm2_nvdefine -Q 0x1500021 -C o -s 1"
    lab.dom0("systemctl stop xen-vtpm-managerd")
    try:
        assert rc(lab, ONE, "tpm2_getrandom --hex 4") == 0
        assert rc(lab, ONE, define) != 0
        assert rc(lab, ONE, "tpm2_getrandom --hex 4") == 0
    finally:
        lab.dom0("systemctl start xen-vtpm-managerd")
    deadline = time.monotonic() + 30
    while rc(lab, ONE, define) != 0:
        assert time.monotonic() < deadline, "NV commands work again"


def test_a_full_disk_fails_the_command_and_loses_nothing(lab):
    guest = ONE
    lab.guest(guest, "tpm2_nvdefine -Q 0x1500022 -C o -s 5; printf first | tpm2_nvwrite -Q 0x1500022 -C o -i-")
    acknowledged = "first"
    lab.dom0("fallocate -l $(($(stat -f -c %a /) * $(stat -f -c %S /))) /var/fill; dd if=/dev/zero of=/var/fill2 bs=64k",
             check=False)
    try:
        for attempt in range(40):  # the write-ahead log has room for the first ones
            value = f"no{attempt:03}"
            if rc(lab, guest, f"printf {value} | tpm2_nvwrite -Q 0x1500022 -C o -i-") != 0:
                break
            acknowledged = value
        else:
            pytest.fail("40 writes to a full disk succeeded")
        assert lab.guest(guest, "tpm2_nvread 0x1500022 -C o -s 5").stdout == acknowledged
    finally:
        lab.dom0("rm -f /var/fill /var/fill2")
    lab.guest(guest, "printf after | tpm2_nvwrite -Q 0x1500022 -C o -i-")
    assert lab.guest(guest, "tpm2_nvread 0x1500022 -C o -s 5").stdout == "after"


def test_an_engine_has_no_more_memory_than_its_control_group(lab):
    group = f"/sys/fs/cgroup$(cut -d: -f3 /proc/{lab.device(ONE)['engine_pid']}/cgroup)"
    assert lab.dom0(f"cat {group}/memory.max {group}/pids.max").stdout.split() == [str(32 << 20), "1"]
    lab.dom0(f"echo 100K > {group}/memory.max; timeout 20 sh -c 'while test -e {group}; do sleep 0.2; done'", check=False)
    assert "more memory than its control group" in lab.device(ONE)["reason"]
    assert rc(lab, TWO, "tpm2_getrandom --hex 4") == 0
    lab.power_cycle_vtpm(ONE)
    # Its driver takes a moment.
    assert rc(lab, ONE, "timeout 60 sh -c 'until tpm2_getrandom --hex 4; do sleep 0.5; done'") == 0


def test_an_engine_that_is_killed_fails_its_own_guest_only(lab):
    lab.dom0(f"kill -9 {lab.device(ONE)['engine_pid']}")
    assert rc(lab, ONE, "timeout 60 tpm2_getrandom --hex 4") not in (0, 124)
    assert rc(lab, TWO, "tpm2_getrandom --hex 4") == 0
    assert "signal 9" in lab.dom0("xen-vtpm status", check=False).stdout
    lab.run("guest", "reboot", ONE, timeout=400)
    assert lab.guest(ONE, "tpm2_nvread 0x1500022 -C o -s 5").stdout == "after"


PCR_16 = "cat /sys/class/tpm/tpm0/pcr-sha256/16"


@pytest.mark.parametrize("end", ["systemctl kill -s KILL --kill-who=main xen-vtpmd", "systemctl restart xen-vtpmd",
                                 "systemctl restart xen-vtpmd xen-vtpm-managerd"])
def test_a_tpm_outlives_its_daemon(lab, end):
    for guest in PAIR:
        lab.guest(guest, f"tpm2_pcrextend 16:sha256=$(printf %064d 1); {PCR_16} > /run/pcr")
    engines = [lab.device(guest)["engine_pid"] for guest in PAIR]
    assert lab.dom0("xen-vtpmd --check-upgrade").stdout == f"All running TPMs ({len(PAIR)}) can be taken over.\n"
    with lab.start("guest", "exec", TWO, "--", "sh", "-c", "set -e; for i in $(seq 40); do tpm2_getrandom -Q --hex 4; done") as busy:
        lab.dom0(f"sleep 1; {end}; timeout 30 sh -c 'until systemctl --quiet is-active xen-vtpmd; do sleep 0.2; done'")
        assert busy.wait(timeout=120) == 0
    lab.dom0("timeout 20 sh -c 'while xen-vtpm status | grep -q \"being taken over\"; do sleep 0.2; done'")
    assert [lab.device(guest)["engine_pid"] for guest in PAIR] == engines
    for guest in PAIR:
        assert rc(lab, guest, f"{PCR_16} | cmp - /run/pcr && tpm2_nvdefine -Q 0x1500023 -C o -s 5 && tpm2_nvundefine -Q 0x1500023 -C o") == 0
    lab.dom0("! journalctl -b --no-pager -u xen-vtpmd | grep -iE 'left-over|SEGV|ABRT'")


def test_a_manager_that_restarts_costs_no_command(lab):
    lab.guest(TWO, "tpm2_nvdefine -Q 0x1500024 -C o -s 8")
    writes = "set -e; for i in $(seq 10 29); do printf abcdef$i | tpm2_nvwrite -Q 0x1500024 -C o -i-; done"
    with lab.start("guest", "exec", TWO, "--", "sh", "-c", writes) as writer:
        for _ in range(2):
            lab.dom0("sleep 1; systemctl restart xen-vtpm-managerd", timeout=60)
        assert writer.wait(timeout=120) == 0
    assert lab.guest(TWO, "tpm2_nvread 0x1500024 -C o -s 8; tpm2_nvundefine -Q 0x1500024 -C o").stdout == "abcdef29"


def test_a_guest_that_goes_while_the_daemon_restarts_leaves_no_engine(lab):
    engine = lab.device(TWO)["engine_pid"]
    lab.dom0(f"systemctl kill -s STOP --kill-who=main xen-vtpmd; xl destroy {TWO}; systemctl kill -s KILL --kill-who=main xen-vtpmd; "
             f"timeout 30 sh -c 'while kill -0 {engine}; do sleep 0.2; done'", timeout=120)
    lab.create(TWO, "--type", "pvh")
    lab.await_tpm(TWO)


def test_a_stop_powers_the_tpms_off_in_order(lab):
    lab.dom0("systemctl stop xen-vtpmd; ! pgrep xen-vtpm-engine; ! systemctl --quiet is-failed xen-vtpmd; systemctl start xen-vtpmd")
    for guest in PAIR:
        assert rc(lab, guest, "timeout 60 tpm2_getrandom --hex 4") not in (0, 124)
        lab.run("guest", "reboot", guest, timeout=400)
        # Each TPM2_Startup without a TPM2_Shutdown before it would count as a failed try.
        assert "TPM2_PT_LOCKOUT_COUNTER: 0x0" in lab.guest(guest, "tpm2_getcap properties-variable").stdout


def test_hot_attach_and_detach(lab):
    uuid = lab.dom0("cat /proc/sys/kernel/random/uuid").stdout.strip()
    lab.dom0(f"xl vtpm-attach {TWO} uuid={uuid} backend=0")
    assert uuid in lab.dom0(f"xl vtpm-list {TWO}").stdout
    lab.await_tpm(TWO, "tpm1", limit=20)
    lab.guest(TWO, "TPM2TOOLS_TCTI=device:/dev/tpm1 tpm2_getrandom --hex 4")
    lab.dom0(f"xl vtpm-detach {TWO} {uuid}")
    assert uuid not in lab.dom0(f"xl vtpm-list {TWO}").stdout
    assert rc(lab, TWO, "tpm2_getrandom --hex 4") == 0


def test_xen_vtpmd_may_make_no_hypercall(lab):
    """Tried from within its control group, which decides on devices."""
    for device, may in (("gntdev", True), ("evtchn", True), ("xenbus", True), ("privcmd", False), ("hypercall", False), ("mem", False)):
        path = "/dev/mem" if device == "mem" else f"/dev/xen/{device}"
        script = f"echo $$ > /sys/fs/cgroup/system.slice/xen-vtpmd.service/cgroup.procs && exec 3<>{path}"
        assert (rc_dom0(lab, f"sh -c '{script}'") == 0) is may, device
    # Who may is asked by nobody but root.
    assert rc_dom0(lab, "setpriv --reuid 65534 --clear-groups python3 -c \"import socket; "
                        "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('/run/xen-vtpm-domains.sock')\"") != 0


def test_a_moment_without_the_hypervisors_word_costs_no_attach(lab):
    uuid = lab.dom0("cat /proc/sys/kernel/random/uuid").stdout.strip()
    attach = f"xl vtpm-attach {TWO} uuid={uuid} backend=0 && xl vtpm-detach {TWO} {uuid}"
    lab.dom0(f"systemctl kill -s KILL xen-vtpm-domains; {attach}")
    lab.dom0(f"systemctl stop xen-vtpm-domains.service; {attach}")  # its socket starts it
    lab.dom0("systemctl kill -s STOP xen-vtpm-domains; (sleep 3; systemctl kill -s CONT xen-vtpm-domains) & " + attach)
    assert rc(lab, TWO, "tpm2_getrandom --hex 4") == 0


def test_the_status_says_for_how_many_more_tpms_there_is_room(lab):
    room = json.loads(lab.dom0("xen-vtpm --json status").stdout)["backend"]["room"]
    assert 1000 < room < 8192
    assert f"room for {room} more TPMs" in lab.dom0("xen-vtpm status").stdout


def test_a_guest_sees_the_hosts_pcrs_where_it_is_to(lab):
    config = "/etc/xen-vtpm/manager.toml"
    lab.dom0(f"xen-vtpm launch set {lab.device(TWO)['uuid']} off")  # the host alone
    lab.dom0(f"sed -i.before 's/^#host_pcrs.*/host_pcrs = \"0,7\"/' {config} && systemctl restart xen-vtpm-managerd")
    lab.power_cycle_vtpm(TWO)
    lab.dom0(f"mv {config}.before {config} && systemctl restart xen-vtpm-managerd")
    read = "tpm2_pcrread sha256:0,5,7"
    host = {pcr: bytes.fromhex(value) for pcr, value in re.findall(PCR, lab.dom0(read).stdout)}
    guest = {pcr: bytes.fromhex(value) for pcr, value in re.findall(PCR, lab.guest(
        TWO, f"timeout 60 sh -c 'until {read}; do sleep 0.5; done' 2> /dev/null").stdout)}
    for pcr in ("0", "7"):
        assert guest[pcr] == sha256(bytes(32) + sha256(host[pcr]).digest()).digest()
    assert guest["5"] == bytes(32)
    lab.power_cycle_vtpm(TWO)
    lab.guest(TWO, f"timeout 60 sh -c 'until test $({read} | grep -c 0x{'0' * 64}) = 3; do sleep 0.5; done'")


def test_the_stock_driver_with_a_tpm_1_2(lab):
    lab.create("stock", "--frontend", "stock", "--tpm", "1.2")
    lab.await_tpm("stock", "tpm0")
    out = lab.guest("stock", "cat /sys/class/tpm/tpm0/tpm_version_major; cat /sys/class/tpm/tpm0/device/pcrs").stdout
    lab.destroy("stock")
    assert out.startswith("1\n")
    assert re.search(r"PCR-15: (00 ?){20}", out)


def test_our_driver_with_a_tpm_1_2(lab):
    lab.create("ours12", "--tpm", "1.2")
    lab.await_tpm("ours12", "tpm0")
    out = lab.guest("ours12", "cat /sys/class/tpm/tpm0/tpm_version_major; cat /sys/class/tpm/tpm0/device/pcrs").stdout
    lab.destroy("ours12")
    assert out.startswith("1\n")
    assert re.search(r"PCR-15: (00 ?){20}", out)
