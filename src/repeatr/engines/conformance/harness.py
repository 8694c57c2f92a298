"""Running a process in an engine under test, in a root made for it.

Entering the enclosure is irrevocable, so each run happens in a forked child, which sends
what it saw back through a pipe. The root is made as a run makes it: an overlay where the
host allows one, a plain directory where not. It needs no store and no warehouse.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from repeatr.engines import supervise
from repeatr.engines.choosing import engine_named
from repeatr.engines.conformance.rootfs import Rootfs, static_busybox
from repeatr.engines.contract import Engine, ExecFailure, Exit, Job, Traits, Unavailable
from repeatr.errors import RepeatrError
from repeatr.linux import enclosure
from repeatr.model.events import Event, Output
from repeatr.model.policy import capabilities_of

#: How long one run may take before the suite gives it up, in seconds.
LIMIT = 30.0

#: Of a process's output, this much is kept; the rest is counted.
KEPT = 1 << 20

ENV = {"PATH": "/bin:/usr/bin", "HOME": "/home/reuser", "USER": "reuser"}


def with_pattern() -> dict[str, str]:
    """An environment with a host setting's value in PATTERN.

    Tests of what must not be writable try to write what is there, so that a hole does no harm.
    """
    return {**ENV, "PATTERN": Path("/proc/sys/kernel/core_pattern").read_text().strip()}


class Failure(NamedTuple):
    """How a process could not be started: `ExecFailure`, or a RepeatrError's category."""

    kind: str
    errno: int = 0
    step: str = ""
    message: str = ""


class Outcome(NamedTuple):
    """What a run gave: how the process ended or why it could not start, what it wrote.

    `isolation` is what the engine says of the job, `seen` what the test's own function
    `after` answered, `seconds` how long `execute` took.
    """

    exit: Exit | None
    failure: Failure | None
    output: bytes
    size: int
    isolation: Mapping[str, str]
    seen: Any
    seconds: float

    @property
    def code(self) -> int:
        """The exit code; fails the test where the process did not start."""
        assert self.exit is not None, f"it did not run: {self.failure}"
        return self.exit.code

    @property
    def text(self) -> str:
        """What the process wrote, of a process that ended with 0."""
        assert self.code == 0, f"exit code {self.code}: {self.output!r}"
        return self.output.decode(errors="surrogateescape")

    @property
    def lines(self) -> list[str]:
        """The lines of `text`."""
        return self.text.splitlines()


class Stop(NamedTuple):
    """Ask for a stop with the signal `number` once the process has written `marker`.

    An empty marker asks before the process is started.
    """

    marker: bytes
    number: int = signal.SIGTERM


class Container:
    """Containers of one engine. `become` turns a forked child into the caller under test."""

    def __init__(self, engine: str, become: Callable[[], None] | None = None) -> None:
        self.engine_name = engine
        self.engine: Engine = engine_named(engine)
        self._become = become
        self._base = Path()

    def __enter__(self) -> Container:
        self._base = Path(tempfile.mkdtemp(prefix="repeatr-conformance-"))
        # Whoever the child becomes works here, and nothing that matters lies here.
        self._base.chmod(0o777)
        static_busybox()  # looked for once here, not in every child
        return self

    def __exit__(self, *_error: object) -> None:
        shutil.rmtree(self._base, ignore_errors=True)

    @property
    def traits(self) -> Traits:
        """What the engine claims."""
        return self.engine.traits

    @property
    def base(self) -> Path:
        """The host's directory below which everything of a run lies; its name is unique."""
        return self._base

    def sh(self, script: str, **more: Any) -> Outcome:
        """Run a shell script; `more` is as for `run`."""
        return self.run("/bin/sh", "-c", script, **more)

    def run(
        self,
        *argv: str,
        policy: str = "routine",
        before: Callable[[Path], object] | None = None,
        after: Callable[[Path], object] | None = None,
        stops: tuple[Stop, ...] = (),
        timeout: float | None = None,
        grace: float = supervise.GRACE,
        enter: Callable[[], enclosure.Enclosure] = enclosure.enter,
        **fields: Any,
    ) -> Outcome:
        """Run `argv` to its end in a new root.

        `before` and `after` are called with the root's path on the host, inside the
        enclosure, which `enter` enters; what `after` returns is `Outcome.seen`. `fields`
        replace those of the Job.
        """

        def work() -> Outcome:
            supervise.GRACE = grace
            here = enter()
            uid, gid = fields.get("uid", 1000), fields.get("gid", 1000)
            with Rootfs(self._base, here, uid, gid, self.engine.mount_points) as root:
                if before is not None:
                    before(root)
                listener = _Listener(stops)
                network = "none" if self.traits.network_deny else "host"
                job = Job(
                    root=root,
                    program=fields.pop("program", argv[0]),
                    argv=argv,
                    env=fields.pop("env", ENV),
                    cwd=fields.pop("cwd", "/task"),
                    uid=fields.pop("uid", 1000),
                    gid=fields.pop("gid", 1000),
                    hostname=fields.pop("hostname", "repeatr"),
                    capabilities=capabilities_of(policy),
                    network=fields.pop("network", network),
                    enclosure=here,
                    emit=listener.hear,
                    deadline=None if timeout is None else time.monotonic() + timeout,
                    stop=listener.stop,
                    stop_fd=listener.stop_fd,
                )
                assert not fields, f"no fields of a job: {fields}"
                return _execute(self.engine, job, listener, after)

        answer = in_child(work, self._become)
        assert isinstance(answer, Outcome)
        return answer


