"""Why an engine can't be used: each cause is told apart, with its own remedy.

The causes are made, not pretended: in namespaces of the test's own, as the caller in question.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import callers
import seccomp
from becoming import becoming
from repeatr.engines.chroot import Chroot
from repeatr.engines.conformance.harness import in_child
from repeatr.engines.contract import Available, Engine, Unavailable
from repeatr.engines.namespaces import Namespaces
from repeatr.errors import RepeatrError
from repeatr.linux import calls, capabilities, enclosure, idmaps
from repeatr.linux.enclosure import Enclosure, write_maps
from repeatr.linux.idmaps import Extent

filtered = pytest.mark.skipif(
    platform.machine() not in seccomp.NUMBERS, reason="system call numbers not known here"
)


class Found(NamedTuple):
    """What entering the enclosure and then probing gave."""

    enclosure: Enclosure | None
    answer: Available | Unavailable | None
    refused: tuple[int, str, str] = (0, "", "")

    @property
    def why(self) -> tuple[str, str]:
        assert isinstance(self.answer, Unavailable), self
        return self.answer.cause, self.answer.remedy


def found(
    kind: str, before: Callable[[], object] = lambda: None, engine: type[Engine] = Namespaces
) -> Found:
    """As the caller `kind`: make the cause (`before`), enter the enclosure, probe the engine."""

    def work() -> Found:
        before()
        try:
            here = enclosure.enter()
        except RepeatrError as problem:
            return Found(None, None, (problem.exit_code, problem.message, problem.remedy))
        return Found(here, engine().probe(here))

    answer = in_child(work, becoming(kind))
    assert isinstance(answer, Found)
    return answer


def after_entering(
    kind: str, between: Callable[[], object], engine: type[Engine] = Namespaces
) -> Found:
    """The same with the cause made inside the enclosure."""

    def work() -> Found:
        here = enclosure.enter()
        between()
        return Found(here, engine().probe(here))

    answer = in_child(work, becoming(kind))
    assert isinstance(answer, Found)
    return answer


def own_mounts() -> None:
    calls.unshare(calls.CLONE_NEWNS)
    calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)


def then_become(kind: str, first: Callable[[], object]) -> Callable[[], None]:
    """As root do `first` in mounts of one's own, then become the caller `kind`."""
    become = becoming(kind)

    def both() -> None:
        own_mounts()
        first()
        if become is not None:
            become()

    return both


def found_after_root_did(kind: str, first: Callable[[], object]) -> Found:
    callers.need_root()
    return found("root", then_become(kind, first))


def setting(name: str, value: str) -> Callable[[], None]:
    """Show the kernel setting `name` of /proc/sys with this value."""

    def show() -> None:
        path = Path("/proc/sys") / name
        calls.mount("tmpfs", path.parent, "tmpfs", 0, "mode=755")
        path.write_text(value + "\n")

    return show


@pytest.mark.parametrize("kind", ["root", "range", "single"])
def test_available(kind: str) -> None:
    answer = found(kind)
    assert answer.enclosure is not None
    assert answer.enclosure.idmap.kind == kind
    owners = "single" if kind == "single" else "all"
    assert answer.answer == Available(os.uname().release, f"owners: {owners}")


def test_probe_leaves_nothing() -> None:
    def work() -> tuple[list[str], list[str]]:
        here = enclosure.enter()
        fds = os.listdir("/proc/self/fd")
        mounts = Path("/proc/self/mountinfo").read_text()
        for engine in (Namespaces(), Chroot()):
            engine.probe(here)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        assert Path("/proc/self/mountinfo").read_text() == mounts
        return fds, os.listdir("/proc/self/fd")

    answer = in_child(work)
    assert isinstance(answer, tuple)
    assert len(answer[0]) == len(answer[1])


