# SPDX-License-Identifier: Apache-2.0
"""What decides whether an initramfs gets the driver, with roots that have little more than a crypttab. (The real generators:
tests/packages; a root disk that opens: tests/lab/test_root_disk.py.)"""

import json
import pathlib
import shutil
import subprocess

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "kernel/initramfs"

# A name, what crypttab says, and whether the initramfs is to have the driver.
CRYPTTABS = [
    ("nothing", "", False),
    ("a comment", "# vault /dev/xvda2 none luks,tpm2-device=auto\n", False),
    ("a password", "vault /dev/xvda2 none luks,discard\n", False),
    ("no options at all", "vault /dev/xvda2 none\n", False),
    ("systemd", "vault /dev/xvda2 none luks,tpm2-device=auto\n", True),
    ("a line without its end", "vault /dev/xvda2 none tpm2-device=/dev/tpmrm0", True),
    ("systemd's other words", "vault /dev/xvda2 none luks,tpm2-pcrs=7\n", True),
    ("tabs, and the second line", "swap\t/dev/xvdb\t/dev/urandom\tswap\nvault\t/dev/xvda2\tnone\tluks,tpm2-device=auto\n", True),
    ("another device", "vault /dev/xvda2 none luks,fido2-device=auto\n", False),
    ("a keyscript that is named after the TPM", "vault /dev/xvda2 none luks,keyscript=/usr/sbin/tpm2-unlock,initramfs\n", True),
    ("a keyscript that calls the TPM", "vault /dev/xvda2 none luks,keyscript=/usr/local/sbin/key\n", True),
    ("a keyscript by its name only", "vault /dev/xvda2 none luks,keyscript=unseal\n", True),
    ("a keyscript that asks a card", "vault /dev/xvda2 none luks,keyscript=decrypt_card\n", False),
    ("a keyscript that is not there", "vault /dev/xvda2 none luks,keyscript=/usr/local/sbin/none\n", False),
    ("a word in the name", "tpm2-vault /dev/xvda2 none luks\n", False),
]


@pytest.fixture
def root(tmp_path):
    for path, text in (("usr/local/sbin/key", "tpm2_unseal -c 0x81000001\n"), ("lib/cryptsetup/scripts/unseal", "tpm2_unseal\n"),
                       ("lib/cryptsetup/scripts/decrypt_card", "pkcs15-crypt\n"), ("etc/crypttab", "")):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def crypttab(root, text):
    (root / "etc/crypttab").write_text(text)
    return root


def wants_tpm(root):
    """The volume's name, or nothing."""
    result = subprocess.run([TOOLS / "crypttab-wants-tpm", root], stdout=subprocess.PIPE, text=True)
    assert (result.returncode == 0) == (result.stdout != "")
    return result.stdout.strip()


@pytest.mark.parametrize("text, wanted", [case[1:] for case in CRYPTTABS], ids=[case[0] for case in CRYPTTABS])
def test_a_crypttab_wants_a_tpm_or_not(root, text, wanted):
    assert wants_tpm(crypttab(root, text)) == ("vault" if wanted else "")


def test_there_need_be_no_crypttab(tmp_path):
    assert wants_tpm(tmp_path) == ""


@pytest.mark.parametrize("kind, wanted", [("systemd-tpm2", True), ("clevis", True), ("systemd-fido2", False)])
def test_a_luks_header_that_is_bound_to_a_tpm_says_so(root, kind, wanted):
    """Neither systemd-cryptsetup nor clevis needs a word in crypttab."""
    disk = root / "disk"
    with disk.open("wb") as file:
        file.truncate(4 << 20)
    cryptsetup = ["/usr/sbin/cryptsetup", "--batch-mode"]
    subprocess.run([*cryptsetup, "luksFormat", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000",
                    "--luks2-metadata-size=16k", "--luks2-keyslots-size=1m", disk], input=b"secret", check=True)
    crypttab(root, f"vault {disk} none luks\n")
    assert wants_tpm(root) == ""
    token = json.dumps({"type": kind, "keyslots": ["0"], "jwe": {}})
    subprocess.run([*cryptsetup, "--disable-external-tokens", "token", "import", disk], input=token.encode(), check=True)
    assert wants_tpm(root) == ("vault" if wanted else "")


