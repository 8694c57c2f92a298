"""The engine chroot where nothing can be mounted, and where its supervisor is killed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import callers
from repeatr.engines.conformance.harness import Container
from repeatr.engines.conformance.test_ending import processes_of, token
from repeatr.linux import calls, capabilities, enclosure
from repeatr.linux.enclosure import Enclosure

__all__ = ["token"]


@pytest.fixture
def chroot() -> Iterator[Container]:
    callers.need_root()
    with Container("chroot") as made:
        yield made


def without_mounts() -> Enclosure:
    return enclosure.on_host(can_mount=False, note="forbidden")


def without_mounts_and_nodes() -> Enclosure:
    # As in a container that has been given few capabilities.
    few = {"CHOWN", "SETUID", "SETGID", "SETPCAP", "SYS_CHROOT", "KILL", "DAC_OVERRIDE", "FOWNER"}
    capabilities.become(0, 0, few)
    return without_mounts()


def in_the_hosts_mounts() -> Enclosure:
    # Mounts are allowed, but no namespace for them: as if a filter denied unshare.
    def denied(flags: int) -> None:
        raise PermissionError(1, f"unshare {flags}")

    calls.unshare(calls.CLONE_NEWNS)
    calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    calls.unshare = denied
    return enclosure.on_host(can_mount=True)


def test_devices_are_made_and_removed(chroot: Container) -> None:
    def before(root: Path) -> None:
        (root / "dev/full").write_text("mine")
        os.utime(root / "dev", (1, 1))

    def after(root: Path) -> tuple[list[str], float]:
        return os.listdir(root / "dev"), (root / "dev").stat().st_mtime

    done = chroot.sh(
        "echo x > /dev/null; head -c2 /dev/zero | wc -c; cat /dev/full; wc -c; exit 3",
        enter=without_mounts,
        before=before,
        after=after,
    )
    assert done.output == b"2\nmine0\n"
    assert done.code == 3
    assert done.seen == (["full"], 1)


def test_no_devices_at_all(chroot: Container) -> None:
    done = chroot.sh("wc -c; echo out", enter=without_mounts_and_nodes)
    assert done.lines == ["0", "out"]


def test_the_hosts_devices_stay(chroot: Container) -> None:
    # A process that puts a link in the place of /dev must not have us tidy up the host's.
    victim = chroot.base / "victim"

    def before(root: Path) -> None:
        victim.mkdir()
        (victim / "null").write_text("host")

    done = chroot.sh(
        f"mv /dev /away && ln -s {victim} /dev; exit 0",
        uid=0,
        policy="governor",
        enter=without_mounts,
        before=before,
        after=lambda root: (os.listdir(victim), os.listdir(root / "away")),
    )
    assert done.code == 0
    assert done.seen == (["null"], [])


def test_a_device_that_the_process_replaced_is_its_own(chroot: Container) -> None:
    done = chroot.sh(
        "rm /dev/null; echo mine > /dev/null",
        uid=0,
        policy="governor",
        enter=without_mounts,
        after=lambda root: (root / "dev/null").read_text(),
    )
    assert done.seen == "mine\n"


def test_nothing_stays_mounted_on_the_host(chroot: Container) -> None:
    done = chroot.sh(
        "[ -c /dev/null ] && [ -d /proc/self ] && kill -9 $PPID; exit 0",
        uid=0,
        policy="sysad",
        enter=in_the_hosts_mounts,
        after=lambda root: [os.fsdecode(point) for point in calls.mounts_at(root)][1:],
    )
    assert done.failure is not None  # the supervisor was killed
    assert done.seen == []


def test_device_nodes_of_an_input_are_dead(chroot: Container) -> None:
    def before(root: Path) -> None:
        os.mknod(root / "task/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        (root / "task/zero").chmod(0o666)

    assert chroot.sh("head -c1 zero | wc -c", before=before).lines[-1] == "0"


@pytest.mark.parametrize("enter", [enclosure.enter, without_mounts])
def test_supervisor_killed(chroot: Container, token: str, enter: object) -> None:
    # Root in a chroot can kill whom it likes; what it left behind is found all the same.
    done = chroot.sh(
        f"(sleep {token} & sleep {token}) & (trap '' TERM; while :; do echo {token}; done) &"
        "sleep 0.05; kill -9 $PPID; sleep 5",
        uid=0,
        enter=enter,
        after=lambda _root: processes_of(token),
    )
    assert done.failure is not None
    assert done.failure.kind == "EXECUTOR"
    assert "without saying how its process did (signal 9)" in done.failure.message
    assert done.seen == []
    assert done.seconds < 5
