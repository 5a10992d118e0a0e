# SPDX-License-Identifier: Apache-2.0
"""What people have a TPM for: the kernel's trusted keys, and a disk that opens by itself."""

VOLUME = "/root/volume"
CRYPTSETUP = "/lib/systemd/systemd-cryptsetup"


def test_a_trusted_key_is_the_same_after_a_reboot(lab, guest):
    lab.guest(guest, "set -e; modprobe -a trusted encrypted_keys || true; cd /root; "
                     "tpm2_createprimary -Q -C o -c primary.ctx; tpm2_evictcontrol -Q -C o -c primary.ctx 0x81000001; "
                     "key=$(keyctl add trusted kmk 'new 32 keyhandle=0x81000001' @u); keyctl pipe $key > kmk.blob; "
                     "keyctl add encrypted evm 'new trusted:kmk 32' @u > key; keyctl pipe $(cat key) > evm.blob; sync")
    lab.run("guest", "reboot", guest, timeout=600)
    lab.guest(guest, "set -e; modprobe -a trusted encrypted_keys || true; cd /root; "
                     "keyctl add trusted kmk \"load $(cat kmk.blob) keyhandle=0x81000001\" @u; "
                     "key=$(keyctl add encrypted evm \"load $(cat evm.blob)\" @u); keyctl pipe $key | cmp - evm.blob")
    # What was sealed opens nowhere else: one digit of it is changed.
    broken = lab.guest(guest, "keyctl add trusted other \"load $(tr '0123456789abcdef' '123456789abcdef0' < /root/kmk.blob) "
                              "keyhandle=0x81000001\" @u", check=False)
    assert broken.returncode != 0


def test_a_luks_volume_opens_by_the_tpm_after_a_reboot(lab, guest):
    lab.guest(guest, f"set -e; truncate -s 32M {VOLUME}; printf secret > /root/password; "
                     f"cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {VOLUME} /root/password; "
                     f"PASSWORD=secret systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 {VOLUME}; "
                     f"{CRYPTSETUP} attach vault {VOLUME} /root/password; echo treasure > /dev/mapper/vault; "
                     f"{CRYPTSETUP} detach vault; rm /root/password; sync", timeout=600)
    lab.run("guest", "reboot", guest, timeout=600)
    opened = lab.guest(guest, f"{CRYPTSETUP} attach vault {VOLUME} - tpm2-device=auto,headless=true && "
                              f"head -n 1 /dev/mapper/vault; {CRYPTSETUP} detach vault", timeout=600)
    assert opened.stdout == "treasure\n"
    # With another measurement in PCR 7 it stays shut.
    shut = lab.guest(guest, f"tpm2_pcrextend 7:sha256=$(printf %064d 1); "
                            f"{CRYPTSETUP} attach vault {VOLUME} - tpm2-device=auto,headless=true", timeout=600, check=False)
    assert shut.returncode != 0
    assert lab.guest(guest, "test -e /dev/mapper/vault", check=False).returncode == 1
