"""YAML as a way of writing the same documents as in JSON.

Stricter than YAML 1.1, whose guesses do harm in a hashed document: without quotes, only
true, false, null and plain decimal numbers are anything but text. What YAML would take for
a date, an octal number or the boolean `no` is read as `Unquoted`, and refused where it is
used, with the advice to quote it. Merge keys and tags are refused; anchors are fine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.model.text import MAX_BYTES, MAX_DEPTH, Parsed
from repeatr.model.validation import Unquoted

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Longest YAML text taken, in characters: its parsers are a hundred times slower than JSON's.
MAX_LENGTH = 1 << 20

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,30}", re.ASCII)
_PLAIN_FLOAT = re.compile(r"-?[0-9]+\.[0-9]{1,20}", re.ASCII)
_KINDS = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a default value",
}


def parse_yaml(text: str, name: str) -> Parsed:
    """Read the first document of a YAML text; `name` is what it is called in errors.

    Raises RepeatrError USAGE with line and column where the text is broken.
    """
    import yaml

    if len(text) > MAX_LENGTH:
        raise RepeatrError(
            Category.USAGE,
            f"{name} is longer than {MAX_LENGTH >> 20} MiB of YAML: this is no formula",
            remedy="write big documents in JSON",
        )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where it was built in
    try:
        return _Builder(name).document(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(name, mark, f"broken YAML: {error.problem or error.context}", "mend it there")
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        _refuse(name, None, f"broken YAML: {problem}", "mend it, or write JSON")


def _refuse(name: str, mark: Any, problem: str, remedy: str) -> NoReturn:
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    raise RepeatrError(Category.USAGE, f"{name}{where}: {problem}", remedy=remedy)


class _Open:
    """A list or map that is not closed yet, and how much it would be without anchors."""

    def __init__(self, container: list[object] | dict[str, object], anchor: str | None) -> None:
        self.container = container
        self.anchor = anchor
        self.key: str | None = None
        self.size = 1


class _Builder:
    """Makes values of a parser's events.

    It does not recurse, so that depth is a limit and not a crash, and it adds up sizes,
    because a few anchors of anchors can stand for more than a machine holds.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._result: list[object] = []

    def document(self, events: Iterable[Any]) -> Parsed:
        import yaml
        from yaml.resolver import Resolver

        resolver = Resolver()
        warnings: list[str] = []
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                value = self._scalar(event, resolver)
                self._add(event, value, len(event.value) + 1, event.anchor)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._start(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                done = self._open.pop()
                self._add(event, done.container, done.size, done.anchor)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    self._fail(event, f"*{event.anchor} has no anchor before it")
                self._add(event, *self._anchors[event.anchor], anchor=None)
            elif isinstance(event, yaml.DocumentStartEvent) and self._result:
                warnings.append(f"{self._name}: text after the first YAML document is ignored")
                break
        return Parsed(self._result[0] if self._result else None, warnings)

    def _start(self, event: Any, container: list[object] | dict[str, object]) -> None:
        if event.tag is not None and not event.implicit:
            self._fail(event, f"the tag {event.tag} means nothing here")
        if len(self._open) >= MAX_DEPTH:
            self._fail(event, f"more than {MAX_DEPTH} lists and maps inside each other")
        if self._open and isinstance(self._open[-1].container, dict) and self._open[-1].key is None:
            self._fail(event, "a key must be text", "quote it")
        self._open.append(_Open(container, event.anchor))

    def _add(self, event: Any, value: object, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self._result.append(value)
            return
        parent = self._open[-1]
        parent.size += size
        if parent.size > MAX_BYTES:
            self._fail(event, f"with its anchors written out, this is over {MAX_BYTES >> 20} MiB")
        if isinstance(parent.container, list):
            parent.container.append(value)
        elif parent.key is not None:
            parent.container[parent.key] = value
            parent.key = None
        elif isinstance(value, str):
            parent.key = value
        else:
            self._fail(event, "a key must be text", "quote it")

    def _scalar(self, event: Any, resolver: Any) -> object:
        import yaml

        text = str(event.value)
        if event.tag is not None and event.tag not in ("!", f"{_TAG}str"):
            self._fail(event, f"the tag {event.tag} means nothing here")
        if event.tag is not None or not event.implicit[0]:
            return text
        kind = resolver.resolve(yaml.ScalarNode, text, (True, False)).removeprefix(_TAG)
        if kind == "str":
            return text
        if kind == "null":
            return None
        if text in ("true", "false"):
            return text == "true"
        if kind == "int" and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "float" and _PLAIN_FLOAT.fullmatch(text):
            return float(text)
        return Unquoted(text, _KINDS.get(kind, f"a {kind}"))

    def _fail(self, event: Any, problem: str, remedy: str = "write it another way") -> NoReturn:
        _refuse(self._name, event.start_mark, problem, remedy)
