# SPDX-License-Identifier: Apache-2.0
"""What scripts/test runs, once everything is installed: builds under the sanitizers, then all tests, in two lanes.

Most tests keep one processor busy, a lab's as well as a program's. So two lanes run side by side, each with a lab of its
own, and take from one list what nobody has begun. What measures times against each other runs at the end, alone."""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time

import summary

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD, RESULTS = ROOT / "build/test", ROOT / "build/test-results"
# -g1 is what a sanitizer's stack trace needs. The compiler's garbage collection, at 1 GB, never begins.
SETUP = ["--werror", "-Doptimization=1", "-Ddebug=false", "-Dcpp_args=-g1 --param=ggc-min-heapsize=1048576", "-Db_sanitize=address,undefined",
         "-Db_lundef=false", "-Dbench=true"]
PYTEST = ["/usr/bin/python3", "-m", "pytest", "-v", "-p", "no:cacheprovider", "--durations=15", "--tb=short"]
GOAL, LIMIT = 60 * 60, 85 * 60  # seconds, of an ordinary run; CI ends one at 90 minutes
USAGE = "usage: scripts/test [--no-lab | --all]     without the lab; or with the tests that take long"

began = time.monotonic()
lock = threading.Lock()


def say(text):
    print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)


class Job:
    """A command that is one or more tests. One that writes no JUnit report itself is one test: its exit status."""

    def __init__(self, name, command, limit, reports=False, lab=False):
        self.name, self.command, self.limit, self.reports, self.lab = name, command, limit, reports, lab
        self.took = 0

    @property
    def log(self):
        return RESULTS / f"{self.name}.log"

    @property
    def report(self):
        return RESULTS / f"{self.name}.xml"

    def run(self, lane):
        start = time.monotonic()
        environment = {**os.environ, "XEN_VTPM_TEST_LAB": lane.lab, "XEN_VTPM_TEST_KEEP": "yes"}
        with self.log.open("w") as log:
            status = subprocess.run(["timeout", "--kill-after=30", str(self.limit), *map(str, self.command)], cwd=ROOT,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
        self.took = time.monotonic() - start
        if not self.reports:
            self.report.write_text(summary.report_of_one(self.name, self.took, failed=status != 0))
        elif status != 0 and not summary.explains_a_failure(self.report):
            # A sanitizer may speak up after the last test: what the report does not explain is a failure of its own.
            self.report.unlink(missing_ok=True)
        with lock:
            say(f"{self.name}: {summary.outcome(self.report)}, {self.took:.0f} s")


def catch(name, command):
    return Job(name, [*command, "--reporter", "junit", "--out", RESULTS / f"{name}.xml"], 1200, reports=True)


def pytest(name, path, limit, **options):
    return Job(name, [*PYTEST, f"--junitxml={RESULTS}/{name}.xml", path], limit, reports=True, **options)


def programs():
    """All that meson knows: a program that nobody runs tests nothing."""
    known = json.loads(subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, stdout=subprocess.PIPE).stdout)
    for test in known:
        if test["name"].startswith(("fuzz-", "manual")):  # none of Catch2
            yield Job(test["name"], test["cmd"], 1200)
        else:
            yield catch(test["name"], test["cmd"])


# Those that take longest first, so that no lane is left with one of them at the end.
FIRST = ("test_driver", "test_host", "test_guest", "test_save_restore", "test_kernels", "test_groups")
ALONE = ("test_neighbour",)


def lab_files():
    names = [path.stem for path in sorted((ROOT / "tests/lab").glob("test_*.py"))]
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    return [pytest(f"lab-{name.removeprefix('test_')}", f"tests/lab/{name}.py", 4800, lab=True) for name in names]


class Lane(threading.Thread):
    """Takes the jobs it prefers first, those with the lab or those without, and then the others."""

    def __init__(self, number, jobs, prefers_lab):
        super().__init__()
        self.lab, self.jobs, self.prefers_lab = f"test-{number}", jobs, prefers_lab

    def next(self):
        with lock:
            if not self.jobs:
                return None
            return self.jobs.pop(next((i for i, job in enumerate(self.jobs) if job.lab == self.prefers_lab), 0))

    def run(self):
        while (job := self.next()) is not None:
            job.run(self)


def build():
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", BUILD, *SETUP], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    say("building under the sanitizers")
    return Job("build", ["meson", "compile", "-C", BUILD], 3600)


def main():
    choice = sys.argv[1:]
    if choice not in ([], ["--no-lab"], ["--all"]):
        sys.exit(USAGE)
    if choice == ["--all"]:
        os.environ |= {"XEN_VTPM_TEST_LONG": "yes", "XEN_VTPM_SCHEDULES": "500000", "XEN_VTPM_KILLS": "400"}
    subprocess.run(["rm", "-rf", RESULTS], check=True)
    RESULTS.mkdir(parents=True)

    first = build()
    lanes = [Lane(0, [], True), Lane(1, [], False)]
    first.run(lanes[0])
    jobs = [pytest("kernel", "tests/kernel", 1200), pytest("layers", "tests/test_layers.py", 60), pytest("docs", "tests/test_docs.py", 60), *programs()]
    alone = []
    if choice == ["--all"]:
        jobs.append(pytest("packages", "tests/packages", 1800))
        jobs.append(pytest("upgrade", "tests/upgrade", 1800))
        jobs.append(Job("each-file-alone", ["sh", "-c", "rm -rf build/apart; meson setup build/apart --werror -Dunity=off && meson compile -C build/apart"], 3600))
        # Without the sanitizers: a thousand engines of theirs do not fit into a machine.
        soak = "meson setup build/soak --buildtype=release; ninja -C build/soak backend/xen-vtpm-engine tests/integration-soak && build/soak/tests/integration-soak"
        jobs.append(Job("soak-long", ["env", "XEN_VTPM_SOAK_GUESTS=1000", "XEN_VTPM_SOAK_SECONDS=7200", "sh", "-c", soak], 3 * 3600))
    if choice != ["--no-lab"]:
        labs = lab_files()
        alone = [job for job in labs if job.name.replace("lab-", "test_") in ALONE]
        jobs += [job for job in labs if job not in alone]
    every = [first, *jobs, *alone]
    for lane in lanes:
        lane.jobs = jobs
        lane.start()
    for lane in lanes:
        lane.join()
    for job in alone:
        job.run(lanes[0])
    for lane in lanes:
        subprocess.run([ROOT / "scripts/lab", "--name", lane.lab, "down"], stderr=subprocess.DEVNULL)

    took = time.monotonic() - began
    for job in sorted(every, key=lambda job: job.took):
        print(f"{job.took:6.0f} s  {job.name}")
    print(f"{took:6.0f} s  in all")
    if not choice and took > GOAL:
        print(f"An ordinary run should take no more than {GOAL} s; it fails beyond {LIMIT} s.")
    in_time = bool(choice) or took <= LIMIT
    sys.exit(0 if summary.tell(every) and in_time else 1)


if __name__ == "__main__":
    main()
