# SPDX-License-Identifier: Apache-2.0
"""Other kernels than Debian's 6.1 with the same driver."""

import pytest


@pytest.mark.parametrize("type", ["pv", "pvh"])
def test_debians_backported_kernel(lab, type):
    name = f"b{type}"
    lab.create(name, "--type", type, "--kernel", "6.12")
    try:
        lab.await_tpm(name)
        assert lab.guest(name, "uname -r").stdout.startswith("6.12.")
        assert "/updates/" in lab.guest(name, "modinfo -n xen-tpmfront").stdout
        assert lab.replayed(name, "sha256:4,8") == lab.pcrs(name, "sha256:4,8") != {}
        lab.guest(name, "set -e; tpm2_getrandom --hex 8; tpm2_pcrextend 16:sha256=$(printf %064d 1); tpm2_pcrread sha256:16; "
                        "for i in 1 2 3; do echo vtpm-0 > /sys/bus/xen/drivers/xen-tpmfront/unbind; rmmod xen_tpmfront; "
                        "modprobe xen-tpmfront; udevadm settle; tpm2_getrandom --hex 4; done")
        lab.dom0(f"xl save {name} /var/lib/saved && xl restore /var/lib/saved; rm -f /var/lib/saved", timeout=400)
        lab.run("dom0", "--", "lab-guest", "running", name)
        assert lab.guest(name, "tpm2_getrandom 4 > /dev/null; ls /sys/class/tpm").stdout.split() == ["tpm0"]
    finally:
        lab.destroy(name)
