"""Standard features: how a run ends, by itself and otherwise, and that nothing is left of it."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import pytest

from repeatr.engines.conformance.harness import Container, Stop


def processes_of(token: str) -> list[int]:
    """The processes of this host whose command lines hold `token`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if token.encode() in line and state != "Z":
                found.append(int(name))
    return found


@pytest.fixture
def token() -> str:
    """A number of seconds to sleep that nobody else sleeps."""
    return f"{1000 + secrets.randbelow(10**9)}"


BACKGROUND = {
    "child": "sleep {token} &",
    "orphan": "(sleep {token} &) &",
    "deaf": "(trap '' TERM HUP INT; sleep {token}; sleep {token}) &",
    "own group": "set -m; sleep {token} & set +m",
    "closed output": "sleep {token} > /dev/null 2>&1 &",
    "many": "for i in 1 2 3 4 5 6 7 8 9; do (sleep {token} & sleep {token}) & done;",
}


@pytest.mark.parametrize("kind", BACKGROUND)
def test_nothing_is_left(container: Container, token: str, kind: str) -> None:
    """When execute returns, what the process left running is dead, and was not waited for."""

    def after(_root: Path) -> list[int]:
        return processes_of(token)

    done = container.sh(f"{BACKGROUND[kind].format(token=token)} sleep 0.05; exit 4", after=after)
    assert done.code == 4
    assert done.seen == []
    assert done.seconds < 10


def test_output_of_the_left_is_forwarded_until_the_end(container: Container) -> None:
    """A background process that holds the output open does not keep the run from ending."""
    done = container.sh("(while :; do echo more; done) & sleep 0.05; echo last; exit 0", grace=0.5)
    assert done.code == 0
    assert b"more\n" in done.output or b"last\n" in done.output


def test_closing_the_output(container: Container) -> None:
    """A process that closes its output goes on until it exits."""
    assert container.sh("exec >&- 2>&-; sleep 0.1; exit 5").code == 5


def test_many_processes(container: Container) -> None:
    """Three hundred processes at once are reaped, and the exit code is the first one's."""
    done = container.sh(
        "i=0; while [ $i -lt 300 ]; do (sleep 0.2; echo $i) & i=$((i+1)); done; wait; exit 6"
    )
    assert done.code == 6
    assert sorted(map(int, done.output.split())) == list(range(300))


def test_much_output(container: Container) -> None:
    """64 MiB of output arrive whole."""
    done = container.sh("dd if=/dev/zero bs=65536 count=1024 2>/dev/null")
    assert (done.code, done.size) == (0, 64 << 20)


def test_long_lines(container: Container) -> None:
    """A line of a megabyte, and output without a last newline, arrive as they are."""
    done = container.sh("head -c 1000000 /dev/zero; echo; printf end")
    assert done.output == b"\0" * 1000000 + b"\nend"


def test_deadline(container: Container, token: str) -> None:
    """A process that runs past the deadline is asked to end; the exit says why."""
    done = container.sh(f"sleep {token}", timeout=0.2, after=lambda _root: processes_of(token))
    assert done.exit is not None
    assert done.exit.stopped == "deadline"
    assert done.code == 128 + signal.SIGTERM
    assert done.seen == []
    assert done.seconds < 4


def test_deadline_of_the_deaf(container: Container, token: str) -> None:
    """One that does not end when asked is killed after the grace, with all that it started."""
    done = container.sh(
        f"trap '' TERM; sleep {token} & while :; do sleep 0.05; done",
        timeout=0.2,
        grace=0.3,
        after=lambda _root: processes_of(token),
    )
    assert done.exit is not None
    assert done.exit.stopped == "deadline"
    assert done.code == 128 + signal.SIGKILL
    assert done.seen == []
    assert done.seconds < 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_is_passed_on(container: Container, number: int) -> None:
    """A request to stop reaches the process, which may end in its own way."""
    done = container.sh(
        f"trap 'echo asked; exit 7' {number}; echo ready; while :; do sleep 0.02; done",
        stops=(Stop(b"ready\n", number),),
    )
    assert done.exit is not None
    assert (done.code, done.exit.stopped) == (7, "signal")
    assert done.output.startswith(b"ready\n")
    # The request goes to the whole process group: the shell may tell of its children.
    assert done.output.endswith(b"asked\n")


def test_stop_at_the_start(container: Container, token: str) -> None:
    """A request to stop that comes before the process is there is not lost."""
    done = container.sh(f"sleep {token}", stops=(Stop(b""),), timeout=20)
    assert done.exit is not None
    assert (done.code, done.exit.stopped) == (128 + signal.SIGTERM, "signal")
    assert done.seconds < 4


def test_stopping_twice(container: Container, token: str) -> None:
    """A second request kills at once."""
    done = container.sh(
        f"trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done # {token}",
        stops=(Stop(b"ready\n"), Stop(b"asked\n")),
        grace=30.0,
        after=lambda _root: processes_of(token),
    )
    assert done.exit is not None
    assert (done.code, done.exit.stopped) == (128 + signal.SIGKILL, "signal")
    assert done.seen == []
    assert done.seconds < 10


def test_stopped_itself(container: Container, token: str) -> None:
    """A process that stops itself (SIGSTOP) is ended by the deadline like any other."""
    done = container.sh(f"kill -STOP $$ # {token}", timeout=0.3, grace=0.3)
    assert done.exit is not None
    assert (done.code, done.exit.stopped) == (128 + signal.SIGKILL, "deadline")


def test_killing_everything(container: Container) -> None:
    """A process that kills every process that it may is the only one who suffers."""
    if not container.traits.pid_isolation:
        pytest.skip("without pid isolation that would be the host's")
    done = container.sh("kill -9 -1; kill -9 1; kill -STOP 1; exit 8", uid=0, policy="sysad")
    assert done.code in (8, 128 + signal.SIGKILL)
