# SPDX-License-Identifier: Apache-2.0
"""scripts/lab itself: what docs/lab.md promises of its verbs."""

import os
import pathlib
import pty
import select
import socket
import time

import pytest

from lab import ROOT, Lab

UUID = "deadbeef-0000-4000-8000-00000000cafe"


KNOWN = "tpm2_pcrread sha256:16; tpm2_nvread 0x1500044 -C o; ls /root; cat /proc/sys/kernel/random/boot_id"


OFF = 10  # seconds: more than it takes to tell the time, on a busy machine; a snapshot is older


def clocks(lab):
    """How many seconds dom0 and the guests are off."""
    for run in (lab.dom0, lambda script: lab.guest("pv", script), lambda script: lab.guest("pvh", script)):
        before = time.time()
        yield max(before - float(told := run("date +%s.%N").stdout), float(told) - time.time())


def test_a_rewound_lab_is_as_it_was(lab):
    """First in this file, since it wants a lab that nobody has used."""
    before = {guest: lab.guest(guest, KNOWN, check=False).stdout for guest in ("pv", "pvh")}
    vtpms = "xen-vtpm --json list | grep uuid; ls /root"
    store = lab.dom0(vtpms).stdout
    for guest in before:
        lab.guest(guest, "set -e; tpm2_pcrextend 16:sha256=$(printf %064d 1); tpm2_nvdefine -Q 0x1500044 -C o -s 1; "
                         "printf x | tpm2_nvwrite -Q 0x1500044 -C o -i-; touch /root/later; sync")
        assert lab.guest(guest, KNOWN).stdout != before[guest]
    lab.dom0("touch /root/later; xen-vtpm create; sync; systemctl stop xen-vtpmd")
    lab.rewind()
    assert {guest: lab.guest(guest, KNOWN, check=False).stdout for guest in ("pv", "pvh")} == before
    assert lab.dom0(vtpms).stdout == store
    assert max(clocks(lab)) < OFF
    # The hardware TPM went back with the store, and neither watchdog nor restart sees a difference.
    lab.dom0("systemctl restart xen-vtpm-managerd xen-vtpmd; xen-vtpm status; systemctl show -p NRestarts xen-vtpmd | grep =0")
    for guest in before:
        assert lab.guest(guest, "tpm2_nvdefine -Q 0x1500044 -C o -s 1; tpm2_nvundefine -Q 0x1500044 -C o").returncode == 0


@pytest.mark.long
def test_a_rewound_lab_is_reset(lab):
    """To a power cut right after the snapshot: its disks have all that is needed, its hardware TPM fits to the store."""
    lab.rewind()
    lab.run("reset", timeout=400)
    assert lab.dom0("xen-vtpm status").returncode == 0
    assert "Xen version 4.17" in lab.run("log", "xen").stdout
    lab.run("guest", "start", "pv", timeout=400)
    assert lab.guest("pv", "tpm2_getrandom --hex 8").returncode == 0
    lab.rewind()
    assert lab.guest("pvh", "tpm2_getrandom --hex 8").returncode == 0
    assert max(clocks(lab)) < OFF


@pytest.fixture(scope="module")
def small(lab):
    lab.create("small", "--no-vtpm")
    yield "small"
    lab.destroy("small")


def test_commands_keep_their_words_output_errors_input_and_status(lab, small):
    words = ["printf", "%s|", "two words", "$HOME", "'\"", "*"]
    assert lab.run("dom0", "--", *words).stdout == "|".join(words[2:]) + "|"
    assert lab.run("guest", "exec", small, "--", *words).stdout == "|".join(words[2:]) + "|"
    for run in (lab.dom0, lambda script, **options: lab.guest(small, script, **options)):
        result = run("echo out; echo err >&2; exit 7", check=False)
        assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err\n", 7)
        assert run("cat", input="in").stdout == "in"


def test_files_are_pushed_and_pulled(lab, small, tmp_path):
    for where in ([], ["--guest", small]):
        directory = tmp_path / "tree"
        directory.mkdir(exist_ok=True)
        (directory / "file").write_bytes(os.urandom(100_000))
        lab.run("push", *where, str(directory), "/tmp/tree")
        back = tmp_path / ("back" + "-".join(where))
        lab.run("pull", *where, "/tmp/tree/file", str(back))
        assert back.read_bytes() == (directory / "file").read_bytes()
    assert "there is no" in lab.run("push", str(tmp_path / "nothing"), "/tmp/x", check=False).stderr


