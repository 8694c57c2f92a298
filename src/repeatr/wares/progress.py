"""Progress of long work, told at most ten times a second."""

from __future__ import annotations

import time

from repeatr.model.events import Emit, Progress

_INTERVAL = 0.1


class Ticker:
    """Counts bytes of `what` and emits `Progress`. Silent about work shorter than a tick."""

    def __init__(self, what: str, emit: Emit, total: int | None = None) -> None:
        self._what = what
        self._emit = emit
        self._total = total
        self._done = 0
        self._next = time.monotonic() + _INTERVAL

    def add(self, size: int) -> None:
        """Count `size` bytes more."""
        self._done += size
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._emit(Progress(self._what, self._done, self._total))