def test_no_subordinate_ids() -> None:
    if os.geteuid() != 0 and idmaps.from_subordinate_ids() is not None:
        callers.missing("this user has subordinate ids", "run the tests as root as well")
    answer = found("single")
    assert answer.enclosure is not None
    assert answer.enclosure.note == (
        "no range of subordinate ids in /etc/subuid and /etc/subgid"
        " (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER gives one)"
    )


def test_no_newuidmap() -> None:
    def hide() -> None:
        for directory in ("/usr/bin", "/usr/local/bin", "/bin", "/sbin", "/usr/sbin"):
            path = f"{directory}/newuidmap"
            if os.path.exists(path) and not os.path.islink(path):
                calls.mount("/dev/null", path, flags=calls.MS_BIND)

    answer = found_after_root_did("range", hide)
    assert answer.enclosure is not None
    assert answer.enclosure.idmap.kind == "single"
    assert answer.enclosure.note == "no newuidmap here (apt-get install uidmap brings it)"
    assert isinstance(answer.answer, Available)


def test_newuidmap_that_refuses() -> None:
    # Its set-id bit is lost, as in an image that was copied carelessly.
    def cripple() -> None:
        path = os.path.realpath("/usr/bin/newuidmap")
        calls.mount(path, path, flags=calls.MS_BIND)
        calls.restrict(path, calls.MS_NOSUID)

    answer = found_after_root_did("range", cripple)
    assert answer.enclosure is not None
    assert answer.enclosure.idmap.kind == "single"
    assert answer.enclosure.note.startswith("newuidmap refused the range of subordinate ids: ")


@pytest.mark.parametrize(
    ("name", "value", "cause", "remedy"),
    [
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone is 0",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0,"
            " or an AppArmor profile that allows userns for this Python",
        ),
    ],
)
@filtered
def test_settings(name: str, value: str, cause: str, remedy: str) -> None:
    # Such kernels refuse, and show why; here a filter refuses and a file shows it.
    def refuse() -> None:
        setting(name, value)()
        seccomp.deny("unshare")

    code, message, said = found_after_root_did("single", refuse).refused
    assert code == 42
    assert message.startswith("this host lets an ordinary user (uid ")
    assert message.endswith(f") make no container: {cause}")
    assert said == remedy


def in_a_namespace_without_namespaces(uid: int) -> Callable[[], None]:
    """Make a user namespace in which no more can be made, being `uid` in it."""

    def enter() -> None:
        outer, group = os.geteuid(), os.getegid()
        read, write = os.pipe()
        me = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            write_maps(me, (Extent(uid, outer, 1),), (Extent(uid, group, 1),), groups=False)
            os._exit(0)
        calls.unshare(calls.CLONE_NEWUSER)
        os.write(write, b"x")
        assert os.waitpid(child, 0)[1] == 0
        Path("/proc/sys/user/max_user_namespaces").write_text("0\n")

    return enter


@pytest.mark.parametrize("kind", ["range", "single"])
def test_no_more_user_namespaces_for_a_user(kind: str) -> None:
    code, message, remedy = found(kind, in_a_namespace_without_namespaces(1000)).refused
    assert code == 42
    assert message == (
        "this host lets an ordinary user (uid 1000) make no container:"
        " user.max_user_namespaces is 0"
    )
    assert remedy == "as root: sysctl -w user.max_user_namespaces=65536"


def test_no_more_user_namespaces_for_root() -> None:
    answer = found(callers.own_kind(), in_a_namespace_without_namespaces(0))
    assert answer.why == (
        "user.max_user_namespaces is 0",
        "as root: sysctl -w user.max_user_namespaces=65536",
    )


@filtered
@pytest.mark.parametrize("kind", ["range", "single"])
def test_filter_denies_unshare_to_a_user(kind: str) -> None:
    code, message, remedy = found(kind, lambda: seccomp.deny("unshare")).refused
    assert code == 42
    assert "make no container: a seccomp filter refuses it (unshare" in message
    assert remedy == "start the surrounding container with --security-opt seccomp=unconfined"


