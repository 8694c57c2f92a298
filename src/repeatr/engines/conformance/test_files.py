"""Standard features: the files that the process finds, and those that it leaves."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from repeatr.engines.conformance.harness import Container, with_pattern

DEVICES = ("null", "zero", "full", "random", "urandom")


def test_writes_land_in_the_root(container: Container) -> None:
    """What the process writes is in the root when it has ended: content, owner, mode."""

    def after(root: Path) -> list[tuple[int, int, int, str]]:
        found = []
        for name in ("f", "d", "d/x"):
            status = (root / "task" / name).lstat()
            content = (root / "task" / name).read_text() if name != "d" else ""
            found.append((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), content))
        return found

    done = container.sh("echo hi > f; chmod 640 f; mkdir d; echo x > d/x", after=after)
    assert done.code == 0
    owner = (0, 0) if done.isolation["owners"] == "single" else (1000, 1000)
    assert done.seen == [
        (*owner, 0o640, "hi\n"),
        (*owner, 0o755, ""),
        (*owner, 0o644, "x\n"),
    ]


def test_changes_land_in_the_root(container: Container) -> None:
    """Removing, renaming and linking do too, all that POSIX allows."""

    def after(root: Path) -> dict[str, object]:
        task = root / "task"
        return {
            "names": sorted(os.listdir(task)),
            "link": os.readlink(task / "link"),
            "same": (task / "moved").stat().st_ino == (task / "hard").stat().st_ino,
            "fifo": stat.S_ISFIFO((task / "fifo").lstat().st_mode),
            "etc": (root / "etc/secret").exists(),
        }

    done = container.sh(
        "mkdir d; echo a > d/a; mv d/a moved; rm -r d; mkfifo fifo; rm -f /etc/secret;"
        " echo 1 > target; ln -s target link; ln moved hard",
        uid=0,
        gid=0,
        policy="governor",
        after=after,
    )
    assert done.seen == {
        "names": ["fifo", "hard", "link", "moved", "target"],
        "link": "target",
        "same": True,
        "fifo": True,
        "etc": False,
    }


def test_permissions_hold(container: Container) -> None:
    """Owners and modes keep other users out, except where one id owns all (owners: single)."""
    done = container.sh("cat /etc/secret")
    if done.isolation["owners"] == "single":
        assert done.lines == ["secret"]
    else:
        assert done.code == 1
        assert b"ermission denied" in done.output


def test_owners_can_be_given(container: Container) -> None:
    """With the policy governor, uid 0 gives files to others; not where one id owns all."""
    done = container.sh("touch f; chown 1000:1000 f && stat -c %u:%g f", uid=0, policy="governor")
    if done.isolation["owners"] == "single":
        assert done.code == 1
    else:
        assert done.lines == ["1000:1000"]


@pytest.mark.parametrize("policy", ["routine", "governor"])
@pytest.mark.parametrize("uid", [1000, 0])
def test_devices_cannot_be_made(container: Container, policy: str, uid: int) -> None:
    """The process can make no device nodes."""
    done = container.sh("mknod /task/null c 1 3", uid=uid, policy=policy)
    assert done.code != 0


@pytest.mark.parametrize("uid", [1000, 0])
def test_device_nodes_of_the_root_are_dead(container: Container, uid: int) -> None:
    """A device node that an input brought cannot be opened: it would be the host's device."""

    def before(root: Path) -> None:
        with contextlib.suppress(PermissionError):  # then an input could not bring one either
            os.mknod(root / "task/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            (root / "task/zero").chmod(0o666)

    done = container.sh("head -c1 zero 2>/dev/null | wc -c", uid=uid, before=before)
    assert done.lines == ["0"]


def test_devices_work(container: Container) -> None:
    """The usual devices are there and do what they do."""
    done = container.sh(
        f"for d in {' '.join(DEVICES)}; do [ -c /dev/$d ] || echo no $d; done;"
        "echo x > /dev/null && cat /dev/null; head -c 3 /dev/zero | wc -c;"
        "head -c 5 /dev/urandom | wc -c; head -c 5 /dev/random | wc -c;"
        "echo x 2>/dev/null > /dev/full && echo full took it; exit 0"
    )
    assert done.lines == ["3", "5", "5"]


def test_devices_are_not_the_hosts(container: Container) -> None:
    """Whatever the process does to the nodes in /dev, the host's stay as they are."""
    # Only what is harmless where it succeeds; a node's ctime would tell of it.
    before = [os.stat(f"/dev/{name}").st_ctime_ns for name in DEVICES]
    container.sh(
        f"for d in {' '.join(DEVICES)}; do chmod 666 /dev/$d; chown 0:0 /dev/$d; done; exit 0",
        uid=0,
        policy="sysad",
    )
    assert [os.stat(f"/dev/{name}").st_ctime_ns for name in DEVICES] == before


def test_device_directory(container: Container) -> None:
    """/dev has the links of file descriptors and, where mounts are allowed, shared memory."""
    done = container.sh(
        "readlink /dev/fd; readlink /dev/stdin; readlink /dev/stdout; readlink /dev/stderr;"
        "[ -c /dev/ptmx ] && echo ptmx; [ -c /dev/tty ] && echo tty;"
        "echo 1 > /dev/shm/x && cat /dev/shm/x; stat -c %a /dev/shm; stat -c %a /dev/ptmx -L"
    )
    assert done.lines == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "ptmx",
        "tty",
        "1",
        "1777",
        "666",
    ]


