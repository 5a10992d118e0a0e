# SPDX-License-Identifier: Apache-2.0
"""The patches for Linux that scripts/kernel-series makes: each step builds, and the last one is this tree's driver."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from test_source import KEYRING, ROOT, run

SERIES = ROOT / "kernel/series"
STEPS = sorted(path.name for path in SERIES.iterdir() if path.name[0].isdigit())
OBJECTS = ("drivers/char/tpm/xen-tpmfront.o", "drivers/char/tpm/tpm-chip.o")
DRIVER = "drivers/char/tpm/xen-tpmfront.c"
NOBODY = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
          for what, value in (("NAME", "A Tester"), ("EMAIL", "tester@example.org"))}


def edited(source, script):
    return subprocess.run(["ed", "-s", source], input=script + ",p\nQ\n", check=True, stdout=subprocess.PIPE, text=True).stdout


def digest(name):
    return (SERIES / name).read_text().split("\n")[1]


def test_the_last_step_is_this_trees_driver():
    """If not: bring the change of kernel/xen-tpmfront.c into the series (docs/kernel-driver.md), or into mainline.ed."""
    ours = edited(ROOT / "kernel/xen-tpmfront.c", (SERIES / "mainline.ed").read_text())
    assert hashlib.sha256(ours.encode()).hexdigest() == digest("result")


def test_each_file_names_its_licence():
    files = [path for path in SERIES.rglob("*") if path.is_file()]
    assert [path for path in files if not path.read_text().startswith("# SPDX-License-Identifier: GPL-2.0-only\n")] == []


class Made:
    def __init__(self, directory, history):
        self.directory, self.tree = directory, directory / "linux"
        self.history = history
        self.make()
        self.patches = sorted((directory / "patches").glob("*.patch"))

    def make(self, check=True):
        return run(ROOT / "scripts/kernel-series", str(self.directory), str(self.history), env={**os.environ, **NOBODY}, check=check)

    def git(self, *arguments):
        return run("git", "-C", str(self.tree), *arguments).stdout

    def commits(self):
        return self.git("rev-list", "--reverse", "made").split()[1:]

    def base(self, file):
        return self.git("show", f"{self.commits()[0]}~:{file}")


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A clone of Linux, as far as the script looks at it: two commits for each file, the first of which is found."""
    path = tmp_path_factory.mktemp("history")
    git = ["git", "-C", str(path), "-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    run(*git, "init", "-q")
    for number, subject in enumerate(("tpm: what the fixes are for", "tpm: a later change")):
        for file in (DRIVER, "drivers/char/tpm/tpm2-cmd.c"):
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(f"int cc_attrs_tbl = {number};\n")
        run(*git, "add", ".")
        run(*git, "commit", "-q", "-m", subject)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, history):
    directory = tmp_path_factory.mktemp("series")
    yield Made(directory, history)
    run("rm", "-rf", str(directory))


@pytest.mark.long
def test_each_step_is_a_patch_and_has_a_cover_letter(made):
    assert len(made.patches) == len(STEPS) + 1
    cover = made.patches[0].read_text()
    assert "[PATCH 00/" in cover and "***" not in cover and "Before it is sent" not in cover
    assert hashlib.sha256((made.tree / DRIVER).read_bytes()).hexdigest() == digest("result")


@pytest.mark.long
def test_authors_are_those_of_git(made):
    for patch in made.patches[1:]:
        text = patch.read_text()
        assert "\nFrom: A Tester <tester@example.org>\n" in text
        assert "\nSigned-off-by: A Tester <tester@example.org>\n---\n" in text
    assert "\nMODULE_AUTHOR(\"Daniel De Graaf" in (made.tree / DRIVER).read_text()


@pytest.mark.long
def test_a_fix_names_the_first_commit_of_the_history_that_has_what_it_fixes(made):
    first = run("git", "-C", str(made.history), "log", "--reverse", "--abbrev=12", "--format=%h").stdout.split()[0]
    for step, patch in zip(STEPS, made.patches[1:]):
        tags = re.findall(r"^Fixes: .*", patch.read_text(), re.M)
        wanted = [f'Fixes: {first} ("tpm: what the fixes are for")'] if (SERIES / step / "fixes").exists() else []
        assert tags == wanted, step


@pytest.mark.long
def test_checkpatch_finds_nothing_in_the_patches(made):
    # CAMELCASE: Xen's own names. UNKNOWN_COMMIT_ID: the history is made up here.
    run("scripts/checkpatch.pl", "--strict", "--ignore", "CAMELCASE,UNKNOWN_COMMIT_ID", *map(str, made.patches[1:]), cwd=made.tree)


