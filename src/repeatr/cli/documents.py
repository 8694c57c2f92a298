"""Formula files: read from a path or standard input, never more of them than a formula has."""

from __future__ import annotations

import os
import stat

from repeatr.errors import Category, RepeatrError
from repeatr.model.document import parse_document
from repeatr.model.events import Emit, Level, Log
from repeatr.model.formula import Document
from repeatr.model.text import MAX_BYTES

#: A NUL byte among this many first bytes makes a file binary.
_HEAD = 4096


def read_document(path: str, emit: Emit) -> Document:
    """Read the formula file at `path`, or standard input for "-"; its warnings are told.

    Raises RepeatrError USAGE for a file that is missing, no file, too long, or no formula.
    """
    name = "standard input" if path == "-" else path
    parsed = parse_document(_read(path, name), name)
    for warning in parsed.warnings:
        emit(Log(Level.WARN, warning))
    return parsed.document


def _read(path: str, name: str) -> bytes:
    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise RepeatrError(
            Category.USAGE,
            f"cannot read the formula {path!r}: {getattr(error, 'strerror', None) or error}",
            remedy="check the path; - is standard input" if missing else "",
        ) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise RepeatrError(
                Category.USAGE,
                f"cannot read the formula {path!r}: it is a directory",
                remedy="name the formula file in it",
            )
        return _read_capped(fd, name)
    except OSError as error:
        raise RepeatrError(
            Category.USAGE, f"cannot read the formula {path!r}: {error.strerror}"
        ) from None
    finally:
        if fd != 0:
            os.close(fd)


def _read_capped(fd: int, name: str) -> bytes:
    """All there is, up to one byte above the cap; binary files are refused by their head."""
    data = bytearray()
    while len(data) <= MAX_BYTES:
        piece = os.read(fd, min(1 << 20, MAX_BYTES + 1 - len(data)))
        if not piece:
            break
        if len(data) < _HEAD and b"\0" in piece[: _HEAD - len(data)]:
            raise RepeatrError(
                Category.USAGE,
                f"{name}: this is a binary file, not a formula",
                remedy="a formula is a JSON or YAML text",
            )
        data += piece
    return bytes(data)