def test_no_other_devices(container: Container) -> None:
    """/dev has nothing that depends on the host."""
    allowed = {*DEVICES, "tty", "console", "ptmx", "pts", "shm", "mqueue"}
    allowed |= {"fd", "stdin", "stdout", "stderr"}
    assert set(container.run("/bin/ls", "/dev").lines) <= allowed


def test_no_terminal(container: Container) -> None:
    """The process has no controlling terminal."""
    done = container.sh("echo x 2>/dev/null > /dev/tty && echo wrote; cat /proc/self/stat")
    assert done.lines[0] != "wrote"
    assert done.lines[-1].rpartition(")")[2].split()[4] == "0"


def test_proc(container: Container) -> None:
    """/proc is there, and shows the process itself."""
    assert container.sh("readlink /proc/self/exe").text.startswith("/")


@pytest.mark.parametrize("policy", ["routine", "governor"])
def test_proc_is_masked(container: Container, policy: str) -> None:
    """/proc gives nothing of the host's away and lets nothing be set, to uid 0 neither."""
    done = container.sh(
        "head -c1 /proc/kcore 2>/dev/null | wc -c; head -c1 /proc/keys 2>/dev/null | wc -c;"
        "head -c1 /proc/timer_list 2>/dev/null | wc -c;"
        '(echo "$PATTERN" > /proc/sys/kernel/core_pattern) 2>/dev/null && echo set pattern;'
        "(cat /proc/sys/kernel/hostname > /proc/sys/kernel/hostname) 2>/dev/null && echo set name;"
        "(echo h > /proc/sysrq-trigger) 2>/dev/null && echo set sysrq;"
        "ls /proc/scsi /proc/acpi 2>/dev/null | grep -v :; exit 0",
        uid=0,
        policy=policy,
        env=with_pattern(),
    )
    assert done.lines == ["0", "0", "0"]


def test_the_roots_own_dev_and_proc(container: Container) -> None:
    """What an input has in /dev or /proc is hidden, not written to, and there afterwards."""

    def before(root: Path) -> None:
        for name in container.engine.mount_points:
            (root / name / "mine").write_text("mine")

    def after(root: Path) -> list[str]:
        return [",".join(sorted(os.listdir(root / name))) for name in container.engine.mount_points]

    done = container.sh("cat /dev/mine /proc/mine", before=before, after=after)
    assert done.code != 0
    assert done.seen == ["mine"] * len(container.engine.mount_points)
