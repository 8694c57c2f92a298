"""What a program and its worker say to each other.

The program sends, over one socket, a connection for each run as a file descriptor. On the
connection it writes the request, one line of JSON. The child that runs it answers with
lines of JSON: first its pid, then events, last the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Level, Log, Output, Progress
from repeatr.model.record import RunRecord


class Request(NamedTuple):
    """A run that is asked for: the formula's text and all that a run takes from its caller."""

    formula: str
    name: str
    home: str
    engine: str
    memo: bool
    timeout: float | None
    keep: bool
    directory: str
    environment: dict[str, str]
    umask: int


class Answer(NamedTuple):
    """The end of a run: its record, or the error that kept it from having one."""

    record: RunRecord | None
    error: RepeatrError | None


def encode_request(request: Request) -> bytes:
    """A request as its line."""
    return _line(request._asdict())


def decode_request(line: bytes) -> Request:
    """The request of a line."""
    return Request(**json.loads(line))


def encode_event(event: Event) -> bytes:
    """An event as its line."""
    if isinstance(event, Log):
        return _line({"log": [int(event.level), event.msg, event.detail, event.time]})
    if isinstance(event, Output):
        return _line({"txt": [event.msg.decode(errors="surrogateescape"), event.time]})
    return _line({"progress": [event.what, event.done, event.total]})


def encode_answer(answer: Answer) -> bytes:
    """The end of a run as its line."""
    error = answer.error
    return _line(
        {
            "record": None if answer.record is None else answer.record.to_json(),
            "error": None
            if error is None
            else [error.category.value, error.message, error.remedy, error.details],
        }
    )


def decode(line: bytes) -> Event | Answer:
    """The event or the end that a line tells."""
    value = json.loads(line)
    if "log" in value:
        level, msg, detail, when = value["log"]
        return Log(Level(level), msg, tuple((key, each) for key, each in detail), when)
    if "txt" in value:
        text, when = value["txt"]
        return Output(text.encode(errors="surrogateescape"), when)
    if "progress" in value:
        return Progress(*value["progress"])
    record, error = value["record"], value["error"]
    return Answer(
        None if record is None else RunRecord.from_json(record),
        None if error is None else _error(*error),
    )


def _error(category: str, message: str, remedy: str, details: Mapping[str, str]) -> RepeatrError:
    return RepeatrError(Category.named(category), message, remedy=remedy, details=details)


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
