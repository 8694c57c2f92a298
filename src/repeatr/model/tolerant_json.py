"""JSON as people write it in formula and module files.

On top of JSON, as in the original's parser: a comma may be missing between two entries and
one may stand after the last; of repeated keys the last counts; what follows the first value
is ignored, here with a warning. Comments are refused, and so is everything else that JSON
refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.model.text import MAX_DEPTH, Parsed

_BLANK = re.compile(r"[ \t\r\n]*")
# Possessive, because backtracking into an unclosed string would take forever.
_TEXT = r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+'
_STRING = re.compile(_TEXT + '"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"null": None, "true": True, "false": False}
# Longer digits are no number a document can mean, and reading them is quadratic.
_MAX_DIGITS = 400


def parse_tolerantly(text: str, name: str) -> Parsed:
    """Read one value; `name` is what the text is called in errors and warnings.

    Raises RepeatrError USAGE with line and column where the text is broken.
    """
    return _Parser(text, name).document()


class _Parser:
    """Recursive descent over one text. The position is the state that it owns."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0
        self._depth = 0

    def document(self) -> Parsed:
        self._skip_blank()
        value = self._value("a value")
        self._skip_blank()
        warnings = []
        if self._at < len(self._text):
            line, _ = self._position(self._at)
            warnings.append(f"{self._name}: text after the first value is ignored, line {line}")
        return Parsed(value, warnings)

    def _value(self, expected: str) -> object:
        character = self._peek()
        if character == '"':
            return self._string()
        if character == "{":
            return self._nested(self._map)
        if character == "[":
            return self._nested(self._list)
        if match := _NUMBER.match(self._text, self._at):
            return self._number(match)
        if (match := _WORD.match(self._text, self._at)) and match[0] in _WORDS:
            self._at = match.end()
            return _WORDS[match[0]]
        self._fail(expected)

    def _nested(self, read: Callable[[], object]) -> object:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"no more than {MAX_DEPTH} lists and maps inside each other")
        value = read()
        self._depth -= 1
        return value

    def _map(self) -> dict[str, object]:
        result: dict[str, object] = {}
        self._at += 1
        self._skip_blank()
        while self._peek() != "}":
            if self._peek() != '"':
                self._fail('a key in double quotes or "}"' if not result else 'a key, "," or "}"')
            key = self._string()
            self._skip_blank()
            if self._peek() != ":":
                self._fail(f'":" after the key {json.dumps(key, ensure_ascii=False)[:80]}')
            self._at += 1
            self._skip_blank()
            result[key] = self._value("a value")
            self._separator()
        self._at += 1
        return result

    def _list(self) -> list[object]:
        result: list[object] = []
        self._at += 1
        self._skip_blank()
        while self._peek() != "]":
            result.append(self._value('a value or "]"' if not result else 'a value, "," or "]"'))
            self._separator()
        self._at += 1
        return result

    def _separator(self) -> None:
        """Skip what stands between two entries: at most one comma."""
        self._skip_blank()
        if self._peek() == ",":
            self._at += 1
            self._skip_blank()

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if not match:
            self._fail_in_string()
        self._at = match.end()
        return str(json.loads(match[0])) if "\\" in match[0] else match[0][1:-1]

    def _number(self, match: re.Match[str]) -> int | float:
        if match.end() - match.start() > _MAX_DIGITS:
            self._fail("a number of a sensible length")
        self._at = match.end()
        return float(match[0]) if match[1] or match[2] else int(match[0])

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _fail_in_string(self) -> NoReturn:
        start = self._at
        match = re.compile(_TEXT).match(self._text, start)
        self._at = match.end() if match else start
        character = self._peek()
        if not character or character in "\r\n":
            self._at = start
            self._fail(
                "text that ends with a double quote on the same line (write \\n for a break)"
            )
        if character == "\\":
            self._fail('one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX')
        self._fail("no control character in text (write \\t for a tab)")

    def _fail(self, expected: str) -> NoReturn:
        line, column = self._position(self._at)
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        remedy = "mend the JSON there"
        if not rest and self._at >= len(self._text):
            found = "the end of the text"
            remedy = "is a bracket or a brace not closed?"
        elif rest.startswith(("//", "/*", "#")):
            found = "a comment"
            remedy = "JSON has no comments: remove it, or write YAML"
        elif rest.startswith("'"):
            found = "a single quote"
            remedy = "JSON takes double quotes only"
        else:
            found = repr(rest[:12]) if rest else "the end of the line"
        raise RepeatrError(
            Category.USAGE,
            f"{self._name}, line {line}, column {column}: expected {expected}, found {found}",
            remedy=remedy,
        )

    def _position(self, at: int) -> tuple[int, int]:
        """Line and column, both from 1; columns count characters."""
        return self._text.count("\n", 0, at) + 1, at - (self._text.rfind("\n", 0, at) + 1) + 1
