"""Pid 1 of the container: starts the process, reaps, forwards signals, and tells the end.

A process that is pid 1 itself would ignore its own SIGKILL and never learn of orphans.
"""

from __future__ import annotations

import os
import select
import signal

from repeatr.engines.launch import Process, become, pass_on, wake_up_pipe
from repeatr.engines.namespaces.sealing import Seal
from repeatr.linux.children import SENT


def run(process: Process, report: int, life: int, seal: Seal | None) -> None:
    """Start the process and write to `report` how it ended.

    `life` is the reading end of a pipe whose other end only Repeatr holds: its end of file
    means that Repeatr is gone, and so the container goes. The caller holds signals back. When
    this process ends, the kernel kills what is left in its pid namespace.
    """
    wake = wake_up_pipe()
    child = os.fork()
    if child == 0:
        become(process, report, seal.enter if seal else None)
    if seal is not None:
        seal.grant(child)
    # From here on there is somebody to pass signals on to.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
    os.close(process.output)
    while True:
        status = _reap(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            os.write(report, b"signal %d\n" % -code if code < 0 else b"exit %d\n" % code)
            return
        ready, _, _ = select.select([wake, life], [], [])
        if life in ready:
            return
        pass_on(wake, child)


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
