"""Standard features: what the process is, and what it finds around itself."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from repeatr.engines.conformance.harness import Container
from repeatr.linux import capabilities
from repeatr.model.policy import capabilities_of

USERS = [(1000, 1000), (0, 0), (1234, 4321)]


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_code(container: Container, code: int) -> None:
    """The process's exit code is told as it is."""
    assert container.sh(f"exit {code}").code == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_death_by_signal(container: Container, number: int) -> None:
    """Death by the signal N is 128 + N, also of the first process by its own hand."""
    assert container.sh(f"kill -{number} $$; sleep 5; exit 3").code == 128 + number


def test_environment(container: Container) -> None:
    """The environment is the action's and nothing else, whatever Repeatr's own is."""
    env = {"A": "b c", "PATH": "/bin", "EMPTY": "", "NAÏVE": "ü", "MULTI": "x\ty"}
    assert sorted(container.run("/bin/env", env=env).lines) == sorted(
        f"{name}={value}" for name, value in env.items()
    )


def test_no_environment(container: Container) -> None:
    """An empty environment stays empty."""
    assert container.run("/bin/env", env={}).text == ""


def test_arguments(container: Container) -> None:
    """Arguments arrive as given, the program's own name first."""
    done = container.run(
        "sh", "-c", 'printf "%s|" "$0" "$@"', "zero", "a b", "", "*", program="/bin/sh"
    )
    assert done.text == "zero|a b||*|"
    line = container.run("sh", "-c", "cat /proc/$$/cmdline; :", program="/bin/sh").text
    assert line.split("\0")[0] == "sh"


@pytest.mark.parametrize("cwd", ["/", "/task", "/home/reuser"])
def test_working_directory(container: Container, cwd: str) -> None:
    """The process starts in its working directory."""
    assert container.sh("readlink /proc/self/cwd; pwd", cwd=cwd).lines == [cwd, cwd]


@pytest.mark.parametrize(("uid", "gid"), USERS)
def test_user(container: Container, uid: int, gid: int) -> None:
    """All four user and group ids are the action's."""
    lines = container.run("/bin/cat", "/proc/self/status", uid=uid, gid=gid).lines
    assert _field(lines, "Uid") == [str(uid)] * 4
    assert _field(lines, "Gid") == [str(gid)] * 4


def test_no_supplementary_groups(container: Container) -> None:
    """There are no supplementary groups; one id alone (owners: single) cannot drop the caller's."""
    done = container.run("/bin/cat", "/proc/self/status")
    groups = _field(done.lines, "Groups")
    if done.isolation["owners"] == "single":
        # What can't be dropped shows as the action's group or as nobody's.
        assert set(groups) <= {"1000", "65534"}
    else:
        assert groups == []


def test_stdin_is_empty(container: Container) -> None:
    """Standard input is there and at its end."""
    assert container.sh("wc -c; wc -c < /dev/stdin").lines == ["0", "0"]


def test_output_interleaved(container: Container) -> None:
    """Stdout and stderr are one stream, in the order of writing."""
    done = container.sh("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert done.lines == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"]


def test_output_is_bytes(container: Container) -> None:
    """Output that is no text arrives unchanged."""
    done = container.sh(r"printf '\377\000\303'; printf '\274\200'")
    assert done.output == b"\xff\x00\xc3\xbc\x80"


@pytest.mark.parametrize(("uid", "gid"), USERS)
def test_output_can_be_opened_by_name(container: Container, uid: int, gid: int) -> None:
    """The names /dev/stdout and /dev/stderr can be opened by the action's user."""
    done = container.sh("echo a > /dev/stdout; echo b > /dev/stderr", uid=uid, gid=gid)
    assert done.lines == ["a", "b"]


def test_umask(container: Container) -> None:
    """The umask is 022, whatever Repeatr's own is."""
    done = container.sh("umask; touch f; mkdir d; stat -c %a f d")
    assert done.lines == ["0022", "644", "755"]


def test_file_descriptors(container: Container) -> None:
    """Nothing is open but 0, 1 and 2 (and what ls opens itself)."""
    assert container.run("/bin/ls", "/proc/self/fd").lines == ["0", "1", "2", "3"]


def test_signals(container: Container) -> None:
    """No signal is ignored or blocked, though Python ignores some."""
    lines = container.run("/bin/cat", "/proc/self/status").lines
    for name in ("SigBlk", "SigIgn", "SigCgt"):
        # From 32 on they are the C library's own.
        assert int(_field(lines, name)[0], 16) & 0x7FFFFFFF == 0, name


