"""A small root filesystem for the conformance suite: a shell and its tools, nothing else."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
from pathlib import Path

from repeatr.fileset.entry import DIRECTORY, FILE, SYMLINK
from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure

#: The programs that the suite's processes use.
PROGRAMS = (
    *("sh", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "false", "grep", "head", "id"),
    *(
        "kill",
        "ln",
        "ls",
        "mkdir",
        "mkfifo",
        "mknod",
        "mount",
        "mv",
        "readlink",
        "rm",
        "sleep",
        "stat",
    ),
    *("tail", "touch", "true", "umount", "unshare", "wc"),
)


class Rootfs:
    """A root below the directory `base`, for as long as the context lasts. Answers its path."""

    def __init__(
        self, base: Path, here: Enclosure, uid: int, gid: int, mount_points: tuple[str, ...]
    ) -> None:
        self._base = base
        self._here = here
        self._owner = (uid, gid)
        self._mount_points = mount_points
        self._mounted: list[Path] = []

    def __enter__(self) -> Path:
        place = self._base / "run"
        place.mkdir(mode=0o755)
        root = place / "root"
        if self._here.can_mount:
            calls.mount("tmpfs", place, "tmpfs", calls.MS_NOSUID, "mode=755")
            self._mounted.append(place)
        lower = place / "lower"
        for directory in (root, lower):
            directory.mkdir(mode=0o755)
        os.umask(0o022)
        self._fill(lower)
        if not self._overlay(place, lower, root):
            root.rmdir()
            lower.rename(root)
        return root

    def __exit__(self, *_error: object) -> None:
        while self._mounted:
            with contextlib.suppress(OSError):
                calls.unmount(self._mounted.pop())
        shutil.rmtree(self._base / "run", ignore_errors=True)

    def _overlay(self, place: Path, lower: Path, root: Path) -> bool:
        if not self._here.can_mount:
            return False
        for name in ("up", "wk"):
            (place / name).mkdir(mode=0o755)
        (place / "0").symlink_to(lower)
        options = "lowerdir=0,upperdir=up,workdir=wk"
        if self._here.own_user_namespace:
            options += ",userxattr"
        os.chdir(place)  # so that the options, which the process sees, name nothing of the host
        try:
            calls.mount("overlay", root, "overlay", data=options)
        except OSError:
            return False
        self._mounted.append(root)
        return True

    def _fill(self, root: Path) -> None:
        _add_programs(root)
        for name in ("bin", "etc", "home", "home/reuser", "tmp", "task", *self._mount_points):
            (root / name).mkdir(mode=0o755, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc/secret").write_text("secret\n")
        (root / "etc/secret").chmod(0o600)
        for name in ("home/reuser", "task"):
            with contextlib.suppress(OSError):  # single: every file is the caller's anyway
                os.chown(root / name, *self._owner)


def _add_programs(root: Path) -> None:
    busybox = static_busybox()
    if busybox is None:
        _add_from_host(root)
        return
    (root / "bin").mkdir()
    shutil.copyfile(busybox, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for name in PROGRAMS:
        (root / "bin" / name).symlink_to("busybox")


@functools.cache
def static_busybox() -> str | None:
    """The host's busybox, if it needs no libraries."""
    from repeatr.base import elf

    path = shutil.which("busybox", path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None or elf.read(path).interpreter:
        return None
    return path


def _add_from_host(root: Path) -> None:
    from repeatr.base.programs import collect

    # Not every host has all of them; a test that uses one that is missing says so.
    here = [name for name in PROGRAMS if shutil.which(name)]
    for entry, source in collect(here):
        path = root / os.fsdecode(entry.path)
        if entry.kind == DIRECTORY:
            path.mkdir(exist_ok=True)
        elif entry.kind == SYMLINK:
            path.symlink_to(os.fsdecode(entry.link))
        elif entry.kind == FILE:
            shutil.copyfile(source, path)
            path.chmod(stat.S_IMODE(entry.mode))