def test_the_logs(lab, small):
    assert "xen-vtpm-managerd" in lab.run("log", "dom0").stdout
    assert "xen-vtpm-managerd" in lab.run("log").stdout
    assert "Xen version 4.17" in lab.run("log", "xen").stdout
    assert "Linux version" in lab.run("log", small).stdout
    assert "never was a guest" in lab.run("log", "nobody", check=False).stderr


def test_a_shell_is_interactive(lab, small):
    for arguments in ([], [small]):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(ROOT / "scripts/lab", ["lab", "--name", lab.name, "shell", *arguments])
        seen = b""
        os.write(terminal, b"tty; echo $((40 + 2)); exit 5\n")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:  # its other end is closed
                    break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        assert b"/dev/pts/" in seen and b"\n42" in seen


def test_status_and_list(lab, small):
    assert "xen_version            : 4.17" in lab.run("status").stdout
    rows = [line.split() for line in lab.run("guest", "list").stdout.splitlines()]
    assert ["small", "pv"] in [[row[0], row[2]] for row in rows]


def test_a_vtpm_may_be_named(lab):
    lab.create("named", "--vtpm", UUID)
    try:
        assert UUID in lab.dom0("xl vtpm-list named").stdout
        assert UUID in lab.run("guest", "list").stdout
        assert lab.guest("named", "tpm2_getrandom --hex 4").returncode == 0
    finally:
        lab.destroy("named")


@pytest.mark.parametrize("arguments, status, message", [
    (["guest", "exec", "nobody", "--", "true"], 1, "there is no guest 'nobody'"),
    (["guest", "create", "x", "--type", "hvm"], 2, "guest type 'hvm' is not supported; there is: pv pvh"),
    (["guest", "create", "x", "--kernel", "2.4"], 2, "guest kernel '2.4' is not supported"),
    (["guest", "create", "x", "--vtpm", "7"], 2, "'7' is no UUID"),
    (["guest", "create", "x", "--no-vtpm", "--tpm", "1.2"], 2, "exclude each other"),
    (["guest", "create", "X Y"], 2, "is no name for a guest"),
    (["guest", "frobnicate"], 2, "unknown verb"),
    (["dom0", "true"], 2, "usage: lab dom0 -- COMMAND..."),
    (["up", "--release", "sarge"], 2, "release 'sarge' is not supported"),
    (["up", "--release", "trixie"], 2, "needs --bare"),
    (["up", "--memory", "12"], 2, "at least 1536"),
    (["push", "one"], 2, "usage: lab push"),
])
def test_wrong_use_is_explained(lab, arguments, status, message):
    result = lab.run(*arguments, check=False)
    assert (result.returncode, message in result.stderr) == (status, True), result.stderr


def test_a_lab_that_is_not_up_says_so():
    nobody = Lab("nobody-is-here")
    assert nobody.run("status", check=False).returncode == 3
    result = nobody.run("dom0", "--", "true", check=False)
    assert result.returncode == 1 and "start it with" in result.stderr
    nobody.run("down")


def test_a_project_that_does_not_build_is_not_booted(tmp_path, monkeypatch):
    (tmp_path / "meson").write_text("#!/bin/sh\necho meson: no\nexit 1\n")
    (tmp_path / "meson").chmod(0o755)
    lab = Lab("unbuilt")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = lab.run("up", check=False)
    lab.run("down", check=False)
    assert result.returncode != 0
    assert "cannot build the project's programs" in result.stderr
    assert "booting" not in result.stderr


def test_a_port_in_use_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("XEN_VTPM_LAB_PORT", str(taken.getsockname()[1]))
        other = Lab("port-in-use")
        result = other.run("up", check=False)
        assert result.returncode == 1 and "is in use" in result.stderr
        assert other.run("status", check=False).returncode == 3


def test_a_second_lab_runs_beside_and_leaves_nothing(lab):
    second = Lab("second")
    second.run("up", "--booted", timeout=900)
    try:
        assert second.dom0("hostname").returncode == 0
        assert len(second.guest("pvh", "tpm2_getrandom --hex 8").stdout) == 16
        assert lab.dom0("hostname").returncode == 0
        files = second.run("status").stdout.split("files: ")[1].split()[0]
    finally:
        second.run("down")
    assert second.run("status", check=False).returncode == 3
    commands = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if (files + "/").encode() in command]
    assert [path.suffix for path in pathlib.Path(files).iterdir() if path.suffix != ".log"] == []