@filtered
def test_filter_denies_unshare_to_root() -> None:
    # Then there is chroot, with mounts among the host's.
    callers.need_root()
    answer = found("root", lambda: seccomp.deny("unshare"), Chroot)
    assert answer.enclosure is not None
    assert not answer.enclosure.own_mount_namespace
    assert answer.enclosure.note.startswith("no mount namespace of its own: unshare")
    assert isinstance(answer.answer, Available)


@filtered
def test_filter_denies_clone() -> None:
    answer = after_entering(
        callers.own_kind(), lambda: seccomp.deny("clone", calls.CLONE_NEWUSER | calls.CLONE_NEWPID)
    )
    cause, remedy = answer.why
    assert cause.startswith("a seccomp filter refuses it (clone 0x")
    assert "seccomp=unconfined" in remedy


@filtered
@pytest.mark.parametrize("kind", ["range", "single"])
def test_filter_denies_mount(kind: str) -> None:
    # As AppArmor does on Ubuntu: the namespaces can be made, and then nothing mounted.
    code, message, _remedy = found(kind, lambda: seccomp.deny("mount")).refused
    assert code == 42
    assert message.startswith("this host lets an ordinary user (uid ")
    assert "a seccomp filter refuses it (mount" in message
    cause, _remedy = after_entering(kind, lambda: seccomp.deny("mount")).why
    assert cause.startswith("a seccomp filter refuses it (")


@filtered
def test_filter_denies_mount_to_root() -> None:
    callers.need_root()
    answer = found("root", lambda: seccomp.deny("mount"), Chroot)
    assert isinstance(answer.answer, Available)


@pytest.mark.parametrize("kind", ["range", "single"])
def test_masked_proc(kind: str) -> None:
    def mask() -> None:
        calls.mount("tmpfs", "/proc/scsi" if os.path.isdir("/proc/scsi") else "/proc/fs", "tmpfs")

    cause, remedy = found_after_root_did(kind, mask).why
    assert cause == (
        "a fresh /proc can't be mounted (Operation not permitted): this is a container"
        " whose /proc is masked"
    )
    assert "podman: --security-opt unmask=ALL" in remedy


def test_chroot_for_users() -> None:
    for kind in ("range", "single"):
        assert found(kind, engine=Chroot).why == (
            "only root may change the root directory",
            "run as root (sudo)",
        )


def test_chroot_without_the_capability() -> None:
    callers.need_root()
    few = frozenset(capabilities.NUMBERS) - {"SYS_CHROOT", "SYS_ADMIN"}

    def work() -> Found:
        capabilities.become(0, 0, few)
        here = enclosure.on_host(can_mount=False)
        return Found(here, Chroot().probe(here))

    answer = in_child(work)
    assert isinstance(answer, Found)
    assert answer.why == (
        "the capability SYS_CHROOT is missing",
        "give it to the surrounding container (--cap-add SYS_CHROOT)",
    )


@filtered
def test_root_in_a_usual_container() -> None:
    # Few capabilities, and a filter that denies namespaces: chroot, with copies.
    callers.need_root()

    def confine() -> None:
        capabilities.become(0, 0, frozenset(capabilities.NUMBERS) - {"SYS_ADMIN"})
        seccomp.deny("unshare")

    answer = found("root", confine, Chroot)
    assert answer.enclosure is not None
    assert not answer.enclosure.can_mount
    assert not answer.enclosure.own_user_namespace
    assert "a seccomp filter refuses it" in answer.enclosure.note
    assert isinstance(answer.answer, Available)


@filtered
def test_errno_in_the_cause() -> None:
    callers.need_root()

    def strange() -> None:
        seccomp.deny("unshare", code=errno.EUSERS)

    _code, message, _remedy = found("single", strange).refused
    assert message.endswith(f": the kernel says: unshare: {os.strerror(errno.EUSERS)}")
