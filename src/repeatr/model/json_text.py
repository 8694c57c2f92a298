"""From a document's bytes to its text, and from text to JSON values.

The standard library's parser goes first, for speed; what it refuses goes to `tolerant_json`,
which takes a little more and tells what is wrong with the rest.
"""

from __future__ import annotations

import codecs
import json
from typing import NamedTuple, NoReturn

from repeatr.errors import Category, RepeatrError

#: Longest document taken, in bytes. Formulas are small; what is longer is something else.
MAX_BYTES = 16 << 20

#: Deepest nesting taken. A module in a module in a module needs about 12.
MAX_DEPTH = 100

# More bytes than these that are no UTF-8 make it a binary file.
_MAX_BAD_BYTES = 100


class Parsed(NamedTuple):
    """A parsed document, and what should be told about it."""

    value: object
    warnings: list[str]


def parse_json(text: str, name: str) -> Parsed:
    """Read one JSON value; `name` is what the text is called in errors and warnings.

    Raises RepeatrError USAGE with line and column where the text is broken.
    """
    try:
        return Parsed(json.loads(text, parse_constant=_no_constant), [])
    except (ValueError, RecursionError):
        from repeatr.model.tolerant_json import parse_tolerantly

        return parse_tolerantly(text, name)


def decode_text(data: bytes, name: str) -> Parsed:
    """The text of a document's bytes, as a `Parsed` string.

    Invalid UTF-8 is read as the original reads it, each bad byte as U+FFFD, with a warning.
    Raises RepeatrError USAGE where it is too long, empty or binary.
    """
    if len(data) > MAX_BYTES:
        raise RepeatrError(
            Category.USAGE,
            f"{name} is longer than {MAX_BYTES >> 20} MiB: this is no formula",
            remedy="give the path of a JSON or YAML file",
        )
    if b"\0" in data:
        raise RepeatrError(
            Category.USAGE,
            f"{name} is not text: there is a zero byte at offset {data.index(0)}",
            remedy="give the path of a JSON or YAML file in UTF-8",
        )
    warnings: list[str] = []
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if data.decode(errors="replace").count("\ufffd") > _MAX_BAD_BYTES:
            raise RepeatrError(
                Category.USAGE,
                f"{name} is not text: the byte at offset {error.start} is not UTF-8",
                remedy="give the path of a JSON or YAML file in UTF-8",
            ) from None
        text = _decode_each_bad_byte(data)
        line = data.count(b"\n", 0, error.start) + 1
        warnings.append(f"{name}: line {line} is not UTF-8; bad bytes are read as \ufffd")
    if not text.strip():
        raise RepeatrError(
            Category.USAGE, f"{name} is empty", remedy="give a formula in JSON or YAML"
        )
    return Parsed(text, warnings)


def _decode_each_bad_byte(data: bytes) -> str:
    # Python replaces a truncated sequence by one U+FFFD, Go each of its bytes by one: the
    # number of them is hashed.
    parts = []
    position = 0
    while True:
        try:
            parts.append(data[position:].decode())
            return "".join(parts)
        except UnicodeDecodeError as error:
            parts.append(data[position : position + error.start].decode() + "\ufffd")
            position += error.start + 1


def _no_constant(name: str) -> NoReturn:
    # json.loads knows NaN and Infinity, which are no JSON.
    raise ValueError(name)