class _Listener:
    """Hears a job's events, and asks for stops when their markers are heard."""

    def __init__(self, stops: tuple[Stop, ...]) -> None:
        self.heard = b""
        self.size = 0
        self.stop_fd, self._write = os.pipe()
        os.set_blocking(self.stop_fd, False)
        self._waiting = list(stops)
        self._asked: list[int] = []
        self._ask()

    def hear(self, event: Event) -> None:
        if not isinstance(event, Output):
            return
        self.size += len(event.msg)
        self.heard += event.msg[: KEPT - len(self.heard)]
        self._ask()

    def _ask(self) -> None:
        while self._waiting and self._waiting[0].marker in self.heard:
            self._asked.append(self._waiting.pop(0).number)
            os.write(self._write, b"\0")

    def stop(self) -> int:
        with contextlib.suppress(BlockingIOError):
            os.read(self.stop_fd, 64)
        return self._asked.pop(0) if self._asked else 0


def _execute(
    engine: Engine, job: Job, listener: _Listener, after: Callable[[Path], object] | None
) -> Outcome:
    ended = failure = None
    began = time.monotonic()
    try:
        ended = engine.execute(job)
    except ExecFailure as problem:
        failure = Failure("ExecFailure", problem.errno, problem.step)
    except RepeatrError as problem:
        failure = Failure(problem.category.name, message=problem.message)
    seconds = time.monotonic() - began
    seen = after(job.root) if after is not None else None
    isolation = dict(engine.isolation(job))
    return Outcome(ended, failure, listener.heard, listener.size, isolation, seen, seconds)


def why_unavailable(engine: str, become: Callable[[], None] | None = None) -> Unavailable | None:
    """Why the engine can't run for this caller; None where it can."""

    def work() -> Unavailable | None:
        try:
            answer = engine_named(engine).probe(enclosure.enter())
        except RepeatrError as problem:
            return Unavailable(problem.message, problem.remedy)
        return answer if isinstance(answer, Unavailable) else None

    answer = in_child(work, become)
    assert answer is None or isinstance(answer, Unavailable)
    return answer


def in_child(work: Callable[[], object], become: Callable[[], None] | None = None) -> object:
    """What `work` returns, in a forked child that first calls `become`.

    Raises AssertionError with the child's traceback where it failed or took too long.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        # The test process may have threads; the child uses nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(work, become, write)
    os.close(write)
    told = b""
    until = time.monotonic() + LIMIT
    try:
        while True:
            if not select.select([read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"nothing for {LIMIT:g} s: it hangs")
            chunk = os.read(read, 1 << 16)
            if not chunk:
                break
            told += chunk
    finally:
        os.close(read)
        if not told:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    good, answer = pickle.loads(told) if told else (False, "the child died silently")
    if not good:
        raise AssertionError(f"in the enclosure: {answer}")
    return answer


def _child(work: Callable[[], object], become: Callable[[], None] | None, write: int) -> NoReturn:
    code = 1
    try:
        if become is not None:
            become()
        try:
            told = pickle.dumps((True, work()))
            code = 0
        except BaseException:
            told = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(told)
    finally:
        os._exit(code)