@pytest.mark.long
def test_the_steps_hold_nothing_of_linux_own_text(made):
    """A line that is there before is no line of ours, unless our driver has it by itself."""
    ours = set((ROOT / "kernel/xen-tpmfront.c").read_text().splitlines())
    quoted = []
    for script in SERIES.glob("*/**/*.ed"):
        file = "/".join(script.relative_to(SERIES).parts[1:]).removesuffix(".ed")
        before = set(made.base(file).splitlines())
        quoted += [line for line in script.read_text().splitlines()
                   if len(line.strip()) > 25 and line in before and line not in ours]
    assert [line for line in quoted if not line.startswith("#include")] == []


@pytest.mark.long
def test_a_tree_that_somebody_has_changed_is_left_alone(made):
    file = made.tree / DRIVER
    before = file.read_text()
    try:
        file.write_text(before + "/* mine */\n")
        result = made.make(check=False)
        assert result.returncode == 1 and "changes of yours" in result.stdout
        assert file.read_text().endswith("/* mine */\n")
    finally:
        file.write_text(before)
    made.make()


def copy_of_the_sources(directory):
    for part in ("scripts/kernel-series", "kernel/series", "docs/kernel-series.md"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (directory / part).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / part, directory / part)


@pytest.mark.long
def test_a_tree_whose_making_failed_is_made_anew(made, tmp_path):
    copy_of_the_sources(tmp_path)
    copy = tmp_path / "copy"
    run("git", "clone", "-q", str(made.tree), str(copy / "linux"))
    # The step's other file is changed already when this one fails.
    broken = tmp_path / "kernel/series" / STEPS[2] / "include/xen/interface/io/tpmif.h.ed"
    broken.parent.mkdir(parents=True)

    def make(check=True):
        return run(tmp_path / "scripts/kernel-series", str(copy), check=check, env={**os.environ, **NOBODY})

    broken.write_text("# SPDX-License-Identifier: GPL-2.0-only\n/there is no such line/d\n")
    for _ in range(2):
        result = make(check=False)
        assert result.returncode == 1 and f"{STEPS[2]}/" in result.stdout and "does not apply" in result.stdout, result.stdout
    # What somebody has done there since, to mend the step, stays.
    driver = copy / "linux" / DRIVER
    before = driver.read_text()
    driver.write_text(before + "/* mine */\n")
    assert "changes of yours" in make(check=False).stdout
    assert driver.read_text().endswith("/* mine */\n")
    driver.write_text(before)
    broken.unlink()
    make()
    assert hashlib.sha256(driver.read_bytes()).hexdigest() == digest("result")
    # Here no history was named.
    fixes = [re.findall(r"^Fixes: .*", patch.read_text(), re.M) for patch in sorted((copy / "patches").glob("*.patch"))]
    assert [tags for tags in fixes if tags] == [['Fixes: 58472f5cd4f6 ("tpm: validate TPM 2.0 commands")']]


@pytest.mark.long
def test_what_was_saved_is_what_was_made(made, tmp_path):
    copy_of_the_sources(tmp_path)
    run(tmp_path / "scripts/kernel-series", "--save", str(made.directory))
    run("diff", "-r", str(SERIES), str(tmp_path / "kernel/series"))
    # A commit of somebody's becomes a step; an empty message of comments does not hide a change.
    copy = made.directory / "more"
    run("git", "clone", "-q", str(made.tree), str(copy / "linux"))
    driver = copy / "linux" / DRIVER
    driver.write_text(driver.read_text().replace("TPM frontend", "TPM's frontend"))
    run("git", "-C", str(copy / "linux"), "commit", "-q", "-a", "-m", "xen/tpmfront: One step more", env={**os.environ, **NOBODY})
    run(tmp_path / "scripts/kernel-series", "--save", str(copy))
    added = tmp_path / f"kernel/series/{len(STEPS) + 1}-one-step-more"
    assert "TPM's frontend" in (added / f"{DRIVER}.ed").read_text()
    assert (tmp_path / "kernel/series/result").read_text() != (SERIES / "result").read_text()


