"""The program's side: start the worker once, ask it for runs, hear what they say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event
from repeatr.worker.protocol import Answer, Request, decode, encode_request


class _Worker:
    """The worker of this process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def connect(self) -> socket.socket:
        """A connection for one run. Raises RepeatrError (RPC) where no worker can be had."""
        ours, theirs = socket.socketpair()
        with theirs:
            for attempt in (1, 2):
                control = self._started(anew=attempt == 2)
                try:
                    with self._lock:
                        socket.send_fds(control, [b"\0"], [theirs.fileno()])
                    return ours
                except OSError as problem:  # it died since; a new one is started once
                    why = str(problem)
        ours.close()
        raise RepeatrError(
            Category.RPC,
            f"the worker process can't be reached: {why}",
            remedy="look for its error above; running again starts another one",
        )

    def _started(self, *, anew: bool) -> socket.socket:
        with self._lock:
            # After a fork the worker is the parent's, not ours.
            if self._control is not None and self._owner == os.getpid() and not anew:
                return self._control
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "repeatr.worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                )
            self._control, self._owner = ours, os.getpid()
            return ours


_worker = _Worker()


class Running:
    """A run that is going on. Iterating gives its events; a context manager that ends it.

    Leaving it before its end stops the run.
    """

    def __init__(self, request: Request) -> None:
        self._connection = _worker.connect()
        with suppress(ConnectionError):  # reading will tell that it is no more
            self._connection.sendall(encode_request(request))
        self._lines = self._connection.makefile("rb")
        self._pid = 0
        self._answer: Answer | None = None

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._answer is None:
            self.stop()
            with suppress(RepeatrError):
                for _event in self:
                    pass
        self._lines.close()
        self._connection.close()

    def __iter__(self) -> Iterator[Event]:
        """The events, as they happen, to the run's end."""
        self._started()
        while self._answer is None:
            line = self._line()
            if not line:
                raise RepeatrError(
                    Category.RPC,
                    "the worker process ended in the middle of a run",
                    remedy="look for its error above, or in the kernel's log (out of memory?)",
                )
            told = decode(line)
            if isinstance(told, Answer):
                self._answer = told
            else:
                yield told

    def stop(self) -> None:
        """Ask the run to stop; it ends with the error CANCELLED."""
        if self._answer is None and self._started():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def answer(self) -> Answer:
        """The end of the run; waits for it and drops the events that are still to come."""
        for _event in self:
            pass
        assert self._answer is not None
        return self._answer

    def _started(self) -> int:
        if not self._pid:
            self._pid = int(self._line() or b"0")
        return self._pid

    def _line(self) -> bytes:
        """The next line that the run writes; b"" where it is no more."""
        try:
            return self._lines.readline()
        except ConnectionError:  # it died before it read all that we wrote
            return b""
