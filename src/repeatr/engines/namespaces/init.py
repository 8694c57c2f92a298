"""Pid 1 of the container: starts the process, reaps, forwards signals, and tells the end.

A process that is pid 1 itself would ignore its own SIGKILL and never learn of orphans.
"""

from __future__ import annotations

import os
import select
import signal

from repeatr.engines.launch import Process, become

#: Signals that are passed on to the process's group.
FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run(process: Process, report: int, life: int) -> None:
    """Start the process and write to `report` how it ended.

    `life` is the reading end of a pipe whose other end only Repeatr holds: its end of file
    means that Repeatr is gone, and so the container goes. When this process ends, the
    kernel kills what is left in its pid namespace.
    """
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    for forwarded in FORWARDED:
        signal.signal(forwarded, _nothing)
    child = os.fork()
    if child == 0:
        become(process, report)
    os.close(process.output)
    while True:
        status = _reap(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            os.write(report, b"signal %d\n" % -code if code < 0 else b"exit %d\n" % code)
            return
        ready, _, _ = select.select([wake_read, life], [], [])
        if life in ready:
            return
        for number in _pending(wake_read):
            if number in FORWARDED:
                _send(child, number)


def _nothing(_number: int, _frame: object) -> None:
    """A handler, so that the signal reaches the wake-up pipe (pid 1 is sent no others)."""


def _reap(wanted: int) -> int | None:
    """Reap every child that has ended; the status of `wanted` if it was among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == wanted:
            return status
        if pid == 0:
            return None


def _pending(wake: int) -> bytes:
    try:
        return os.read(wake, 512)
    except BlockingIOError:
        return b""


def _send(child: int, number: int) -> None:
    try:
        os.killpg(child, number)
    except ProcessLookupError:  # it has not made its own group yet
        os.kill(child, number)
