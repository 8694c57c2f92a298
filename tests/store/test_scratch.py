"""Scratch directories and locks: gone with their owners, whatever was done to them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Level, Log
from repeatr.store.locks import Lock, sweep_locks, try_lock
from repeatr.store.removal import remove_tree
from repeatr.store.scratch import Scratch, sweep

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
ROOT = os.geteuid() == 0


def _messages(events: list[Event]) -> list[str]:
    return [event.msg for event in events if isinstance(event, Log)]


def _remove(path: Path) -> list[str]:
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        return [f"{stuck.path}: {stuck.error}" for stuck in remove_tree(parent, path.name)]
    finally:
        os.close(parent)


# --- locks


def test_a_lock_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(path):
        assert try_lock(path) is None
    assert os.listdir(tmp_path) == []
    taken = try_lock(path)
    assert taken is not None
    taken.release()
    taken.release()  # twice is harmless


def test_waiting_is_told_once_and_only_when_it_happens(tmp_path: Path) -> None:
    events: list[Event] = []
    path = tmp_path / "lock"
    with Lock(path, waiting="waiting for it", emit=events.append):
        assert events == []
        second = Lock(path, waiting="waiting for it", emit=events.append)
        thread = threading.Thread(target=lambda: second.__enter__().release())
        thread.start()
        deadline = time.monotonic() + 10
        while not events:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert thread.is_alive()
    thread.join(10)
    assert _messages(events) == ["waiting for it"]
    assert isinstance(events[0], Log) and events[0].level is Level.INFO


def test_removed_lock_files_never_let_two_in(tmp_path: Path) -> None:
    """Processes take and remove the same lock; each counts alone or the sum is wrong."""
    code = """
import sys
from pathlib import Path
from repeatr.store.locks import Lock
directory = Path(sys.argv[1])
for _ in range(150):
    with Lock(directory / "lock"):
        count = int((directory / "count").read_text())
        (directory / "count").write_text(str(count + 1))
"""
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, env=ENVIRONMENT) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "600"
    assert os.listdir(tmp_path) == ["count"]


def test_a_forked_child_does_not_hold_on(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", keep=True)
    lock.acquire()
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        lock.release()
        again = try_lock(tmp_path / "lock")
        assert again is not None
        again.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_that_cannot_be_made_is_a_problem_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(RepeatrError, match="cannot lock") as caught:
        Lock(tmp_path / "gone/lock").acquire()
    assert caught.value.category is Category.STORE
    assert "REPEATR_HOME" in caught.value.remedy


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    os.symlink("elsewhere", tmp_path / "lock")
    with pytest.raises(RepeatrError):
        Lock(tmp_path / "lock").acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_lock_files_of_the_dead_are_swept(tmp_path: Path) -> None:
    (tmp_path / "dead").touch()
    with Lock(tmp_path / "alive"):
        sweep_locks(tmp_path)
        assert os.listdir(tmp_path) == ["alive"]


# --- scratch


def test_scratch_is_private_and_goes(tmp_path: Path) -> None:
    with Scratch(tmp_path, "job") as scratch:
        assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
        assert scratch.path.name.startswith("job-")
        (scratch.path / "a/b").mkdir(parents=True)
        (scratch.path / "a/b/c").write_text("c")
    assert os.listdir(tmp_path) == []


def test_the_living_are_not_swept(tmp_path: Path) -> None:
    with Scratch(tmp_path, "job") as scratch:
        assert sweep(tmp_path) == 0
        assert scratch.path.is_dir()


OWNER = """
import sys, time
from pathlib import Path
from repeatr.store.scratch import Scratch
with Scratch(Path(sys.argv[1]), "job") as scratch:
    (scratch.path / "file").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_the_dead_are_swept(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None and owner.stdout.readline() == b"ready\n"
    assert sweep(tmp_path) == 0
    owner.kill()
    owner.communicate()
    assert len(os.listdir(tmp_path)) == 2
    assert sweep(tmp_path) == 1
    assert os.listdir(tmp_path) == []


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path) == sweep(tmp_path / "gone") == 0


def test_two_sweeps_at_once(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"job-{i}/a").mkdir(parents=True)
        (tmp_path / f"job-{i}.lock").touch()
    events: list[Event] = []
    threads = [threading.Thread(target=sweep, args=(tmp_path, events.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == [] and events == []


def test_default_acls_are_not_inherited(tmp_path: Path) -> None:
    # linux/posix_acl_xattr.h: version 2, then tag, permissions and id of each entry:
    # the owner, user 12345, the group, the mask, others.
    nobody = 0xFFFFFFFF
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, 7, who)
        for tag, who in ((1, nobody), (2, 12345), (4, nobody), (16, nobody), (32, nobody))
    )
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("no ACLs on this filesystem")
    with Scratch(tmp_path, "job") as scratch:
        assert [name for name in os.listxattr(scratch.path) if "acl" in name] == []
        (scratch.path / "in").mkdir(mode=0o700)
        assert stat.S_IMODE((scratch.path / "in").stat().st_mode) == 0o700


@pytest.mark.skipif(not ROOT, reason="gives a directory to another group")
def test_a_set_gid_parent_is_not_inherited(tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 12345)
    tmp_path.chmod(0o2777)
    with Scratch(tmp_path, "job") as scratch:
        status = scratch.path.stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (os.getegid(), 0o700)


# --- removal


def test_what_is_not_there_is_removed(tmp_path: Path) -> None:
    assert _remove(tmp_path / "gone") == []


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / "top").mkdir()
    os.symlink(outside, tmp_path / "top/link")
    os.symlink(outside, tmp_path / "link")
    assert _remove(tmp_path / "top") == _remove(tmp_path / "link") == []
    assert os.listdir(tmp_path) == ["outside"] and os.listdir(outside) == ["precious"]


