"""What a run tells while it goes on: one stream of events.

The commands turn them into text or JSON; nothing below `cli` prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """How much a log line matters; the numbers are the original's wire values."""

    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


class _Log(NamedTuple):
    level: Level
    msg: str
    detail: tuple[tuple[str, str], ...]
    time: int


class Log(_Log):
    """A line about what Repeatr does. `detail` holds facts as (key, value) pairs."""

    __slots__ = ()

    def __new__(
        cls,
        level: Level,
        msg: str,
        detail: tuple[tuple[str, str], ...] = (),
        when: int | None = None,
    ) -> Log:
        """A line of now, unless `when` (seconds since 1970) says otherwise."""
        return super().__new__(cls, level, msg, detail, int(time.time()) if when is None else when)


class _Output(NamedTuple):
    msg: bytes
    time: int


class Output(_Output):
    """A piece of the process's stdout and stderr, interleaved as written."""

    __slots__ = ()

    def __new__(cls, msg: bytes, when: int | None = None) -> Output:
        """A piece of now, unless `when` (seconds since 1970) says otherwise."""
        return super().__new__(cls, msg, int(time.time()) if when is None else when)


class Progress(NamedTuple):
    """How far long work is: `done` of `total` (None where unknown) bytes of `what`."""

    what: str
    done: int
    total: int | None = None


Event = Log | Output | Progress

#: Where events go: called once for each, in order, from any thread.
Emit = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """An `Emit` for callers who do not listen."""
