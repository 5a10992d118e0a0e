# SPDX-License-Identifier: Apache-2.0
"""What opens the keys of a group, and what does not: another boot, another store, another hardware TPM."""

import json
import subprocess


def push_approver(lab, tmp_path):
    """A key pair, in dom0's home directory: the approver's machine is dom0 as well."""
    for command in (["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "approver.pem"],
                    ["openssl", "pkey", "-in", "approver.pem", "-pubout", "-out", "approver.pub"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    for file in ("approver.pem", "approver.pub"):
        lab.run("push", str(tmp_path / file), f"/root/{file}")


def test_a_group_opens_in_the_boots_that_its_approver_signed(lab, tmp_path):
    """As docs/boot-policies.md has it."""
    group = lambda name="tenant": json.loads(lab.dom0(f"xen-vtpm --json group show {name}").stdout)
    push_approver(lab, tmp_path)
    lab.dom0("xen-vtpm group create tenant --approver approver.pub")
    lab.dom0("xen-vtpm policy measure | grep -E '^PCR 7 +[0-9a-f]{64}$'")
    lab.dom0("xen-vtpm policy measure --json > boot.json")
    lab.dom0("xen-vtpm policy sign --key approver.pem --group tenant --measurements boot.json "
             "--not-after 2099-12-31T23:59:59Z > policy.json")
    policy = json.loads(lab.dom0("xen-vtpm --json policy install policy.json").stdout)["policy"]
    uuid = lab.dom0("xen-vtpm create --group tenant").stdout.strip()
    lab.dom0("systemctl restart xen-vtpm-managerd")
    assert group()["reason"] == ""
    lab.dom0(f"xen-vtpm policy remove {policy}; systemctl restart xen-vtpm-managerd")
    assert "approved no boot" in group()["reason"]
    assert "REFUSED" in lab.dom0("xen-vtpm status").stdout
    assert group("default")["reason"] == ""  # one group's refusal is no other's
    lab.dom0("xen-vtpm policy install policy.json")
    assert group()["reason"] == ""
    lab.dom0(f"xen-vtpm delete --yes {uuid} && xen-vtpm group delete --yes tenant")


def test_yesterdays_store_is_refused_until_the_administrator_takes_it(lab):
    lab.dom0("systemctl stop xen-vtpmd xen-vtpm-managerd && cp -a /var/lib/xen-vtpm /var/lib/yesterday && "
             "systemctl start xen-vtpm-managerd && systemctl stop xen-vtpm-managerd && "
             "rm -r /var/lib/xen-vtpm && mv /var/lib/yesterday /var/lib/xen-vtpm && systemctl start xen-vtpm-managerd")
    refused = lab.dom0("xen-vtpm status", check=False)
    assert refused.returncode == 5 and "not the store that this host last used" in refused.stdout
    for group in json.loads(lab.dom0("xen-vtpm --json group list").stdout):
        if "last used" in group["reason"]:
            lab.dom0(f"xen-vtpm group accept-rollback {group['group']}")
    assert "rollback-accepted" in lab.dom0("xen-vtpm audit verify").stdout
    lab.dom0("systemctl start xen-vtpmd && xen-vtpm status")


# As a firmware or a boot loader that measures something else does.
OTHER_BOOT = """[Unit]
Before=xen-vtpm-managerd.service
[Service]
Type=oneshot
ExecStart=tpm2_pcrextend 4:sha256={digest}
[Install]
WantedBy=multi-user.target
"""


def test_a_host_that_boots_something_else_is_refused_until_its_approver_signs(lab, tmp_path):
    approve = ("xen-vtpm policy measure --pcrs sha256:4 --json > boot.json && xen-vtpm policy sign --key approver.pem "
               "--group fleet --measurements boot.json > policy.json && xen-vtpm policy install policy.json")
    push_approver(lab, tmp_path)
    lab.dom0(f"xen-vtpm group create fleet --approver approver.pub && {approve}")
    uuid = lab.dom0("xen-vtpm create --group fleet").stdout.strip()
    lab.create("fleet", "--vtpm", uuid)
    lab.await_tpm("fleet")
    lab.guest("fleet", "tpm2_nvdefine -Q 0x1500033 -C o -s 4 && printf kept | tpm2_nvwrite -Q 0x1500033 -C o -i-")
    lab.dom0("cat > /etc/systemd/system/other-boot.service && systemctl enable other-boot && sync",
             input=OTHER_BOOT.format(digest="5" * 64))
    lab.run("reset", timeout=400)
    reason = json.loads(lab.dom0("xen-vtpm --json group show fleet").stdout)["reason"]
    assert "PCR 4 approved" in reason and "no boot policy" in reason
    assert json.loads(lab.dom0("xen-vtpm --json group show default").stdout)["reason"] == ""
    assert lab.run("guest", "start", "fleet", check=False, timeout=300).returncode != 0
    assert "PCR 4 approved" in lab.dom0("journalctl -b --no-pager -u xen-vtpmd").stdout
    lab.dom0(approve)
    assert json.loads(lab.dom0("xen-vtpm --json group show fleet").stdout)["reason"] == ""
    lab.run("guest", "start", "fleet", timeout=400)
    assert lab.guest("fleet", "tpm2_nvread 0x1500033 -C o -s 4").stdout == "kept"
    lab.destroy("fleet")
    lab.dom0("systemctl disable other-boot")


def test_another_hardware_tpm_is_refused_until_the_recovery_key_comes(lab):
    key = json.loads(lab.dom0("xen-vtpm --json group recovery-key default").stdout)["recovery_key"]
    lab.run("reset", "--new-tpm", timeout=400, check=False)
    out = lab.dom0("xen-vtpm status", check=False).stdout
    assert "refus" in out and "not the hardware TPM" in out
    vtpms = json.loads(lab.dom0("xen-vtpm --json list", check=False).stdout)
    uuid = next(vtpm["uuid"] for vtpm in vtpms if vtpm["group"] == "default" and vtpm["tpm"] == "2.0" and vtpm["sequence"])
    result = lab.run("guest", "create", "refused", "--vtpm", uuid, check=False, timeout=300)
    assert result.returncode != 0
    assert "not the hardware TPM" in lab.dom0("journalctl -b --no-pager -u xen-vtpmd").stdout
    lab.destroy("refused")
    assert lab.dom0("printf 0000 | xen-vtpm group recover default", check=False).returncode == 2
    refused = lab.dom0(f"printf %s {key} | xen-vtpm group recover --yes default", check=False)
    assert refused.returncode == 5 and "--new-tpm" in refused.stderr + refused.stdout
    lab.dom0(f"printf %s {key} | xen-vtpm group recover --new-tpm --yes default")
    stored = json.loads(lab.dom0(f"xen-vtpm --json show {uuid}").stdout)["sequence"]
    assert stored > 0
    lab.create("recovered", "--vtpm", uuid)
    lab.await_tpm("recovered")
    lab.guest("recovered", "tpm2_getrandom --hex 8")
    assert json.loads(lab.dom0(f"xen-vtpm --json show {uuid}").stdout)["sequence"] > stored
    lab.destroy("recovered")
