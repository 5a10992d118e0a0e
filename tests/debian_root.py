# SPDX-License-Identifier: Apache-2.0
"""A bare Debian in a directory. To make one, and to run anything in it, one has to be root."""

import os
import pathlib
import shutil
import subprocess


def run(*command, status=0, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=1200, **options)
    assert result.returncode == status, f"{command}: exit {result.returncode}\n{result.stdout}"
    return result.stdout


class DebianRoot:
    def __init__(self, root):
        self.root = root
        self.release = "".join(os.listdir(root / "lib/modules")) if (root / "lib/modules").exists() else ""  # of its kernel

    @classmethod
    def make(cls, directory, packages, suite="bookworm"):
        """Debian's packages in directory/root, from the mirrors that this machine uses. No initramfs is made."""
        sources = run("sh", "-c", "apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages'"
                      f" | sed -nE 's/ bookworm(-updates|-security)? main$/ {suite}\\1 main/p' | sort -u")
        options = run("sh", "-c", "apt-config dump | grep -E '^Acquire::(https?|Check-|Retries|Max-)' || true")
        directory.chmod(0o755)
        (directory / "sources").write_text(sources)
        (directory / "apt.conf").write_text(options)
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--aptopt={directory}/apt.conf", "--dpkgopt=force-unsafe-io",
            f"--include={','.join(packages)}", suite, directory / "root", directory / "sources", env=os.environ | {"INITRD": "No"})
        return cls(directory / "root")

    def sh(self, script, mounts=(), **options):
        """The mounts are in a namespace that ends with the command, so that removing the root can hit nothing else."""
        enter = "for mount in $1; do mount --rbind $mount $0$mount; done; exec chroot $0 env -i " \
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -ec \"$2\""
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc",
                   "sh", "-ec", enter, self.root, " ".join(mounts), script, **options)

    def install(self, package):
        """A .deb of ours."""
        shutil.copy(package, self.root / "root")
        self.sh(f"apt-get install -y --no-install-recommends /root/{pathlib.Path(package).name}")

    def dracut(self, image, *options):
        """As dracut makes it in a machine of its own: it wants to see these mounts to look at the machine at all. Quick, not small."""
        self.sh(f"dracut --quiet --hostonly --no-hostonly-cmdline --nostrip --zstd --force {' '.join(options)} {image} {self.release}",
                mounts=("/sys", "/dev", "/run"))
