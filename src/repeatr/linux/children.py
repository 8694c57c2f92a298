"""Forking without running the parent's own business in the child.

Python's signal handlers survive a fork. One that raises would unwind the child into code
that was meant for the parent alone, and one that writes to a descriptor would write into
whatever has that number in the child. So signals wait while a child is being made.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Signals that somebody may send to Repeatr, and on to what it runs.
SENT = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@contextmanager
def signals_held() -> Iterator[None]:
    """Meanwhile, the signals SENT wait. A child forked inside keeps them waiting after it.

    For a process of one thread: another thread would take them instead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(body: Callable[[], None], fork: Callable[[], int] = os.fork) -> int:
    """Run `body` in a child; its pid. The child ends with 0, or the errno of an OSError."""
    with signals_held():
        pid = fork()
        if pid:
            return pid
        code = 255
        try:
            for number in SENT:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
            body()
            code = 0
        except OSError as problem:
            code = problem.errno or 255
        finally:
            os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a child that `start` made: 0, an errno, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
