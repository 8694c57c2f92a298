"""Repeatr itself is killed in the middle of a run: no process stays, at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import callers
from repeatr.engines.conformance.harness import Container
from repeatr.engines.conformance.test_ending import processes_of, token

__all__ = ["token"]

SCRIPT = (
    "trap '' TERM HUP INT; (sleep {token} &) ; (trap '' TERM; sleep {token}; sleep {token}) &"
    " echo started; while :; do sleep 0.1; done # {token}"
)


def gone(token: str) -> bool:
    until = time.monotonic() + 2
    while processes_of(token) and time.monotonic() < until:
        time.sleep(0.005)
    return processes_of(token) == []


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_killed(container: Container, token: str) -> None:
    marker = container.base / "pid"

    def after_start(_root: object) -> None:
        marker.write_text(str(os.getpid()))

    pid = os.fork()
    if pid == 0:
        try:
            container.sh(SCRIPT.format(token=token), before=after_start)
        finally:
            os._exit(1)
    try:
        # Three sleeps or shells of it: all of the script is running.
        wait_for(lambda: len(processes_of(token)) >= 4)
        os.kill(int(marker.read_text()), signal.SIGKILL)
        assert gone(token)
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02])
def test_killed_at_the_start(container: Container, token: str, delay: float) -> None:
    # Wherever in the making of the container it happens.
    marker = container.base / "pid"

    def about_to_start(_root: object) -> None:
        marker.write_text(str(os.getpid()))

    pid = os.fork()
    if pid == 0:
        try:
            container.sh(SCRIPT.format(token=token), before=about_to_start)
        finally:
            os._exit(1)
    wait_for(lambda: marker.exists() and marker.read_text())
    victim = int(marker.read_text())
    time.sleep(delay)
    children = _descendants(victim)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert gone(token)
    wait_for(lambda: not any(map(alive, children)))


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie (whoever inherits one reaps it in time)."""
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as listed:
            children = [int(each) for each in listed.read().split()]
    except OSError:
        return []
    return children + [below for child in children for below in _descendants(child)]


def test_interrupt_at_a_terminal() -> None:
    # The terminal sends SIGINT to the whole group, also to what is being forked just then.
    # It must be told once, by one process, whenever it comes.
    callers.need_program("busybox")
    program = (
        "import os, sys\n"
        "from repeatr.linux import enclosure\n"
        "from repeatr.linux.interrupts import Interrupts\n"
        "from repeatr.errors import RepeatrError\n"
        "from repeatr.engines.namespaces import Namespaces\n"
        "with Interrupts():\n"
        "    try:\n"
        "        os.write(1, b'ready')\n"
        "        here = enclosure.enter()\n"
        "        for _ in range(500):\n"
        "            Namespaces().probe(here)\n"
        "    except RepeatrError:\n"
        "        os.write(1, b' stopped')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(callers.SOURCES)}
    for delay in (0.0, 0.001, 0.003, 0.01, 0.03, 0.05):
        with subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as started:
            assert started.stdout is not None
            assert started.stdout.read(5) == b"ready"
            time.sleep(delay)
            os.killpg(started.pid, signal.SIGINT)
            said, _ = started.communicate(timeout=20)
            assert said == b" stopped"
