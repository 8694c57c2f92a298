"""Threads for what is worth one: hashing and reading of files that are not small.

Below about 64 KiB a file is hashed faster than it is handed to another thread (measured:
20,000 files of 1-4 KiB take one thread 0.14 s and two 0.23 s), so small files stay where
they are. Neither class here is needed for them, and no thread is started before the first
piece of work that wants one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from hashlib import sha384
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

#: Contents from this size on, in bytes, are worth another thread.
WORTH_A_THREAD = 64 * 1024

#: Size of the pieces that large files are read and hashed in, in bytes.
PIECE = 256 * 1024

_PIECES_IN_FLIGHT = 8

Result = TypeVar("Result")


class Task(Generic[Result]):
    """Work that a thread does; `result` waits for it."""

    __slots__ = ("_call", "_done", "_error", "_value")

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._value: Result

    def run(self, cancelled: bool) -> None:
        """Do the work, or, where `cancelled`, give it up; for `Workers` only."""
        try:
            if cancelled:
                raise RuntimeError("the work was given up")
            self._value = self._call()
        except BaseException as error:
            self._error = error
        finally:
            del self._call  # what it holds (contents) is no longer needed
            self._done.release()

    def result(self) -> Result:
        """What the work gave; raises what it raised."""
        with self._done:
            if self._error is not None:
                raise self._error
            return self._value


class Workers:
    """A few threads that do tasks in the order given. On leaving, undone tasks are given up.

    It sets no bound on tasks waiting: who submits keeps count of what it holds.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count or worker_count()
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cancelled = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, call: Callable[[], Result]) -> Task[Result]:
        """Have `call` done by a thread."""
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._threads.append(thread)
        task = Task(call)
        self._tasks.put(task)
        return task

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run(self._cancelled)


class StreamHash:
    """SHA-384 of a stream, computed by a thread of its own while the stream goes on."""

    def __init__(self) -> None:
        self._hash = sha384()
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(_PIECES_IN_FLIGHT)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def update(self, piece: bytes) -> None:
        """Hash one more piece; returns before that is done, but lets no heap pile up."""
        if self._thread is None:
            if len(piece) < WORTH_A_THREAD:
                self._hash.update(piece)
                return
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._thread = thread
        self._room.acquire()
        self._pieces.put(piece)

    def digest(self) -> bytes:
        """The digest of all pieces; the end of the stream."""
        self._stop()
        return self._hash.digest()

    def _stop(self) -> None:
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._hash.update(piece)
            self._room.release()


def worker_count() -> int:
    """How many threads hashing is spread over: the processors we may use, at most eight."""
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)
