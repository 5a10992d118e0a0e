# SPDX-License-Identifier: Apache-2.0
"""Upgrades from, and to, programs of before, which are built from this repository's history: guests do not notice, or the
new programs refuse before the old ones let go.

Which they are follows from the history: tests/unit/shared-protocol/messages_test.cpp has the versions of the protocols that
engines outlive, so the newest commit that changed one of them there is the oldest that speaks as we do, and its parent is the
newest that does not."""

import pathlib
import subprocess

import pytest

from host import Busy, Guest, Host, Programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILDS = ROOT / "build/upgrade"
GOLDEN = "tests/unit/shared-protocol/messages_test.cpp"
pytestmark = pytest.mark.long


def git(*arguments):
    done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs this repository's history: git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def former(which):
    """The oldest commit that speaks as this tree does, or the newest that does not."""
    if git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("needs this repository's history: it is a shallow clone")
    changed = git("log", "-1", "--format=%H", "--no-merges", "-G", r"protocol_version\(Channel::k(State|Engines)\) ==", "--", GOLDEN)
    if not changed:
        pytest.skip("needs this repository's history: it never changed a version")
    return changed if which == "alike" else git("rev-parse", changed + "^")


def build(source, name):
    directory = BUILDS / name
    if not (directory / "build.ninja").exists():
        subprocess.run(["meson", "setup", directory, source, "-Doptimization=1", "-Ddebug=false", "-Dtests=false"], check=True)
    programs = Programs(directory)
    targets = [str(path.relative_to(directory)) for path in (programs.daemon, programs.engine, programs.manager, programs.domains)
               if (pathlib.Path(source) / "backend/domains_main.cpp").exists() or path != programs.domains]
    subprocess.run(["ninja", "-C", directory, *targets], check=True)
    return programs


@pytest.fixture(scope="session")
def fake_xen():
    BUILDS.mkdir(parents=True, exist_ok=True)
    library = BUILDS / "fake_xen.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, pathlib.Path(__file__).with_name("fake_xen.c")], check=True)
    return library


@pytest.fixture(scope="session")
def present():
    return build(ROOT, "present")


@pytest.fixture(scope="session")
def past():
    """Programs of a commit."""
    built = {}

    def of(which):
        commit = former(which)
        if commit not in built:
            source = BUILDS / f"source-{commit[:12]}"
            if not source.exists():
                git("worktree", "prune")
                git("worktree", "add", "--detach", str(source), commit)
            built[commit] = build(source, commit[:12])
        return built[commit]

    yield of
    for source in BUILDS.glob("source-*"):
        git("worktree", "remove", "--force", str(source))


@pytest.fixture
def host(tmp_path, fake_xen):
    host = Host(tmp_path, fake_xen)
    yield host
    host.close()
    print(host.log())


def restart_daemon(host, programs):
    assert host.stop_daemon() == 0
    host.start_daemon(programs)


def upgrade(host, programs):
    """As the package does it: debian/xen-vtpm.postinst."""
    host.stop("manager")
    host.start_manager(programs)
    restart_daemon(host, programs)


def states_written(host):
    return [value for path, value in host.xenstore.writes if path.endswith("/state")]


class Unnoticed:
    """Its guest writes without a pause, and finds all as it was; neither state nor ring of its device change."""

    def __init__(self, host, guest):
        self.host, self.guest, self.pcr = host, guest, guest.extend()
        self.states = states_written(host)

    def __enter__(self):
        self.busy = Busy(self.guest)
        self.busy.writes_again()
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.busy.writes_again()
            self.busy.stop()
            assert self.guest.pcr() == self.pcr
            assert states_written(self.host) == self.states
            assert self.host.events.channels.empty()


def served(host, programs):
    host.start_manager(programs)
    host.start_daemon(programs)
    guest = Guest(host, 7)
    guest.power_on()
    guest.define()
    guest.write(0)
    return guest


def can_be_taken_over(host, programs):
    answer = host.check_upgrade(programs)
    return answer.returncode == 0 and answer.stdout == "All running TPMs (1) can be taken over.\n"


def check_life(guest):
    """What was stored is loaded: by who resumes the TPM, and by who powers it on."""
    pcr, number = guest.pcr(), guest.read()
    guest.save()
    guest.restore()
    assert (guest.pcr(), guest.read()) == (pcr, number)
    guest.detach()
    guest.power_on()
    assert (guest.pcr(), guest.read()) == (bytes(32), number)


def test_an_upgrade_to_programs_that_speak_alike_is_not_noticed(host, present, past):
    guest = served(host, past("alike"))
    assert can_be_taken_over(host, present)
    with Unnoticed(host, guest):
        upgrade(host, present)
    check_life(guest)  # at first of the former program's engine


def test_a_daemon_of_before_takes_over_what_speaks_alike_and_gives_it_back(host, present, past):
    """The daemon alone: a store that a newer manager has made is refused by one of before."""
    guest = served(host, present)
    assert can_be_taken_over(host, past("alike"))
    with Unnoticed(host, guest):
        restart_daemon(host, past("alike"))
    assert can_be_taken_over(host, present)
    with Unnoticed(host, guest):
        restart_daemon(host, present)
    check_life(guest)


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_programs_that_speak_otherwise_refuse_before_the_former_let_go(host, present, past, direction):
    before, after = (past("otherwise"), present) if direction == "upgrade" else (present, past("otherwise"))
    guest = served(host, before)
    running = dict(host.descriptors.kept)
    with Unnoticed(host, guest):
        answer = host.check_upgrade(after)
    assert answer.returncode == 1
    assert "1 running TPMs speak another protocol and would be powered off" in answer.stdout
    assert host.descriptors.kept == running
    guest.detach()
    answer = host.check_upgrade(after)
    assert answer.returncode == 0, answer.stdout


def test_whoever_restarts_them_all_the_same_loses_what_it_was_told_of_and_nothing_else(host, present, past):
    guest = served(host, past("otherwise"))
    guest.extend()
    guest.write(1)
    host.stop_daemon()
    host.stop("manager")
    host.start_manager(present)
    host.start_daemon(present)
    guest.reaches("5")
    assert "cannot be taken over and are powered off" in host.log()
    guest.detach()
    guest.power_on()
    assert (guest.pcr(), guest.read()) == (bytes(32), 1)