def test_very_deep_trees(tmp_path: Path) -> None:
    """Deeper than paths can be long, than there are file descriptors, than Python recurses."""
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for i in range(3000):
        os.mkdir("deep", dir_fd=fd)
        if i % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    try:
        assert _remove(top) == []
        assert os.listdir(tmp_path) == []
    finally:  # pytest itself cannot remove such a thing
        subprocess.run(["rm", "-rf", str(top)], check=True)


def _forbidding(path: Path) -> None:
    (path / "a/b").mkdir(parents=True)
    (path / "a/b/file").touch(mode=0)
    (path / "a/b").chmod(0)
    (path / "a").chmod(0o400)
    path.chmod(0o100)


def test_directories_that_nobody_may_enter(tmp_path: Path) -> None:
    _forbidding(tmp_path / "top")
    assert _remove(tmp_path / "top") == []
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not ROOT, reason="needs another user")
def test_directories_that_nobody_may_enter_of_an_ordinary_user(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    place = tmp_path / "place"
    (place / "s" / "dead-1").mkdir(parents=True)
    (place / "s" / "dead-1.lock").touch()
    _forbidding(place / "s" / "dead-1" / "root")
    _own(place, 65534)
    code = (
        "import sys\nfrom pathlib import Path\nfrom repeatr.store.scratch import sweep\n"
        "print(sweep(Path(sys.argv[1]), print))"
    )

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, str(place / "s")],
            env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
            user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert run() == "1\n"
    assert os.listdir(place / "s") == []

    # What belongs to somebody else stays, is told, and goes when somebody may remove it.
    (place / "s/dead-2/root").mkdir(parents=True)
    (place / "s/dead-2/root/file").touch()
    (place / "s/dead-2.lock").touch()
    os.chown(place / "s/dead-2", 65534, 65534)
    os.chown(place / "s/dead-2.lock", 65534, 65534)
    told = run()
    assert told.count("Log(") == 1 and told.endswith("0\n")
    assert "unshare --map-root-user --map-auto rm -rf" in told and "dead-2" in told
    assert sorted(os.listdir(place / "s")) == ["dead-2", "dead-2.lock"]
    assert sweep(place / "s") == 1


def _own(path: Path, uid: int) -> None:
    os.chown(path, uid, uid, follow_symlinks=False)
    for inner, directories, files in os.walk(path):
        for name in directories + files:
            os.chown(os.path.join(inner, name), uid, uid, follow_symlinks=False)


@pytest.mark.skipif(not ROOT, reason="mounts")
def test_what_is_mounted_there_is_not_emptied(tmp_path: Path) -> None:
    precious, scratch = tmp_path / "precious", tmp_path / "with space" / "dead-1"
    precious.mkdir()
    (precious / "file").touch()
    (scratch / "root").mkdir(parents=True)
    code = (
        "import sys\nfrom pathlib import Path\nfrom repeatr.store.scratch import sweep\n"
        "print(sweep(Path(sys.argv[1]), print))"
    )

    def swept(*prefix: str) -> str:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1/root" && shift && exec "$@"',
             str(precious), str(scratch), *prefix, sys.executable, "-c", code, str(scratch.parent)],
            env=ENVIRONMENT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert os.listdir(precious) == ["file"]
        return done.stdout

    told = swept("setpriv", "--bounding-set=-sys_admin")
    assert "still mounted" in told and "umount -R" in told
    # Its lock file stays with it, and whoever may unmount takes both away.
    assert sorted(os.listdir(scratch.parent)) == ["dead-1", "dead-1.lock"]
    assert swept() == "1\n"
    assert os.listdir(scratch.parent) == []


@pytest.mark.skipif(not ROOT or not shutil.which("chattr"), reason="makes a file immutable")
def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    events: list[Event] = []
    with Scratch(tmp_path, "job", events.append) as scratch:
        (scratch.path / "a").mkdir()
        stuck = scratch.path / "a/stuck"
        stuck.touch()
        (scratch.path / "b").touch()
        if subprocess.run(
            ["chattr", "+i", str(stuck)], check=False, capture_output=True
        ).returncode:
            pytest.skip("no immutable files on this filesystem")
    try:
        assert len(events) == 1 and "a/stuck" in _messages(events)[0]
        assert os.listdir(scratch.path) == ["a"]
    finally:
        subprocess.run(["chattr", "-i", str(stuck)], check=True)
    assert sweep(tmp_path) == 1


@pytest.mark.parametrize("action", [lambda p: p.write_text("x"), os.mkfifo, lambda p: p.mkdir()])
def test_any_kind_of_thing_is_swept(tmp_path: Path, action: Callable[[Path], object]) -> None:
    action(tmp_path / "thing")
    assert sweep(tmp_path) == 1
    assert os.listdir(tmp_path) == []
