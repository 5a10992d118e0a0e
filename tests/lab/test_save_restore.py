# SPDX-License-Identifier: Apache-2.0
"""Guests that are paused, migrated, saved and restored: their TPMs know what they knew, and nobody else's does."""

import time

import pytest

SAVED = "/var/lib/saved"
# Straight to the chip, without a resource manager: what is loaded stays loaded.
CHIP = "set -e; cd /root; export TPM2TOOLS_TCTI=device:/dev/tpm0; "
PREPARE = CHIP + """
tpm2_pcrextend 16:sha256=$(printf %064d 1)
tpm2_nvdefine -Q 0x1500016 -C o -s 5
printf first | tpm2_nvwrite -Q 0x1500016 -C o -i-
tpm2_createprimary -Q -C o -G ecc -c primary.ctx
tpm2_startauthsession -Q --policy-session -S session.ctx
tpm2_policypcr -Q -S session.ctx -l sha256:16 -L policy
"""
# What a TPM forgets in a power cycle, and what it does not.
KNOWN = CHIP + """
tpm2_pcrread sha256:16
tpm2_getcap handles-transient
tpm2_getcap handles-saved-session
tpm2_readpublic -Q -c 0x80000000 -o public; sha256sum < public
tpm2_nvread 0x1500016 -C o -s 5
"""
USE = CHIP + """
tpm2_policypcr -Q -S session.ctx -l sha256:16 -L again
tpm2_readpublic -Q -c primary.ctx -o again
tpm2_flushcontext 0x80000001
printf later | tpm2_nvwrite -Q 0x1500016 -C o -i-; printf first | tpm2_nvwrite -Q 0x1500016 -C o -i-
"""


class Guest:
    def __init__(self, lab, name):
        self.lab, self.name = lab, name

    def sh(self, script):
        return self.lab.guest(self.name, script).stdout

    def dom0(self, script):
        return self.lab.dom0(script, timeout=400)

    def known(self):
        """When the guest is there again: its driver gives what was under way back with an error."""
        deadline = time.monotonic() + 60
        while self.lab.guest(self.name, "timeout 30 tpm2_getrandom --hex 4", check=False).returncode != 0:
            assert time.monotonic() < deadline, "the TPM answers"
        return self.sh(KNOWN)

    def save(self):
        self.dom0(f"xl save {self.name} {SAVED}")

    def restore(self):
        self.dom0(f"xl restore {SAVED}")


@pytest.fixture(scope="module")
def traveller(lab, guest):
    traveller = Guest(lab, guest)
    traveller.sh(PREPARE)
    return traveller


@pytest.mark.parametrize("journey", ["xl pause {0}; sleep 1; xl unpause {0}", "xl save -c {0} {1}",
                                     "xl migrate -s '' {0} 'xl migrate-receive'", "xl save {0} {1}; xl restore {1}"])
def test_what_a_tpm_knows_survives(traveller, journey):
    before = traveller.known()
    assert "0x80000000" in before
    travelled = traveller.lab.dom0(journey.format(traveller.name, SAVED), check=False, timeout=400)
    assert traveller.known() == before
    if "Failed to enable logdirty" in travelled.stderr:
        pytest.skip("the emulated machine's Xen does not migrate PV guests")
    assert travelled.returncode == 0, travelled.stderr
    traveller.sh(USE)
    assert traveller.known() == before


def test_a_daemon_that_is_restarted_between_save_and_restore_changes_nothing(traveller):
    before = traveller.known()
    traveller.save()
    traveller.dom0("systemctl restart xen-vtpmd xen-vtpm-managerd")
    traveller.restore()
    assert traveller.known() == before


def test_a_tpm_that_runs_is_not_given_to_a_second_domain(traveller):
    before = traveller.known()
    traveller.save()
    traveller.restore()
    traveller.dom0(f"grep -E '^(type|kernel|ramdisk|memory|vcpus|tsc_mode|vtpm)=' /var/lib/lab/guests/{traveller.name}/xl.cfg > /tmp/second.cfg; "
                   f"echo 'name=\"second\"' >> /tmp/second.cfg; ! xl restore -p /tmp/second.cfg {SAVED}")
    assert "already runs" in traveller.dom0("journalctl -b --no-pager -u xen-vtpmd").stdout
    assert traveller.known() == before


def test_a_guest_that_is_started_anew_has_zero_pcrs_and_the_saved_one_has_no_tpm_any_more(traveller):
    traveller.save()
    traveller.lab.run("guest", "start", traveller.name, timeout=400)
    assert "0x" + "0" * 64 in traveller.sh("tpm2_pcrread sha256:16")
    assert traveller.sh("tpm2_nvread 0x1500016 -C o -s 5") == "first"
    traveller.lab.run("guest", "shutdown", traveller.name)
    traveller.restore()
    traveller.dom0("timeout 60 sh -c 'until xen-vtpm status | grep -q \"power cycle the guest\"; do sleep 0.5; done'")
    assert traveller.lab.device(traveller.name)["state"] == "failed"


def test_a_guest_may_be_saved_before_its_driver_has_asked_for_the_tpm(traveller):
    """It finds what it would have found here: zero PCRs, and its NV."""
    traveller.lab.run("guest", "shutdown", traveller.name)
    traveller.dom0(f"sed -i 's/^extra=\"/&modprobe.blacklist=xen_tpmfront /' /var/lib/lab/guests/{traveller.name}/xl.cfg")
    traveller.lab.run("guest", "start", traveller.name, timeout=400)
    assert traveller.sh("ls /sys/class/tpm") == ""
    traveller.save()
    traveller.restore()
    traveller.lab.run("dom0", "--", "lab-guest", "running", traveller.name)
    traveller.sh("modprobe xen-tpmfront")
    traveller.lab.await_tpm(traveller.name)
    assert "0x" + "0" * 64 in traveller.sh("tpm2_pcrread sha256:16")
    assert traveller.sh("tpm2_nvread 0x1500016 -C o -s 5") == "first"
