# SPDX-License-Identifier: Apache-2.0
"""What people have a TPM for: a disk that opens by itself. (For the kernel's trusted keys see test_ima.py: Debian's kernel has
none.)"""

# What a PV or PVH guest's boot measures into PCR 7 is nothing; an empty PCR is no policy for systemd.
PREPARE = "set -e; modprobe loop; tpm2_pcrextend 7:sha256=$(printf %064d 7); losetup /dev/loop0 /root/volume"
ATTACH = "/lib/systemd/systemd-cryptsetup attach vault /dev/loop0"
DETACH = "/lib/systemd/systemd-cryptsetup detach vault"
BY_TPM = "- tpm2-device=auto,headless=true"


def test_a_luks_volume_opens_by_the_tpm_after_a_reboot(lab, guest):
    lab.guest(guest, f"truncate -s 32M /root/volume; {PREPARE}; umask 077; printf secret > /root/password; "
                     "cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/loop0 /root/password; "
                     "PASSWORD=secret systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 /dev/loop0; "
                     f"{ATTACH} /root/password; echo treasure > /dev/mapper/vault; {DETACH}; rm /root/password; sync", timeout=600)
    lab.run("guest", "reboot", guest, timeout=600)
    opened = lab.guest(guest, f"{PREPARE}; {ATTACH} {BY_TPM}; head -n 1 /dev/mapper/vault; {DETACH}", timeout=600)
    assert opened.stdout == "treasure\n"
    # With another measurement in PCR 7 it stays shut.
    shut = lab.guest(guest, f"tpm2_pcrextend 7:sha256=$(printf %064d 8); {ATTACH} {BY_TPM}", timeout=600, check=False)
    assert shut.returncode != 0
    assert lab.guest(guest, "test -e /dev/mapper/vault", check=False).returncode == 1