def test_resource_limits(container: Container) -> None:
    """No core file can become part of an output; the soft limits are the kernel's defaults."""
    limits = container.run("/bin/cat", "/proc/self/limits").text
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert found["Max core file size"] == ["0", "0"]
    assert int(found["Max stack size"][0]) <= 8 << 20
    assert int(found["Max open files"][0]) <= 1024


def test_no_new_privileges(container: Container) -> None:
    """A set-id program gives nobody privileges."""
    lines = container.run("/bin/cat", "/proc/self/status").lines
    assert _field(lines, "NoNewPrivs") == ["1"]
    done = container.sh("/bin/su-like", before=_make_set_id)
    assert "Uid:\t1000\t1000\t1000\t1000" in done.text


def _make_set_id(root: Path) -> None:
    # A copy of the program itself; one of many names (busybox) wants the name first.
    many = (root / "bin/busybox").exists()
    copy = root / ("bin/busybox-set-id" if many else "bin/set-id")
    copy.write_bytes((root / "bin/cat").read_bytes())
    copy.chmod(0o6755)
    word = "cat" if many else ""
    (root / "bin/su-like").write_text(f"#!/bin/sh\nexec {copy.name} {word} /proc/self/status\n")
    (root / "bin/su-like").chmod(0o755)


@pytest.mark.parametrize(("uid", "gid"), [(1000, 1000), (0, 0)])
@pytest.mark.parametrize("policy", ["routine", "governor", "sysad"])
def test_capabilities(container: Container, policy: str, uid: int, gid: int) -> None:
    """The policy's capabilities in every set, and no others.

    Where the caller's own are fewer, theirs; `isolation()` may say `capabilities: fewer` for
    an engine that gives fewer. `sysad` is all that the engine can give: no fewer than governor.
    """
    done = container.run("/bin/cat", "/proc/self/status", policy=policy, uid=uid, gid=gid)
    lines = done.lines
    sets = {name: int(_field(lines, f"Cap{name}")[0], 16) for name in _SETS}
    allowed = capabilities_of(policy)
    wanted = _mask(allowed if allowed is not None else capabilities_of("governor"))
    if allowed is not None:
        for name, found in sets.items():
            assert found & ~wanted == 0, f"{name} is more than the policy"
    if done.isolation.get("capabilities") == "fewer":
        return
    if done.isolation["user"] == "host":
        wanted &= capabilities.bounding()
    for name, found in sets.items():
        assert found & wanted == wanted, f"{name} is less than the policy"


_SETS = ("Inh", "Prm", "Eff", "Bnd", "Amb")


def _mask(names: frozenset[str] | None) -> int:
    return sum(1 << capabilities.NUMBERS[name] for name in names or ())


def test_program_missing(container: Container) -> None:
    """A program that is not there is told by execve's errno, and nothing has run."""
    _fails(container, "/bin/nothing", step="exec", number=errno.ENOENT)


def test_program_not_executable(container: Container) -> None:
    """A program that may not be executed is told likewise."""
    _fails(container, "/etc", step="exec", number=errno.EACCES)


def test_program_of_no_known_kind(container: Container) -> None:
    """A file that is no program is told likewise."""

    def before(root: Path) -> None:
        (root / "bin/junk").write_bytes(b"\x01\x02\x03\x04junk")
        (root / "bin/junk").chmod(0o755)

    done = container.run("/bin/junk", before=before)
    assert done.failure is not None
    assert (done.failure.step, done.failure.errno) == ("exec", errno.ENOEXEC)


def test_working_directory_missing(container: Container) -> None:
    """A working directory that can't be entered is told as step `cwd`."""
    done = container.run("/bin/true", cwd="/nowhere")
    assert done.failure is not None
    assert (done.failure.kind, done.failure.step) == ("ExecFailure", "cwd")
    assert done.failure.errno == errno.ENOENT


def test_too_many_arguments(container: Container) -> None:
    """Arguments that the kernel refuses are told as step `exec`."""
    done = container.run("/bin/echo", "x" * (1 << 18))
    assert done.failure is not None
    assert (done.failure.step, done.failure.errno) == ("exec", errno.E2BIG)


def _fails(container: Container, program: str, *, step: str, number: int) -> None:
    done = container.run(program)
    assert done.failure is not None, f"it ran: {done.exit}"
    assert (done.failure.kind, done.failure.step) == ("ExecFailure", step)
    assert done.failure.errno == number
    assert done.output == b""


def _field(lines: list[str], name: str) -> list[str]:
    """The values of a line of /proc/PID/status."""
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))