class Hook:
    """The hook of initramfs-tools, with stubs of what it calls; its paths lead into a directory."""

    def __init__(self, root):
        self.root, self.image = root, root / "image"
        self.image.mkdir()
        libexec = root / "usr/libexec/xen-tpmfront"
        libexec.mkdir(parents=True)
        for tool in "crypttab-wants-tpm", "warn-of-stock-driver":
            shutil.copy(TOOLS / tool, libexec)
        functions = root / "usr/share/initramfs-tools/hook-functions"
        functions.parent.mkdir(parents=True)
        functions.write_text('manual_add_modules() { echo "added $*"; }\n')
        hook = (TOOLS / "xen-tpmfront").read_text()
        calls = hook.count("/usr/libexec/xen-tpmfront/crypttab-wants-tpm")
        assert calls == 1
        hook = hook.replace("/crypttab-wants-tpm", f"/crypttab-wants-tpm {root}").replace("/usr/", f"{root}/usr/")
        (root / "hook").write_text(hook)
        self.module("/lib/modules/6.1.0-1-amd64/updates/dkms/xen-tpmfront.ko")

    def module(self, path):
        """What modinfo says of the driver; None: there is none."""
        modinfo = self.root / "bin/modinfo"
        modinfo.parent.mkdir(exist_ok=True)
        modinfo.write_text("#!/bin/sh\n" + (f"echo '{path}'\n" if path else "exit 1\n"))
        modinfo.chmod(0o755)

    def run(self, *arguments):
        return subprocess.run(["sh", self.root / "hook", *arguments], check=True, capture_output=True, text=True,
                              env={"PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DESTDIR": str(self.image),
                                   "CONFDIR": f"{self.root}/etc/initramfs-tools", "version": "6.1.0-1-amd64"})


@pytest.fixture
def hook(root):
    return Hook(root)


def test_the_hook_adds_the_driver_where_crypttab_wants_a_tpm(hook):
    assert hook.run().stdout == ""
    crypttab(hook.root, "vault /dev/xvda2 none luks,tpm2-device=auto\n")
    assert hook.run().stdout == "added xen-tpmfront\n"
    mask = hook.root / "etc/initramfs-tools/hooks/xen-tpmfront"
    mask.parent.mkdir(parents=True)
    mask.touch()
    assert hook.run().stdout == ""


def test_the_hook_adds_the_driver_to_an_initramfs_that_has_the_tpms_tools(hook):
    """As clevis' hook brings them, whatever crypttab says: the disk may not even be there where the initramfs is made."""
    library = hook.image / "usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"
    library.parent.mkdir(parents=True)
    library.touch()
    assert hook.run().stdout == "added xen-tpmfront\n"


def test_the_hook_runs_after_those_that_bring_the_tools(hook):
    assert hook.run("prereqs").stdout.split() == ["clevis", "cryptroot"]


@pytest.mark.parametrize("module, warns", [
    ("/lib/modules/6.1.0-1-amd64/updates/dkms/xen-tpmfront.ko", False),
    ("/lib/modules/6.1.0/kernel/drivers/char/tpm/xen-tpmfront/xen-tpmfront.ko", False),
    ("(builtin)", False),
    ("/lib/modules/6.1.0-1-amd64/kernel/drivers/char/tpm/xen-tpmfront.ko", True),
    (None, True),
])
def test_the_hook_warns_of_a_kernel_that_our_driver_is_missing_for(hook, module, warns):
    hook.module(module)
    assert hook.run().stderr == "", "nobody wants a TPM"
    crypttab(hook.root, "vault /dev/xvda2 none luks,tpm2-device=auto\n")
    warning = hook.run().stderr
    assert ("Linux 6.1.0-1-amd64 has no xen-tpmfront" in warning and "'vault'" in warning) == warns
    assert warns or warning == ""


@pytest.mark.parametrize("hostonly, text, included", [
    ("yes", "vault /dev/xvda2 none luks\n", False),
    ("yes", "vault /dev/xvda2 none luks,tpm2-device=auto\n", True),
    ("", "", True),
])
def test_dracuts_module_is_in_an_image_that_wants_a_tpm_or_is_for_any_machine(root, hostonly, text, included):
    shutil.copytree(TOOLS, root / "usr/libexec/xen-tpmfront")
    crypttab(root, text)
    script = f'dracutsysrootdir={root} hostonly={hostonly}; . {TOOLS}/module-setup.sh; check "$hostonly"'
    # 255 is dracut's word for: only if another module wants it.
    assert subprocess.run(["bash", "-c", script]).returncode == (0 if included else 255)
