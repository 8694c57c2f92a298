"""The last steps before the process: what happens between fork and execve in any engine.

Runs in a forked child, inside the container's root. Failures are told through a pipe that
closes by itself when execve succeeds.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from repeatr.engines.contract import Job
from repeatr.linux import calls, capabilities
from repeatr.linux.children import SENT


class Process(NamedTuple):
    """What is to be executed, as whom, and the file descriptor of its output."""

    program: str
    argv: tuple[str, ...]
    env: dict[bytes, bytes]
    cwd: str
    uid: int
    gid: int
    capabilities: frozenset[str] | None
    output: int


def process_of(job: Job, output: int) -> Process:
    """The process of a job, with `output` as its stdout and stderr."""
    env = {os.fsencode(name): os.fsencode(value) for name, value in job.env.items()}
    return Process(job.program, job.argv, env, job.cwd, job.uid, job.gid, job.capabilities, output)


def become(process: Process, report: int, first: Callable[[], None] | None = None) -> NoReturn:
    """Turn this forked child into the process, after it has done what is to be done `first`.

    Writes `exec STEP ERRNO` to `report` if it can't.
    """
    step = "start"
    try:
        if first is not None:
            first()
        os.setsid()
        os.dup2(_nothing_to_read(), 0)
        os.dup2(process.output, 1)
        os.dup2(process.output, 2)
        report = _move_to(report, 3)
        calls.close_from(4)
        calls.leave_session_keyring()
        _default_limits()
        _default_signals()
        os.umask(0o022)
        with contextlib.suppress(PermissionError):  # single id: the kernel denies setgroups
            os.setgroups([])
        step = "become"
        capabilities.become(process.uid, process.gid, process.capabilities)
        # The change of user clears the parent-death signal.
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
        calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
        step = "cwd"
        os.chdir(process.cwd)
        step = "exec"
        os.execve(process.program, process.argv, process.env)
    except OSError as problem:
        os.write(report, b"exec %s %d\n" % (step.encode(), problem.errno or 0))
    except BaseException as problem:  # a forked child must never return into its parent's code
        os.write(report, b"fail %s\n" % repr(problem).encode()[:400].replace(b"\n", b" "))
    os._exit(127)


def _move_to(fd: int, number: int) -> int:
    if fd != number:
        os.dup2(fd, number, inheritable=False)
    return number


def _nothing_to_read() -> int:
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a root without devices, in a place where none can be made
        read, write = os.pipe()
        os.close(write)
        return read


def _default_limits() -> None:
    """Set the limits that show in results to the kernel's defaults (setrlimit(2)).

    A core file would be part of an output; the stack's size bounds the arguments' length.
    Limits that protect the host stay.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for which, default in ((resource.RLIMIT_STACK, 8 << 20), (resource.RLIMIT_NOFILE, 1024)):
        hard = resource.getrlimit(which)[1]
        soft = default if hard == resource.RLIM_INFINITY else min(default, hard)
        resource.setrlimit(which, (soft, hard))


def _default_signals() -> None:
    # Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays so across execve.
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def wake_up_pipe() -> int:
    """A descriptor from which the numbers of signals can be read: of SIGCHLD and those SENT."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *SENT):
        # Without a handler pid 1 of a namespace is sent nothing.
        signal.signal(number, lambda _number, _frame: None)
    return read


def pass_on(wake: int, child: int) -> None:
    """Send what has arrived on the wake-up pipe to the group of the process `child`."""
    try:
        arrived = os.read(wake, 512)
    except BlockingIOError:
        return
    for number in arrived:
        if number not in SENT:
            continue
        try:
            os.killpg(child, number)
        except ProcessLookupError:  # it has not made its own group yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
