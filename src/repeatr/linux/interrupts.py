"""Signals that ask Repeatr to stop: where they break off work, and where they are passed on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

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
        self._raised = 0
        self._taken: list[int] = []
        self._former: dict[int, object] = {}
        self.fd = -1
        self._write = -1

    def __enter__(self) -> Interrupts:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        for number in STOPPING:
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]
        sys.unraisablehook = self._hook
        os.close(self.fd)
        os.close(self._write)
        if self._raised and isinstance(error, Exception) and not _is_cancelled(error):
            raise cancelled(self._raised) from error

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        if not (isinstance(found.exc_value, Exception) and _is_cancelled(found.exc_value)):
            self._hook(found)

    def cause(self, error: RepeatrError) -> RepeatrError:
        """The error to tell: what a signal broke off may have failed in another way for it."""
        if not self._raised or _is_cancelled(error):
            return error
        return cancelled(self._raised)

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
        self._taken.append(number)
        with suppress(BlockingIOError):  # full of earlier ones: it is readable
            os.write(self._write, b"\0")
        if self._raise:
            self._raise = False
            self._raised = number
            # Should it be lost (in a destructor, say), the signal is still there to be taken.
            raise cancelled(number)


def _is_cancelled(error: Exception) -> bool:
    return isinstance(error, RepeatrError) and error.category is Category.CANCELLED


def cancelled(number: int) -> RepeatrError:
    """The error of a run that the signal `number` ended."""
    return RepeatrError(
        Category.CANCELLED,
        f"stopped by {signal.Signals(number).name}",
        details={"signal": str(int(number))},
    )
