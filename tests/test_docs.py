# SPDX-License-Identifier: Apache-2.0
"""What the pages name is there: files, headings of other pages, and the messages of docs/troubleshooting.md."""

import functools
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


@functools.cache
def text_of(page):
    return FENCE.sub("", (ROOT / page).read_text())


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@functools.cache
def anchors(page):
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text_of(page), re.M)}


def broken(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        if not there.exists():
            yield target
        elif heading and heading not in anchors(str(there.resolve().relative_to(ROOT))):
            yield target


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert not list(broken(page))


@functools.cache
def literals():
    """All string literals of the product, each with what follows it directly joined to it."""
    listed = subprocess.run(["git", "ls-files", "manager/*.[ch]pp", "backend/*.[ch]pp", "launch/*.[ch]pp", "kernel/*.c"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    literal = r'"(?:[^"\\\n]|\\.)*"'
    found = []
    for path in listed:
        for joined in re.findall(rf"{literal}(?:\s*{literal})*", (ROOT / path).read_text()):
            found.append("".join(part[1:-1] for part in re.findall(literal, joined)))
    return found


def is_told(message):
    """Whether some literal has all parts of the message in this order."""
    parts = [part for part in message.split("…") if part]
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in parts))
    return any(pattern.search(text) for text in literals())


MESSAGES = re.findall(r"^\| `([^`]+)` \|", text_of("docs/troubleshooting.md"), re.M)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_is_told(message):
    assert is_told(message)


def test_what_nobody_says_is_found():
    assert len(MESSAGES) > 15
    assert not is_told("the hardware TPM is on fire")
    assert anchor("The host's PCRs in its guests' TPMs") == "the-hosts-pcrs-in-its-guests-tpms"
