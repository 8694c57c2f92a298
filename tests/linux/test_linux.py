"""System calls, capabilities, id maps, interrupts: each where it can go wrong."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import stat
import time
from pathlib import Path

import pytest

import callers
import seccomp
from becoming import becoming
from repeatr.engines.conformance.harness import in_child
from repeatr.errors import Category, RepeatrError
from repeatr.linux import calls, capabilities, children, enclosure, idmaps
from repeatr.linux.idmaps import Extent, IdMap
from repeatr.linux.interrupts import Interrupts

filtered = pytest.mark.skipif(
    platform.machine() not in seccomp.NUMBERS, reason="system call numbers not known here"
)


def test_errors_say_what_was_asked() -> None:
    with pytest.raises(OSError) as caught:
        calls.mount("/nowhere", "/nowhere", "nofs", data="some=option")
    assert caught.value.strerror is not None
    assert caught.value.strerror.startswith("mount nofs on /nowhere (some=option): ")
    with pytest.raises(OSError, match="unmount /nowhere: No such file") as caught:
        calls.unmount("/nowhere")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="prctl 9999: Invalid argument"):
        calls.prctl(9999)


@pytest.mark.parametrize("how", ["close_range", "by listing", "one by one"])
def test_close_from(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> list[bool]:
        if how != "close_range":
            calls._CLOSE_RANGE = 100000
        if how == "one by one":

            def absent(_path: str) -> list[str]:
                raise FileNotFoundError

            os.listdir = absent  # type: ignore[assignment]
        highest = os.sysconf("SC_OPEN_MAX") - 1
        fds = [os.dup(0), os.dup2(0, 200), os.dup2(0, min(highest, 900))]
        kept = os.dup(0)
        os.dup2(kept, 3)
        calls.close_from(4)
        return [_is_open(fd) for fd in (0, 1, 2, 3, *(fd for fd in fds if fd > 3))]

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            answers = work()
            code = 0 if answers == [True] * 4 + [False] * (len(answers) - 4) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@filtered
@pytest.mark.parametrize("old_kernel", [False, True])
def test_restrict_reaches_all_below(tmp_path: Path, old_kernel: bool) -> None:
    def work() -> list[list[str]]:
        enclosure.enter()
        top = tmp_path / "a b"
        top.mkdir()
        calls.mount("tmpfs", top, "tmpfs", calls.MS_NOEXEC)
        (top / "below").mkdir()
        calls.mount("tmpfs", top / "below", "tmpfs")
        if old_kernel:
            calls._MOUNT_SETATTR = 100000
        calls.restrict(top, calls.MS_NODEV | calls.MS_RDONLY)
        assert calls.mounts_at(top) == [os.fsencode(top), os.fsencode(top / "below")]
        options = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if "a\\040b" in line:
                options.append(sorted({"ro", "nodev", "noexec"} & set(line.split()[5].split(","))))
        return options

    assert in_child(work) == [["nodev", "noexec", "ro"], ["nodev", "ro"]]


def test_effective_capabilities_are_those_of_proc() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    shown = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    assert capabilities.effective() == int(shown, 16)
    assert capabilities.has("SYS_ADMIN") == bool(int(shown, 16) >> 21 & 1)


def test_capabilities_stay_away() -> None:
    callers.need_root()

    def work() -> tuple[int, tuple[int, ...], str]:
        capabilities.become(1000, 1000, {"KILL", "CHOWN"})
        with pytest.raises(PermissionError):
            os.setuid(0)
        with pytest.raises(PermissionError):
            calls.prctl(calls.PR_CAPBSET_DROP, 0)
        return capabilities.effective(), os.getresuid(), Path("/proc/self/status").read_text()

    answer = in_child(work)
    assert isinstance(answer, tuple)
    assert answer[:2] == (1 << 0 | 1 << 5, (1000, 1000, 1000))
    for name in ("CapPrm", "CapBnd", "CapAmb", "CapInh"):
        assert f"{name}:\t0000000000000021" in answer[2]


@filtered
def test_session_keyring_is_left() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = seccomp.NUMBERS[platform.machine()]["keyctl"]
    get_id, session = 0, -3

    def current() -> int:
        return int(libc.syscall(number, get_id, session, 0))

    if current() < 0:
        pytest.skip("this kernel has no keys, or denies them")

    def work() -> tuple[int, int]:
        calls.leave_session_keyring()
        first = current()
        calls.leave_session_keyring()
        return first, current()

    answer = in_child(work)
    assert isinstance(answer, tuple)
    assert len({current(), *answer}) == 3


@filtered
def test_no_keyrings() -> None:
    def work() -> str:
        seccomp.deny("keyctl")
        calls.leave_session_keyring()
        return "no error"

    assert in_child(work) == "no error"


def test_child_ends_with_errno() -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    def crash() -> None:
        raise ValueError("must not be seen outside the child")

    assert children.end_of(children.start(lambda: None)) == 0
    assert children.end_of(children.start(fail)) == errno.ENOSPC
    assert children.end_of(children.start(crash)) == 255
    assert children.end_of(children.start(lambda: os.kill(os.getpid(), 15))) == -15


def test_child_runs_no_handlers_of_its_parent() -> None:
    def work() -> list[object]:
        # Of one thread: in others signals are not held.
        heard: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
        pid = children.start(lambda: time.sleep(20))
        os.kill(pid, signal.SIGTERM)
        ended = children.end_of(pid)
        with children.signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            meanwhile = list(heard)
        return [ended, meanwhile, heard]

    assert in_child(work) == [-signal.SIGTERM, [], [signal.SIGTERM]]


def test_id_maps() -> None:
    ranged = IdMap(
        "range",
        (Extent(0, 1000, 1), Extent(1, 100000, 65536)),
        (Extent(0, 1000, 1), Extent(1, 200000, 10)),
    )
    assert ranged.holds(65536, 10)
    assert not ranged.holds(65537, 0)
    assert not ranged.holds(0, 11)
    assert ranged.key == "range-1000.1-100000.65536-1000.1-200000.10"
    assert idmaps.everything().key == "root"
    assert idmaps.single() == IdMap(
        "single", (Extent(0, os.geteuid(), 1),), (Extent(0, os.getegid(), 1),)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice:1:1\nbob:100000:65536\n", (100000, 65536)),
        ("bob:100:5\nbob:300:50\nbob:500:7\n", (300, 50)),
        ("1234:700:9\n", (700, 9)),
        ("# bob:1:1\nbob\nbob:1:2:3\n\n", None),
        ("bob:many:9\n", None),
        ("", None),
    ],
)
def test_subordinate_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[int, int] | None
) -> None:
    class Entry:
        pw_name = "bob"

    monkeypatch.setattr("pwd.getpwuid", lambda _uid: Entry)
    (tmp_path / "subuid").write_text(text)
    assert idmaps._subordinate(str(tmp_path / "subuid"), 1234) == expected
    assert idmaps._subordinate(str(tmp_path / "absent"), 1234) is None


def test_subordinate_ids_of_a_user_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("3999999999:5:6\n")
    assert idmaps._subordinate(str(tmp_path / "subuid"), 3999999999) == (5, 6)


@pytest.mark.parametrize("kind", ["root", "range", "single"])
def test_enclosure(kind: str) -> None:
    def work() -> dict[str, object]:
        outside = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")
        here = enclosure.enter()
        inside = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")
        calls.mount("tmpfs", "/tmp", "tmpfs")
        Path("/tmp/file").write_text("x")
        if here.idmap.kind != "single":
            os.chown("/tmp/file", 1000, 1000)
        return {
            "kind": here.idmap.kind,
            "own user": here.own_user_namespace == (outside[0] != inside[0]),
            "own mounts": outside[1] != inside[1],
            "uid": os.geteuid(),
            "children": os.listdir("/proc/self/task"),
            "owner": stat.S_IMODE(os.stat("/tmp/file").st_mode),
        }

    answer = in_child(work, becoming(kind))
    assert isinstance(answer, dict)
    assert len(answer.pop("children")) == 1
    assert answer == {"kind": kind, "own user": True, "own mounts": True, "uid": 0, "owner": 0o644}
    assert not Path("/tmp/file").exists()


def test_first_interrupt_raises_and_later_ones_do_not() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(RepeatrError) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.category is Category.CANCELLED
        assert caught.value.message == "stopped by SIGTERM"
        assert caught.value.details == {"signal": "15"}
        os.kill(os.getpid(), signal.SIGINT)  # while it cleans up
        # Also the first can be taken still: what it raised may have been lost on its way.
        assert [interrupts.take(), interrupts.take()] == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_an_interrupt_broke_is_told_as_the_interrupt() -> None:
    with pytest.raises(RepeatrError, match="stopped by SIGTERM"), Interrupts():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise RuntimeError("in the middle of something")


def test_interrupts_held() -> None:
    with pytest.raises(RepeatrError, match="stopped by SIGINT"), Interrupts() as interrupts:
        interrupts.hold()
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.resume()


def test_interrupts_passed_on() -> None:
    with Interrupts() as interrupts, interrupts.passed_on():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert [interrupts.take(), interrupts.take(), interrupts.take()] == [1, 15, 0]
