"""The contract between Repeatr and a container engine.

An engine is handed a ready root directory and a process, and answers how it ended. It
works inside the enclosure (`repeatr.linux.enclosure`): as root over the ids of the id map,
in a mount namespace of its own. Everything else about it is private to its module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from repeatr.linux.enclosure import Enclosure
from repeatr.model.events import Emit


class Available(NamedTuple):
    """The engine works here; it was tried. `detail` is for a person."""

    version: str
    detail: str = ""


class Unavailable(NamedTuple):
    """The engine does not work here: why, and the command or step that mends it."""

    cause: str
    remedy: str


class Traits(NamedTuple):
    """What an engine claims to give, beyond the standard features that all engines give.

    `hostname`: the process sees the hostname that the formula says. `pid_isolation`: it
    sees and can signal its own container's processes only. `network_deny`: it can be kept
    from the network; `network_host`: it can be given the host's. `mount_isolation`: it sees
    no mounts but its own. `ipc_isolation`: System V IPC and message queues are its own.
    """

    hostname: bool
    pid_isolation: bool
    network_deny: bool
    network_host: bool
    mount_isolation: bool
    ipc_isolation: bool


class Job(NamedTuple):
    """A process to run in a root.

    `root` is a directory whose tree is complete, mounts included; the engine adds kernel
    filesystems at its `mount_points`. `program` is what is executed, a path in the root, and
    `argv` what it is told, its own name first. `capabilities` are the names that the policy allows
    (None: all that the engine can give). `network` is "none" or "host". `deadline` is a
    `time.monotonic` time after which the process is stopped. `stop` answers the number of
    a signal that was asked for meanwhile, or 0; `stop_fd` becomes readable when there is one.
    """

    root: Path
    program: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    uid: int
    gid: int
    hostname: str
    capabilities: frozenset[str] | None
    network: Literal["none", "host"]
    enclosure: Enclosure
    emit: Emit
    deadline: float | None = None
    stop: Callable[[], int] = lambda: 0
    stop_fd: int | None = None


class Exit(NamedTuple):
    """How the process ended: its exit code, or 128 and the signal that killed it.

    `stopped` says what Repeatr stopped it for, or is "" where it ended by itself.
    """

    code: int
    stopped: Literal["", "signal", "deadline"] = ""


class ExecFailure(Exception):
    """The process could not be started: execve(2) said `errno`, or its cwd can't be entered."""

    def __init__(self, errno: int, step: str) -> None:
        super().__init__(f"{step}: errno {errno}")
        self.errno = errno
        self.step = step


@runtime_checkable
class Engine(Protocol):
    """A way to make a container."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def traits(self) -> Traits:
        """Its claims."""

    @property
    def mount_points(self) -> tuple[str, ...]:
        """Directories under the root that must exist for it, relative to the root."""

    def probe(self, enclosure: Enclosure) -> Available | Unavailable:
        """Whether it works here, from trying. Must leave nothing behind."""

    def isolation(self, job: Job) -> dict[str, str]:
        """What it isolates the job from, and what it does not: for the run record."""

    def execute(self, job: Job) -> Exit:
        """Run the process to its end; forward its output to `job.emit` and signals to it.

        When this returns or raises, no process of the container is left. Raises ExecFailure
        where the process could not be started and RepeatrError (EXECUTOR) where the
        container could not be made.
        """
