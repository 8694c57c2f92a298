"""What a script needs to start: the interpreter that its first line names."""

from __future__ import annotations

from typing import NamedTuple

# The kernel reads this much of a file to tell what it is (BINPRM_BUF_SIZE, linux/binfmts.h).
_HEAD = 256

# Options of env(1) that take a word of their own after them.
_WITH_WORD = ("-u", "--unset", "-C", "--chdir")


class Shebang(NamedTuple):
    """The first line of a script. `program` is the name of what `interpreter` looks up in
    PATH where it is env(1), else ""."""

    interpreter: str
    program: str


def read_shebang(path: str) -> Shebang | None:
    """The `#!` line of the file at `path`, or None where it has none. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(b"#!"):
        return None
    line = head[2:].split(b"\n", 1)[0].strip(b" \t\r").decode(errors="surrogateescape")
    interpreter, _, rest = line.replace("\t", " ").partition(" ")
    program = _program_of_env(rest.split()) if interpreter.rpartition("/")[2] == "env" else ""
    return Shebang(interpreter, program)


def _program_of_env(words: list[str]) -> str:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _WITH_WORD:
            skip = True
        elif word.startswith("-S") and len(word) > 2:
            return word[2:]
        elif not word.startswith("-") and "=" not in word:
            return word
    return ""
