#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whether xen-vtpm(1) and the completion for bash have the commands and options that --help has, and no others; and
whether the other pages, and what the programs print, name commands and options that there are.

check.py PROGRAM MANUAL COMPLETION ROOT
"""

import itertools
import pathlib
import re
import subprocess
import sys

PROGRAM, MANUAL, COMPLETION, ROOT = sys.argv[1:]
OF_ALL = {"--help", "--json", "--version"}
# What is signed, or a key derived from, begins so.
LABELS = {"launch approval", "group key"}


def help_of(words):
    return subprocess.run([PROGRAM, *words, "--help"], check=True, capture_output=True, text=True).stdout


def commands_in(text):
    listed = re.search(r"^Subcommands:\n(.*?)\n\n", text, re.M | re.S)
    return re.findall(r"^  ([a-z-]+) ", listed[1], re.M) if listed else []


def options_in(text):
    return set(re.findall(r"^ +(?:-[a-z],)?(--[a-z-]+)", text, re.M)) - OF_ALL


def walk(words=()):
    """Each command with its options; a word that only has commands below it is none."""
    text = help_of(words)
    below = commands_in(text)
    if words and (not below or "[SUBCOMMAND]" in text):
        yield " ".join(words), options_in(text)
    for word in below:
        yield from walk((*words, word))


def plain(line):
    line = re.sub(r'^\.[BI]+ ', "", line)
    return re.sub(r"\\f.", "", line).replace("\\-", "-").replace('"', "")


def manual():
    """The headings of the manual's section on commands."""
    section = re.search(r"^\.SH DESCRIPTION\n(.*?)^\.SH OPTIONS", pathlib.Path(MANUAL).read_text(), re.M | re.S)[1]
    for heading in re.findall(r"^\.TP\n(.*)$", section, re.M):
        line = plain(heading)
        words = re.match(r"[a-z]+(?:[ -][a-z]+)*", line)[0]
        yield words, set(re.findall(r"--[a-z-]+", line))


def completed(words, current, program=f'{PROGRAM} "$@"'):
    line = ["xen-vtpm", *words, current]
    script = (f'source {COMPLETION}; xen-vtpm() {{ {program}; }}; '
              f"COMP_WORDS=({' '.join(repr(word) for word in line)}); COMP_CWORD={len(line) - 1}; _xen_vtpm; "
              'printf "%s\\n" "${COMPREPLY[@]}"')
    return set(subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout.split())


def names_of_guests():
    """What the completion makes of a guest's name that a shell would obey."""
    rows = r"web\tu-1\n$(echo obeyed)\tu-2\n-\tu-3\n"
    program = f"""if [[ $1 == list ]]; then printf '{rows}'; else {PROGRAM} "$@"; fi"""
    return completed(["show"], "", program)


def named():
    """Where a text says `xen-vtpm ...`: file, line, the rest of what looks like a command."""
    root = pathlib.Path(ROOT)
    texts = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("data/man/*"), *root.glob("manager/**/*.cpp"), *root.glob("backend/**/*.cpp"),
             *root.glob("debian/xen-vtpm*"), root / "scripts/demo"]
    for path in texts:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for rest in re.findall(r"(?<![\w/-])xen-vtpm ((?:--?[a-z-]+|[a-z][a-z-]*)(?: [^`|;)&>]*)?)", plain(line)):
                yield f"{path.relative_to(root)}:{number}", rest


def unknown(rest, offered):
    """What of it there is not: nothing where it is prose (`xen-vtpm has ...`) and begins no command."""
    words = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*[.,:]?", word), rest.split()))
    words = [word.rstrip(".,:") for word in words]
    firsts = {command.split()[0] for command in offered}
    if not words or words[0] not in firsts:
        return None
    command = next((" ".join(words[:n]) for n in range(len(words), 0, -1) if " ".join(words[:n]) in offered), None)
    if command is None:
        return None if len(words) == 1 or " ".join(words[:2]) in LABELS else " ".join(words[:2])
    options = set(re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest)) - OF_ALL - offered[command]
    return f"{command} {' '.join(sorted(options))}" if options else None


def main():
    wrong = []
    offered = dict(walk())
    described = list(manual())
    for command in sorted({command for command, _ in described} ^ offered.keys()):
        wrong.append(f"{command}: {'not in the manual' if command in offered else 'only in the manual'}")
    for command, options in described:
        if differing := options ^ offered.get(command, options):
            wrong.append(f"{command}: the manual and --help do not agree on {sorted(differing)}")
    if len(described) != len(dict(described)):
        wrong.append("the manual has a command twice")
    for command, options in offered.items():
        if (found := completed(command.split(), "--") - OF_ALL) != options:
            wrong.append(f"{command}: the completion has {sorted(found)}, --help has {sorted(options)}")
    for words in {tuple(command.split()[:-1]) for command in offered}:
        if (found := completed(words, "")) != set(commands_in(help_of(words))):
            wrong.append(f"{' '.join(words)}: the completion has {sorted(found)}")
    if (found := names_of_guests()) != {"web", "u-1", "u-2", "u-3"}:
        wrong.append(f"the completion makes {sorted(found)} of guests' names")
    wrong += [f"{place}: there is no xen-vtpm {what}" for place, rest in named() if (what := unknown(rest, offered))]
    if not unknown("group renew default", offered) or not unknown("show --frobnicate NAME", offered):
        wrong.append("what there is not is not found")
    print("\n".join(wrong))
    return bool(wrong)


sys.exit(main())
