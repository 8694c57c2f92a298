"""From a document's bytes to its text; how long and how deep a document may be."""

from __future__ import annotations

import codecs
from typing import NamedTuple

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
