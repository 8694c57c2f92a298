"""What a run tells while it goes on: one stream of events.

The commands turn them into text or JSON; nothing below `cli` prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """How much a log line matters; the numbers are the original's wire values."""

    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Log:
    """A line about what Repeatr does. `detail` holds facts as (key, value) pairs."""

    level: Level
    msg: str
    detail: tuple[tuple[str, str], ...] = ()
    time: int = field(default_factory=lambda: int(time.time()))


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of the process's stdout and stderr, interleaved as written."""

    msg: bytes
    time: int = field(default_factory=lambda: int(time.time()))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work is: `done` of `total` (None where unknown) bytes of `what`."""

    what: str
    done: int
    total: int | None = None


Event = Log | Output | Progress

#: Where events go: called once for each, in order, from any thread.
Emit = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """An `Emit` for callers who do not listen."""
