"""Directories for work under way, which are gone when it ends, also when it dies.

Beside each directory NAME lies NAME.lock, flocked by the owner. A directory whose lock is
free has lost its owner, and whoever opens the store next sweeps it away.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from repeatr.errors import Category, RepeatrError
from repeatr.linux.children import signals_held
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.store.home import store_problem
from repeatr.store.locks import Lock, try_lock
from repeatr.store.removal import remove_tree

_SUFFIX = ".lock"
_ACLS = ("system.posix_acl_default", "system.posix_acl_access")


class Scratch:
    """A new directory below `parent`, the caller's alone (0700). A context manager.

    `name` begins the directory's name, so that a person can tell what it was for. Leaving
    removes it with all that is in it; what cannot be removed is told as a warning.
    Raises STORE where it cannot be made.
    """

    def __init__(self, parent: Path, name: str, emit: Emit = ignore) -> None:
        self.path = parent / f"{name}-{os.getpid()}-{os.urandom(5).hex()}"
        self._lock = Lock(parent / (self.path.name + _SUFFIX), keep=True)
        self._emit = emit

    def __enter__(self) -> Scratch:
        try:
            with signals_held():  # half made it would be left
                # The lock first: a directory without a held lock is anybody's to remove.
                self._lock.acquire()
                make_private(self.path)
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, OSError):
                raise store_problem(self.path, "cannot be made", error) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with signals_held():
            left = _discard(self.path)
            if left:
                _tell(self._emit, [(self.path, left)])
            else:
                self._lock.keep(False)
            self._lock.release()


def make_private(path: Path) -> None:
    """Make a directory of mode 0700 that inherits nothing: no ACL, no group.

    A default ACL or a set-gid bit on a parent would otherwise show in every file that is
    unpacked below. Raises OSError.
    """
    os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in _ACLS:
            # There is none, or there are none on this system.
            with contextlib.suppress(OSError, AttributeError):
                os.removexattr(fd, name)
        status = os.fstat(fd)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, os.geteuid(), os.getegid())
        if status.st_mode & 0o7777 != 0o700:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def sweep(parent: Path, emit: Emit = ignore) -> int:
    """Remove the directories below `parent` whose owners are dead; how many there were.

    What cannot be removed stays for a later sweep, and is told as one warning.
    """
    try:
        names = os.listdir(parent)
    except OSError:
        return 0
    if not names:
        return 0
    removed = 0
    stuck: list[tuple[Path, str]] = []
    for name in sorted({each.removesuffix(_SUFFIX) for each in names}):
        try:
            lock = try_lock(parent / (name + _SUFFIX))
        except RepeatrError as error:
            if error.category is not Category.STORE:
                raise
            stuck.append((parent / name, error.message))
            continue
        if lock is None:
            continue
        left = _discard(parent / name)
        if left:
            stuck.append((parent / name, left))
            # The lock file stays with its directory, so that the next sweep tries again.
            lock.keep(True)
        else:
            removed += 1
        lock.release()
    if stuck:
        _tell(emit, stuck)
    return removed


def _discard(path: Path) -> str:
    """Remove a scratch directory; why it could not be, or ""."""
    mounted = _mounts_below(path)
    if mounted:
        # Never through a mount: behind it may be somebody's home directory.
        _unmount(mounted)
        mounted = _mounts_below(path)
    if mounted:
        return f"{mounted[0]} is still mounted"
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return error.strerror or "it cannot be opened"
    try:
        stuck = remove_tree(parent, path.name)
    finally:
        os.close(parent)
    if not stuck:
        return ""
    return f"{path.parent / stuck[0].path}: {stuck[0].error.strerror}"


def _mounts_below(path: Path) -> list[str]:
    """Mount points at or below `path` in this mount namespace."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            points = [line.split(" ", 5)[4] for line in table]
    except OSError:
        return []  # not Linux: no mounts are made there
    # The table has real paths.
    real = os.path.realpath(path)
    found = [_plain(point) if "\\" in point else point for point in points]
    return [point for point in found if point == real or point.startswith(real + "/")]


def _plain(point: str) -> str:
    """A path of the table as it is: there, white space and backslashes are octal numbers."""
    for plain, escaped in ((" ", "\\040"), ("\t", "\\011"), ("\n", "\\012"), ("\\", "\\134")):
        point = point.replace(escaped, plain)
    return point


def _unmount(points: list[str]) -> None:
    """Let go of mounts that a run left behind which was killed on a host without namespaces."""
    from repeatr.linux import calls

    for point in reversed(points):
        with contextlib.suppress(OSError):
            calls.unmount(point, calls.MNT_DETACH | calls.UMOUNT_NOFOLLOW)


def _tell(emit: Emit, stuck: list[tuple[Path, str]]) -> None:
    path, why = stuck[0]
    more = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
    if "mounted" in why:
        command = f"umount -R {why.removesuffix(' is still mounted')}"
    else:
        # Its owners are ids of a user namespace; only from inside one may they be removed.
        command = f"unshare --map-root-user --map-auto rm -rf {path}*"
    emit(
        Log(
            Level.WARN,
            f"could not remove left-over work in {path}{more} ({why}); "
            f"the next run tries again, or: {command}",
            tuple((str(each), reason) for each, reason in stuck),
        )
    )
