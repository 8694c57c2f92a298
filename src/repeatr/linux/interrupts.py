"""Signals that ask Repeatr to stop: where they break off work, and where they are passed on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from repeatr.errors import Category, RepeatrError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Catches the signals that ask to stop. A context manager, for the main thread.

    The first one raises RepeatrError (CANCELLED) in whatever is going on, so that it cleans
    up after itself; later ones do not disturb the cleaning up. Within `passed_on` none
    raises: they are there to be taken with `take`, and `fd` becomes readable.
    """

    def __init__(self) -> None:
        self._raise = True
        self._taken: list[int] = []
        self._former: dict[int, object] = {}
        self.fd = -1
        self._write = -1

    def __enter__(self) -> Interrupts:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)
        for number in STOPPING:
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]
        os.close(self.fd)
        os.close(self._write)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Meanwhile, signals wait to be taken instead of raising."""
        before, self._raise = self._raise, False
        try:
            yield
        finally:
            self._raise = before

    def hold(self) -> None:
        """From now on, signals wait instead of raising: what goes on is at its end anyway."""
        self._raise = False

    def resume(self) -> None:
        """End `hold`. Raises RepeatrError (CANCELLED) for a signal that waited."""
        self._raise = True
        if number := self.take():
            self._raise = False
            raise cancelled(number)

    def take(self) -> int:
        """The number of a signal that arrived and was not taken yet, or 0."""
        with suppress(BlockingIOError):
            os.read(self.fd, 64)
        return self._taken.pop(0) if self._taken else 0

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._raise:
            self._raise = False
            raise cancelled(number)
        self._taken.append(number)
        with suppress(BlockingIOError):  # full of earlier ones: it is readable
            os.write(self._write, b"\0")


def cancelled(number: int) -> RepeatrError:
    """The error of a run that the signal `number` ended."""
    return RepeatrError(
        Category.CANCELLED,
        f"stopped by {signal.Signals(number).name}",
        details={"signal": str(int(number))},
    )
