"""Two ends of a pipeline between threads: read ahead, write behind.

Inflating, deflating and hashing release the interpreter's lock, so that a second core
does them while the first one reads headers. Both ends are bounded: neither holds more
than a handful of pieces, however slow the other side is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import TracebackType

#: How long leaving an abandoned pipeline waits for its thread, in seconds: the thread may
#: be inside a read from a network that never answers, which nothing can interrupt.
_PATIENCE = 5.0


class ReadAhead:
    """Runs an iterator of pieces in a thread, at most `depth` pieces ahead of its reader.

    An error of the iterator is raised to the reader, at its place in the order. Leaving
    the context stops the thread.
    """

    def __init__(self, pieces: Iterator[bytes], depth: int = 6) -> None:
        self._pieces = pieces
        self._ready: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._stopped = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Iterator[bytes]:
        self._thread.start()
        return self._read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for piece in self._pieces:
                self._room.acquire()
                if self._stopped:
                    break
                self._ready.put(piece)
        except BaseException as error:
            end = error
        self._ready.put(end)

    def _read(self) -> Iterator[bytes]:
        while True:
            piece = self._ready.get()
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            self._room.release()
            yield piece


class WriteBehind:
    """Hands pieces to `consume` in a thread, at most `depth` pieces behind its writer.

    An error of `consume` is raised to the writer by the next `put` or when the context is
    left. Leaving it without an error waits until all pieces are consumed; leaving it with
    one drops what is still waiting.
    """

    def __init__(self, consume: Callable[[bytes], object], depth: int = 6) -> None:
        self._consume = consume
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._dropped = True
        self._waiting.put(None)
        self._thread.join(_PATIENCE if kind is not None else None)
        if kind is None and self._error is not None:
            raise self._error

    def put(self, piece: bytes) -> None:
        """Hand on one piece; waits while the other side is `depth` pieces behind."""
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._waiting.put(piece)

    def _run(self) -> None:
        while True:
            piece = self._waiting.get()
            if piece is None:
                return
            if self._error is None and not self._dropped:
                try:
                    self._consume(piece)
                except BaseException as error:
                    self._error = error
            self._room.release()
