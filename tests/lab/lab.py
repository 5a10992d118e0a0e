# SPDX-License-Identifier: Apache-2.0
"""scripts/lab, as a person would call it, for tests and benchmarks."""

import json
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
XEN_VTPM = ROOT / "build/lab/manager/xen-vtpm"
EVENT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
# What the guests' image lacks of what the program needs.
SYSTEM = pathlib.Path("/usr/lib/x86_64-linux-gnu")
LIBRARIES = ("libfmt.so.9", "libstdc++.so.6", "libgcc_s.so.1")


# Of others, with the backtraces: Linux 7.2 in a PV guest reads a register of AMD's that Xen does not have for it, when it boots;
# its network driver, when it resumes with packets under way, takes references of pages that are the slab allocator's.
KNOWN_COMPLAINTS = (
    r".*unchecked MSR access error: RDMSR from 0xc0010055(?:.*\n)*?.*</TASK>\n",
    r".*WARNING: .* at get_page\+.*\n(?:.*\n){1,40}?.*\bxennet_(?:.*\n){1,40}?.*</TASK>\n",
)


def check_log(log):
    """A kernel's log tells of no error of its own."""
    for known in KNOWN_COMPLAINTS:
        log = re.sub(known, "", log)
    complaints = re.findall(r".*(?:BUG:|WARNING:|Oops|Call Trace)(?:.*\n){1,40}", log)
    if complaints:
        raise AssertionError("the kernel complains:\n" + "".join(complaints))


def values_in(text):
    """Of what tpm2-tools print: the SHA-256 of each PCR."""
    return {int(number): value.lower() for number, value in re.findall(r"^ +(\d+) *: 0x([0-9a-fA-F]{64})$", text, re.M)}


class Lab:
    def __init__(self, name):
        self.name = name
        self.untouched = False  # since it had booted

    def run(self, *arguments, check=True, timeout=300, input=None):
        self.untouched = False
        result = subprocess.run(
            [ROOT / "scripts/lab", "--name", self.name, *arguments],
            stdin=subprocess.DEVNULL if input is None else None,
            input=input, capture_output=True, text=True, timeout=timeout,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{arguments}: exit {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def start(self, *arguments):
        """Like run(), but goes on meanwhile: a subprocess.Popen."""
        self.untouched = False
        return subprocess.Popen([ROOT / "scripts/lab", "--name", self.name, *arguments], stdin=subprocess.DEVNULL)

    def dom0(self, script, **options):
        return self.run("dom0", "--", "sh", "-c", script, **options)

    def guest(self, name, script, **options):
        return self.run("guest", "exec", name, "--", "sh", "-c", script, **options)

    def await_tpm(self, guest, node="tpmrm0", limit=60):
        """Until the guest's driver has registered it, limit seconds at best: a guest may be ready before its TPM is."""
        self.guest(guest, f"timeout {limit} sh -c 'until test -c /dev/{node}; do sleep 0.5; done' || "
                          "{ dmesg | grep -iE 'tpm|xenbus' >&2; exit 1; }; udevadm settle")

    def device(self, guest):
        """What the backend says of the guest's only vTPM device."""
        domain = self.dom0(f"xl domid {guest}").stdout.strip()
        rows = json.loads(self.dom0("xen-vtpm --json status", check=False).stdout)["backend"]["devices"]
        return next(row for row in rows if row["device"].startswith(domain + "/"))

    def driver_counters(self, guest):
        """What the guest's driver tells in debugfs, as words."""
        script = ("mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; "
                  "cat /sys/kernel/debug/xen-tpmfront/vtpm-0")
        return dict(line.split() for line in self.guest(guest, script).stdout.splitlines())

    def power_cycle_vtpm(self, guest):
        """Detaches the guest's only vTPM and attaches it again; the guest runs on."""
        uuid = self.dom0(f"xl vtpm-list {guest} | awk 'NR == 2 {{print $3}}'").stdout.strip()
        self.dom0(f"xl vtpm-detach {guest} {uuid} && xl vtpm-attach {guest} uuid={uuid} backend=0")

    def renew(self):
        """As nobody has used it since it had booted: with the guests pv and pvh, each with our driver and a TPM 2.0."""
        if self.untouched:
            return
        if self.run("status", check=False).returncode == 0:
            self.rewind()
        else:
            self.run("up", "--booted", timeout=3000)
        self.untouched = True

    def rewind(self):
        self.run("rewind", timeout=400)

    def create(self, name, *options):
        # A kernel of its own is built at its first use: 5 to 10 minutes on 2 cores, the one with KASAN longest.
        self.run("guest", "create", name, *options, timeout=1800 if "--kernel" in options else 400)

    def pcrs(self, guest, pcrs):
        """Their values, by number; `pcrs` as in "sha256:4,9"."""
        return values_in(self.guest(guest, f"tpm2_pcrread {pcrs}").stdout)

    def replayed(self, guest, pcrs):
        """The same, as tpm2_eventlog makes them of the log that the guest's kernel shows."""
        text = self.guest(guest, f"tpm2_eventlog {EVENT_LOG}").stdout.split("\npcrs:\n")[1].split("  sha384:")[0]
        numbers = {int(number) for number in pcrs.removeprefix("sha256:").split(",")}
        return {pcr: value for pcr, value in values_in(text).items() if pcr in numbers}

    def install_xen_vtpm(self, guest):
        for library in LIBRARIES:
            self.run("push", "--guest", guest, (SYSTEM / library).resolve(), SYSTEM / library)
        self.run("push", "--guest", guest, XEN_VTPM, "/usr/local/bin/xen-vtpm")

    def build_module(self, source):
        """The .ko of a directory below the tree, for the kernel of the lab's guests."""
        files = next(line.split()[1] for line in self.run("status").stdout.splitlines() if line.startswith("files:"))
        image = pathlib.Path((pathlib.Path(files) / "guest-image").read_text().strip())
        release = (image / "kernel-release").read_text().strip()
        directory = ROOT / "build/lab-modules" / pathlib.Path(source).name
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(ROOT / source, directory)
        subprocess.run(["make", "-C", f"{image}/headers/usr/src/linux-headers-{release}", f"M={directory}", f"KCFLAGS=-I{ROOT}/kernel", "modules"],
                       check=True, stdout=subprocess.DEVNULL)
        return directory / f"{directory.name}.ko"

    def destroy(self, name):
        self.run("guest", "destroy", name, check=False, timeout=120)
