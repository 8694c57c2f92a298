"""The forms of events and results as JSON: one line each, as the original writes them.

Progress is for people who watch; it has no form here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from repeatr.errors import RepeatrError
from repeatr.model.events import Log, Output
from repeatr.model.record import RunRecord


def event_to_json(event: Log | Output) -> dict[str, object]:
    """An event as it is written: `{"log": ...}` or `{"txt": ...}`.

    What the process wrote is bytes; what of it is not UTF-8 is replaced by U+FFFD.
    """
    if isinstance(event, Log):
        return {
            "log": {
                "t": event.time,
                "lvl": int(event.level),
                "msg": event.msg,
                "detail": [[key, value] for key, value in event.detail],
            }
        }
    return {"txt": {"t": event.time, "msg": event.msg.decode(errors="replace")}}


def error_to_json(error: RepeatrError) -> dict[str, object]:
    """An error as it is written: category, message and details.

    The remedy is a detail, because the format has no place of its own for it.
    """
    details = dict(error.details)
    if error.remedy:
        details.setdefault("remedy", error.remedy)
    return {"category": error.category.value, "message": error.message, "details": details}


def result_to_json(record: RunRecord | None, error: RepeatrError | None) -> dict[str, object]:
    """The last line of a stream: the record, the error, or both where the process failed."""
    return {
        "result": {
            "runRecord": None if record is None else record.to_json(),
            "error": None if error is None else error_to_json(error),
        }
    }


def json_line(value: Mapping[str, object]) -> str:
    """A value on one line, without the line's end."""
    # Surrogates may come in from file names that are not UTF-8.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode(errors="replace").decode()


def pretty_json(value: Mapping[str, object]) -> str:
    """A value as run records are printed: indented by four spaces, without a line's end."""
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return text if text.isascii() else text.encode(errors="replace").decode()
