"""The examples in the documentation do what it says they do.

In a ```console block a line that begins with "$ " is a command, lines after it that begin
with "> " belong to it, and what follows is all that it writes, to standard output and
standard error. In that, `...` stands for anything, and a line of its own for any number of
lines, also none. All blocks of a file are one session of a shell, in an empty directory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import callers
from callers import Caller, need_program

FILES = sorted(
    path
    for path in (callers.CHECKOUT / "README.md", *(callers.CHECKOUT / "docs").rglob("*.md"))
    if "```console\n" in path.read_text(encoding="utf-8")
)

#: Written between the outputs of two commands: no text has this character.
_MARK = "\x1e"


class Example(NamedTuple):
    """A command, what it writes, and the line of the file that it is in."""

    command: str
    expected: str
    line: int


def examples_in(text: str) -> list[Example]:
    """The examples of a file, in order."""
    found: list[Example] = []
    in_block = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            in_block = line == "```console"
        elif not in_block:
            continue
        elif line.startswith("$ "):
            found.append(Example(line[2:] + "\n", "", number))
        elif not found:
            raise AssertionError(f"line {number}: output before any command")
        elif (line == ">" or line.startswith("> ")) and not found[-1].expected:
            found[-1] = found[-1]._replace(command=found[-1].command + line[2:] + "\n")
        else:
            found[-1] = found[-1]._replace(expected=found[-1].expected + line + "\n")
    return found


def matches(output: str, expected: str) -> bool:
    """Whether an output is what was expected of it."""
    pattern = "".join(
        r"(?:.*\n)?" if line == "...\n" else ".*".join(map(re.escape, line.split("...")))
        for line in expected.splitlines(keepends=True)
    )
    if output and not output.endswith("\n"):
        output += "\n"
    return re.fullmatch(pattern, output, re.DOTALL) is not None


def outputs_of(examples: list[Example], myself: Caller) -> list[str]:
    """What each example writes, all run in one shell."""
    programs = myself.directory / "bin"
    programs.mkdir()
    program = programs / "repeatr"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m repeatr "$@"\n')
    program.chmod(0o755)
    work = myself.directory / "work"
    work.mkdir()
    # Marking keeps $?, so that an example can show it.
    script = f"umask 022\nmark() {{ local code=$?; printf '{_MARK}'; return $code; }}\n"
    script += "".join(f"{example.command}mark\n" for example in examples)
    done = subprocess.run(
        [need_program("bash"), "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=work,
        env=myself.environment({"PATH": f"{programs}:{callers.PATH}", "LC_ALL": "C.UTF-8"}),
        timeout=120,
        check=False,
    )
    return done.stdout.decode(errors="replace").split(_MARK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_examples_of(path: Path, myself: Caller) -> None:
    examples = examples_in(path.read_text(encoding="utf-8"))
    outputs = outputs_of(examples, myself)
    assert len(outputs) == len(examples) + 1, f"the shell ended early: {outputs[-1]}"
    wrong = [
        f"{path.relative_to(callers.CHECKOUT)}:{example.line}: $ {example.command}"
        f"--- expected\n{example.expected}--- found\n{output}"
        for example, output in zip(examples, outputs, strict=False)
        if not matches(output, example.expected)
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_examples() -> None:
    names = {path.stem for path in FILES}
    assert names >= {"README", "run", "base", "pack", "unpack", "scan", "mirror", "inspect", "runs"}


def test_every_command_has_a_page_that_the_index_names() -> None:
    from repeatr.cli.main import COMMANDS

    index = (callers.CHECKOUT / "docs" / "README.md").read_text(encoding="utf-8")
    for name in set(COMMANDS) - {"help"}:
        assert (callers.CHECKOUT / "docs" / "commands" / f"{name}.md").is_file()
        assert f"(commands/{name}.md)" in index


def test_links_lead_somewhere() -> None:
    for path in (callers.CHECKOUT / "README.md", *(callers.CHECKOUT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                target = os.path.normpath(path.parent / link)
                assert os.path.exists(target), f"{path}: {link}"


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("", "", True),
        ("a\n", "", False),
        ("", "a\n", False),
        ("a\nb\n", "a\nb\n", True),
        ("a\nb", "a\nb\n", True),
        ("a\nc\n", "a\nb\n", False),
        ("tree:xyz\n", "tree:...\n", True),
        ("tar:xyz\n", "tree:...\n", False),
        ("log\nlog\ntree:x\n", "...\ntree:...\n", True),
        ("tree:x\n", "...\ntree:...\n", True),
        ("logtree:x\n", "...\ntree:...\n", False),
        ("", "...\n", True),
        ("a.b\n", "a?b\n", False),
    ],
)
def test_matching(output: str, expected: str, same: bool) -> None:
    assert matches(output, expected) is same


def test_finding() -> None:
    text = (
        "```text\n$ no\n```\n```console\n$ cat <<END\n> a\n> \n>\n> END\na\n> out\n$ b\n```\n$ no\n"
    )
    assert examples_in(text) == [
        Example("cat <<END\na\n\n\nEND\n", "a\n> out\n", 5),
        Example("b\n", "", 12),
    ]
