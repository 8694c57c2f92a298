"""Watching a container from outside: its output, its end, and what stops it before."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Literal

from repeatr.engines.contract import ExecFailure, Exit, Job
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Output

#: How long a process may take to end after it was asked to, in seconds.
GRACE = 5.0

_CHUNK = 65536

Stopped = Literal["", "signal", "deadline"]


def watch(
    job: Job,
    pid: int,
    output: int,
    report: int,
    *,
    kill: Callable[[], None] | None = None,
    sweep: Callable[[], None] | None = None,
) -> Exit:
    """Forward the container's output until the process `pid` that leads it has ended.

    `pid` is a child of this process and is reaped here. `report` is the pipe on which the
    container says how the process ended (see `interpret`). Closes neither descriptor.

    `kill` ends the container at once, where SIGKILL to its leader does not; the leader gets
    that a little later anyway. `sweep` is called after the leader's end and must leave no process
    that could still write to `output`.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as problem:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise RepeatrError(
            Category.EXECUTOR,
            f"the kernel can't watch a process (pidfd_open: {problem.strerror})",
            remedy="use Linux 5.3 or newer, and no seccomp filter that denies it",
        ) from None
    leader = _Leader(pidfd, kill)
    text = _Text()
    try:
        stopped = _until_end(job, leader, text, output)
    except BaseException:
        leader.end()
        raise
    finally:
        os.close(pidfd)
        status = os.waitpid(pid, 0)[1]
        if sweep is not None:
            sweep()
    os.set_blocking(output, False)
    while _forward(job, text, output):
        pass
    if rest := text.rest():
        job.emit(Output(rest))
    return interpret(_read_all(report), status, stopped)


class _Leader:
    """The process that leads a container, and how it is asked and made to end."""

    def __init__(self, pidfd: int, kill: Callable[[], None] | None) -> None:
        self.pidfd = pidfd
        self._kill = kill

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> bool:
        """End the container. True where that is done, False where it is only asked for."""
        if self._kill is None:
            self.send(signal.SIGKILL)
            return True
        self._kill()
        self._kill = None
        return False

    def end(self) -> None:
        """End the container, whatever happens."""
        if not self.kill():
            select.select([self.pidfd], [], [], GRACE)
            self.send(signal.SIGKILL)


def _until_end(job: Job, leader: _Leader, text: _Text, output: int) -> Stopped:
    """Forward output and signals until the leader has ended; what it was stopped for."""
    stopped: Stopped = ""
    kill_at: float | None = None
    deadline = job.deadline
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.register(leader.pidfd, select.POLLIN)
    if job.stop_fd is not None:
        poller.register(job.stop_fd, select.POLLIN)
    while True:
        limit = min((t for t in (kill_at, deadline) if t is not None), default=None)
        # Rounded up: a wait that ends too early would spin until the time has come.
        wait = None if limit is None else max(0.0, limit - time.monotonic()) * 1000 + 1
        ready = {fd for fd, _event in poller.poll(wait)}
        if output in ready and not _forward(job, text, output):
            poller.unregister(output)
        if leader.pidfd in ready:
            return stopped
        now = time.monotonic()
        if job.stop_fd in ready:
            while number := job.stop():
                if stopped:  # asked twice: at once
                    kill_at = now
                    continue
                leader.send(number)
                stopped, kill_at, deadline = "signal", now + GRACE, None
        if deadline is not None and now >= deadline:
            leader.send(signal.SIGTERM)
            stopped, kill_at, deadline = "deadline", now + GRACE, None
        if kill_at is not None and now >= kill_at:
            kill_at = None if leader.kill() else now + GRACE


def interpret(told: bytes, status: int, stopped: Stopped) -> Exit:
    """What the container's report and its leader's wait status say.

    A report is lines: `exit CODE`, `signal NUMBER`, `exec STEP ERRNO` (it never started) or
    `fail TEXT` (the container could not be made).
    """
    for line in told.splitlines():
        word, _, rest = line.partition(b" ")
        if word == b"exec":
            step, _, number = rest.partition(b" ")
            raise ExecFailure(int(number), step.decode())
        if word == b"fail":
            raise RepeatrError(
                Category.EXECUTOR,
                f"the container could not be made: {rest.decode(errors='replace')}",
                remedy="another engine may do: see --engine",
            )
        if word == b"exit":
            return Exit(int(rest), stopped)
        if word == b"signal":
            return Exit(128 + int(rest), stopped)
    if stopped:
        return Exit(128 + signal.SIGKILL, stopped)
    raise RepeatrError(
        Category.EXECUTOR,
        "the container ended without saying how its process did"
        f" ({_describe(status)}); was it killed from outside, or out of memory?",
        remedy="look at the kernel's log (dmesg) for the reason, and run again",
    )


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _forward(job: Job, text: _Text, output: int) -> bool:
    """Forward what can be read now. False at the end."""
    try:
        chunk = os.read(output, _CHUNK)
    except BlockingIOError:
        return False
    if whole := text.whole(chunk):
        job.emit(Output(whole))
    return bool(chunk)


def _read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    told = b""
    try:
        while chunk := os.read(fd, 4096):
            told += chunk
    except BlockingIOError:
        pass
    return told


class _Text:
    """Holds back a UTF-8 sequence that a chunk cuts in two, so that no reader sees half of it."""

    def __init__(self) -> None:
        self._held = b""

    def whole(self, chunk: bytes) -> bytes:
        data = self._held + chunk
        cut = len(data)
        for back in range(1, min(3, len(data)) + 1):
            byte = data[-back]
            if byte >= 0xC0:  # a sequence starts here; how long it will be is in its first byte
                needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                cut = len(data) - back if back < needed else cut
                break
            if byte < 0x80:
                break
        self._held = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        rest, self._held = self._held, b""
        return rest