@pytest.mark.long
def test_a_source_that_debian_no_longer_has_is_said(tmp_path):
    for part in ("scripts/kernel-series", "kernel/series/base"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    base = tmp_path / "kernel/series/base"
    base.write_text(re.sub(r"^version=.*", "version=7.0~rc0-1", base.read_text(), flags=re.M))
    result = run(tmp_path / "scripts/kernel-series", str(tmp_path / "out"), check=False,
                 env={**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert result.returncode == 1
    assert re.search(r"no linux-source-\S+ 7\.0~rc0-1 any more; it has linux-source \d", result.stdout)
    assert "kernel/series/base" in result.stdout
    # One that is in the cache already is taken, if it is the one.
    deb = next(tmp_path.glob("cache/*/kernels")) / (re.search(r"^package=(.*)", base.read_text(), re.M)[1] + "_7.0~rc0-1_all.deb")
    deb.write_text("something else")
    result = run(tmp_path / "scripts/kernel-series", str(tmp_path / "out"), check=False,
                 env={**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert result.returncode == 1 and "SHA-256 differs" in result.stdout


def test_the_labs_kernel_is_not_built_from_a_tree_that_could_not_be_made(tmp_path):
    """The one that lay there from an earlier time once was."""
    base = dict(re.findall(r"^(\w+)=(.*)", (SERIES / "base").read_text(), re.M))
    kernels = tmp_path / "cache/xen-vtpm-lab/kernels"
    (kernels / "series/linux").mkdir(parents=True)
    (kernels / "series/linux/Makefile").write_text("%:\n\ttouch ../built\n")
    (kernels / f"{base['package']}_{base['version']}_all.deb").write_text("something else")
    result = run(ROOT / "tests/lab/kernel/build", "mainline", str(tmp_path / "out"), "no-initrd", check=False,
                 env={**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert result.returncode != 0 and "SHA-256 differs" in result.stdout
    assert not (kernels / "series/built").exists()


class Compilers:
    """Debian sid's: the newest kernel wants a newer sparse and clang than bookworm has."""

    def __init__(self, root, tree):
        self.root, self.tree = root, tree
        parts = [ROOT / "tests/lab/kernel/small.config", ROOT / "tests/lab/kernel/builtin.config"]
        (root / "config").write_text("".join(part.read_text() for part in parts))
        for build, options in (("gcc", ""), ("clang", "LLVM=1")):
            self.sh(f"make -s -C /linux O=/{build} {options} KCONFIG_ALLCONFIG=/config tinyconfig && "
                    f"make -s -j2 -C /linux O=/{build} {options} prepare")

    def sh(self, script):
        inside = (f"mount --bind {self.tree} {self.root}/linux && mount -t proc proc {self.root}/proc && "
                  f"exec chroot {self.root} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -ec '{script}'")
        return run("nice", "unshare", "--mount", "sh", "-ec", inside).stdout

    def compile(self):
        everything = " ".join(OBJECTS)
        return self.sh(f"cd /linux; rm -f /gcc/drivers/char/tpm/*.o /clang/drivers/char/tpm/*.o; "
                       f"make O=/gcc W=1 C=1 CHECK=sparse {everything}; make O=/clang LLVM=1 W=1 {everything}")


@pytest.fixture(scope="module")
def compilers(made, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("making a Debian root needs root")
    root = tmp_path_factory.mktemp("sid") / "root"
    run("nice", "mmdebstrap", "--quiet", "--variant=apt", "--include=gcc,make,sparse,clang,lld,llvm,flex,bison,bc,libelf-dev,perl,python3",
        "--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false", "--customize-hook=mkdir \"$1/linux\"",
        "sid", str(root), f"deb [signed-by={KEYRING}] http://deb.debian.org/debian sid main")
    yield Compilers(root, made.tree)
    run("rm", "-rf", str(root))


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(STEPS)), ids=STEPS)
def test_the_step_builds_without_a_warning(made, compilers, number):
    made.git("checkout", "-q", made.commits()[number])
    try:
        log = compilers.compile()
    finally:
        made.git("checkout", "-q", "xen-tpmfront")
    assert log.count(f"  CC      {OBJECTS[0]}") == 2 and f"  CHECK   /linux/{DRIVER}" in log, log
    assert "warning:" not in log and "error:" not in log and "not up to date" not in log, log


@pytest.mark.long
def test_a_warning_would_be_seen(made, compilers):
    file = made.tree / DRIVER
    before = file.read_text()
    try:
        file.write_text(before.replace("struct tpmfront *front = data;", "struct tpmfront *front = data;\n\tint unused;\n\tu32 little = (__le32)1;"))
        assert "warning:" in compilers.compile()
    finally:
        file.write_text(before)
