"""Who calls Repeatr in a test, and what the host must have for it.

Repeatr behaves differently for root, for a user with a range of subordinate ids and for one
without. Tests run as all three where the test process is root; `scripts/test-users` makes
the two users. What is missing is a skip on a developer's machine, and a failure in CI.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = CHECKOUT / "src"

#: The users that tests run as, beside root.
USERS = {"range": "repeatr-range", "single": "repeatr-single"}

#: Programs that some test runs. CI has them all; see `.ci/run` for the packages.
PROGRAMS = (
    *("tar", "gzip", "bzip2", "xz", "zstd", "git", "busybox", "setfacl", "setfattr"),
    *("newuidmap", "newgidmap", "setpriv", "unshare", "mount", "chroot"),
)

# Of the environment a test's programs get these alone, so that a developer's settings
# do not decide how a test ends.
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "SYSTEMROOT", "COVERAGE_PROCESS_START")
#: Where programs are looked for, whatever the developer's own PATH says.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Done(NamedTuple):
    """How a program ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


class Repeatr(Protocol):
    """`repeatr`, as a function of its command line."""

    def __call__(
        self,
        *arguments: str | Path,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done: ...


class Caller(NamedTuple):
    """A user who runs programs. `directory` is theirs, reachable for all and empty at first."""

    kind: str
    name: str
    uid: int
    gid: int
    directory: Path

    @property
    def home(self) -> Path:
        """Their REPEATR_HOME; it does not exist before it is first used."""
        return self.directory / "home"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of their programs: nothing of the developer's own settings."""
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            **passed_on,
            "PATH": PATH,
            "HOME": str(self.directory),
            "USER": self.name,
            "TMPDIR": "/tmp",
            "REPEATR_HOME": str(self.home),
            "PYTHONPATH": str(SOURCES),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(more or {}),
        }

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command line that runs `arguments` as this user."""
        words = [str(each) for each in arguments]
        if self.uid == os.geteuid():
            return words
        become = [f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups"]
        return ["setpriv", *become, "--", *words]

    def call(
        self,
        *arguments: str | Path,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done:
        """Run a program as this user, in their directory unless `cwd` says otherwise."""
        done = subprocess.run(
            self.command(arguments),
            input=stdin.encode(),
            capture_output=True,
            cwd=cwd or self.directory,
            env=self.environment(env),
            timeout=timeout,
            check=False,
        )
        out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def repeatr(
        self,
        *arguments: str | Path,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done:
        """Run `repeatr` as this user: the real program, in a process of its own."""
        words = (sys.executable, "-m", "repeatr", *arguments)
        return self.call(*words, stdin=stdin, cwd=cwd, env=env, timeout=timeout)


def in_ci() -> bool:
    """Whether what is missing must fail a test instead of skipping it."""
    return os.environ.get("CI", "") not in ("", "0", "false")


def missing(what: str, remedy: str) -> NoReturn:
    """Skip this test, or fail it in CI, for what the host lacks."""
    if in_ci():
        pytest.fail(f"{what} ({remedy}), and in CI nothing may be missing")
    pytest.skip(f"{what} ({remedy})")


def need_program(name: str) -> str:
    """The path of a program; skips, or fails in CI, where the host has none."""
    path = shutil.which(name, path=f"{PATH}:{os.environ.get('PATH', '')}")
    if path is None:
        missing(f"there is no {name} here", "see .ci/run for the packages")
    return path


def need_root() -> None:
    """Skip, or fail in CI, where the test process is not root."""
    if os.geteuid() != 0:
        missing("this test needs root", "run the tests as root as well")


def caller(kind: str, directory: Path) -> Caller:
    """The caller "root", "range" or "single", who will own `directory` (which must exist).

    Where the test process is not root it can be nobody but itself: skips, or fails in CI,
    for any other.
    """
    if kind not in ("root", *USERS):
        raise ValueError(f"no such caller: {kind}")
    me = os.geteuid()
    if kind == "root":
        need_root()
        return Caller(kind, "root", 0, os.getegid(), directory)
    if me != 0:
        if kind != own_kind():
            missing(f"only root can test as {kind}", "run the tests as root as well")
        return Caller(kind, pwd.getpwuid(me).pw_name, me, os.getegid(), directory)
    try:
        user = pwd.getpwnam(USERS[kind])
    except KeyError:
        missing(f"there is no user {USERS[kind]}", "as root: scripts/test-users")
    found = Caller(kind, user.pw_name, user.pw_uid, user.pw_gid, directory)
    os.chown(directory, user.pw_uid, user.pw_gid)
    try:
        readable = found.call(sys.executable, "-c", "import repeatr.errors").code == 0
    except FileNotFoundError:
        missing("there is no setpriv here", "apt-get install util-linux")
    if not readable:
        missing(
            f"{user.pw_name} cannot run {sys.executable} with {SOURCES}",
            "put both where every user may read: .ci/run does",
        )
    return found


def own_kind() -> str:
    """Which of the callers the test process itself is."""
    if os.geteuid() == 0:
        return "root"
    from repeatr.linux import idmaps

    # A range is of use only to those who may have it mapped.
    mapped = all(shutil.which(name, path=PATH) for name in ("newuidmap", "newgidmap"))
    return "range" if mapped and idmaps.from_subordinate_ids() is not None else "single"


def directory_for_all() -> Path:
    """A new directory that every user can go through; `remove` it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="repeatr-test-"))
    directory.chmod(0o755)
    return directory


def remove(directory: Path) -> None:
    """Remove what a test left, also what a user namespace gave to other ids.

    Never across a mount: where a test has leaked one, the host's files stay.
    """
    command = ["rm", "-rf", "--one-file-system", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return
    inside = (
        "import os, sys\n"
        "from repeatr.linux import enclosure\n"
        "enclosure.enter()\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    subprocess.run([sys.executable, "-c", inside, *command], env=environment, check=False)
