"""Progress is told while it goes on, and not too often."""

from __future__ import annotations

import io
import time

import pytest

from repeatr.model.events import Event, Progress
from repeatr.model.filters import FOLLOW_ALL
from repeatr.wares import progress
from repeatr.wares.progress import Ticker
from repeatr.wares.unpacking import scan, unpack
from tar_archives import file


def test_short_work_is_silent_and_long_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    told: list[Event] = []
    ticker = Ticker("copying", told.append, 100)
    ticker.add(10)
    assert told == []
    now = 0.11
    ticker.add(10)
    ticker.add(10)
    now = 0.25
    ticker.add(10)
    assert told == [Progress("copying", 20, 100), Progress("copying", 40, 100)]


def test_unpacking_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    data = file(b"a", bytes(2_000_000))
    ware = scan("tar", io.BytesIO(data)).ware
    told: list[Event] = []
    unpack(ware, io.BytesIO(data), None, FOLLOW_ALL, emit=told.append)
    ticks = [event for event in told if isinstance(event, Progress)]
    assert ticks[-1] == Progress(f"unpacking {ware}", len(data))
    assert len(ticks) > 3
