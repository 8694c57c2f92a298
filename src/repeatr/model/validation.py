"""Reading parsed documents: a value of the expected kind, or an error that names the field.

A field is named by its path, as in `formula.action.userinfo.uid`. Keys that are no plain
words are quoted: `formula.inputs."/"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.model.wareid import shortened

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_LIMIT = 2**63


class Unquoted(NamedTuple):
    """A YAML scalar without quotes that YAML takes for something a formula has no use for.

    `kind` says what: "a date", "a boolean".
    """

    text: str
    kind: str


def key_path(where: str, key: str) -> str:
    """The path of `key` inside the field at path `where`."""
    name = key if _PLAIN_KEY.fullmatch(key) else shortened(key).replace("'", '"')
    return f"{where}.{name}" if where else name


def refuse(where: str, expected: str, value: object, remedy: str = "") -> NoReturn:
    """Raise the error that a field is not what it should be."""
    raise RepeatrError(
        Category.USAGE,
        f"{where or 'the document'}: expected {expected}, found {describe(value)}",
        remedy=remedy,
    )


def describe(value: object) -> str:
    """A value in a few words, for an error text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return shortened(repr(value)).strip("'")
    if isinstance(value, str):
        return f"the text {shortened(value)}"
    if isinstance(value, Unquoted):
        return f"{shortened(value.text)}, which without quotes is {value.kind} in YAML"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a map"
    return f"a {type(value).__name__}"


def as_map(value: object, where: str) -> dict[str, object]:
    """A map with any keys."""
    if not isinstance(value, dict):
        refuse(where, "a map", value)
    if all(map(str.isascii, value)):
        return value
    return {_well_formed(key): item for key, item in value.items()}


def as_fields(value: object, where: str, known: Iterable[str]) -> dict[str, object]:
    """A map with known keys only."""
    fields = as_map(value, where)
    known = tuple(known)
    for key in fields:
        if key not in known:
            raise RepeatrError(
                Category.USAGE,
                f"{key_path(where, key)}: unknown field",
                remedy=f"{_nearest(key, known)}the fields here are {', '.join(known)}",
            )
    return fields


def _nearest(key: str, known: tuple[str, ...]) -> str:
    import difflib  # only on the way out

    near = difflib.get_close_matches(key.lower()[:80], known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def as_text(value: object, where: str) -> str:
    """A string."""
    if isinstance(value, str):
        return value if value.isascii() else _well_formed(value)
    remedy = ""
    if isinstance(value, (bool, int, float)):
        remedy = f'quote it: "{describe(value)}"'
    elif isinstance(value, Unquoted):
        remedy = f'quote it: "{shortened(value.text)[1:-1]}"'
    elif value is None:
        remedy = 'write "" for empty text, or leave the field out'
    elif isinstance(value, list):
        remedy = "write one text, not a list"
    refuse(where, "text", value, remedy)


def as_integer(value: object, where: str) -> int:
    """An integer of 64 bits. 1.0 and true are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        remedy = "write the number in decimal, without quotes, point or exponent"
        refuse(where, "an integer", value, remedy)
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        refuse(where, "an integer of 64 bits", value)
    return value


def as_boolean(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        refuse(where, "true or false", value, "write true or false, without quotes")
    return value


def as_text_list(value: object, where: str) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list):
        remedy = ""
        if isinstance(value, str):
            remedy = f'write it as a list: ["{shortened(value)[1:-1]}"]'
        refuse(where, "a list of text", value, remedy)
    return tuple([as_text(item, f"{where}[{index}]") for index, item in enumerate(value)])


def as_text_map(value: object, where: str) -> dict[str, str]:
    """A map from strings to strings."""
    fields = as_map(value, where)
    return {key: as_text(item, key_path(where, key)) for key, item in fields.items()}


def with_field(error: RepeatrError, where: str) -> RepeatrError:
    """The same error, with the field that it is about in front."""
    return RepeatrError(
        error.category, f"{where}: {error.message}", remedy=error.remedy, details=error.details
    )


def _well_formed(text: str) -> str:
    # Half a surrogate pair (only "\ud800" in JSON makes one) has no UTF-8. The original
    # reads each as U+FFFD, and so hashes it.
    return _SURROGATE.sub("\ufffd", text)
