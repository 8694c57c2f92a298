"""Locks between processes: a file that is flocked while the lock is held.

The kernel lets go of a flock when its owner dies, however it dies. So nothing is ever
stale, and whether an owner lives is told by trying its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log, ignore


class Lock:
    """An exclusive lock, held by one owner on the machine, thread or process.

    A context manager: entering waits. `waiting` is told as an INFO line, once, if it has
    to. The file is removed on leaving unless `keep`: locks of many names leave no litter.
    Raises STORE where the file cannot be made or its filesystem has no locks.
    """

    def __init__(
        self, path: Path, *, waiting: str = "", emit: Emit = ignore, keep: bool = False
    ) -> None:
        self.path = path
        self._waiting = waiting
        self._emit = emit
        self._keep = keep
        self._fd = -1

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; whether it was had. Always true where it may wait."""
        told = not self._waiting
        while True:
            fd = self._open()
            try:
                if not _flock(fd, wait=False):
                    if not wait:
                        return False
                    if not told:
                        self._emit(Log(Level.INFO, self._waiting))
                        told = True
                    _flock(fd, wait=True)
                # The last owner may have removed the file between our open and our flock.
                # Then we hold a lock that nobody else can see.
                if _is_named(fd, self.path):
                    self._fd, fd = fd, -1
                    return True
            except OSError as error:
                raise self._problem(error) from error
            finally:
                if fd >= 0:
                    os.close(fd)

    def keep(self, keep: bool) -> None:
        """Whether the file stays when the lock is released."""
        self._keep = keep

    def release(self) -> None:
        """Let go. Removing comes first: who gets the lock later finds the name gone."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if not self._keep:
                # A lock file too many does no harm.
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
            # Not by close alone: a forked child may still have this file open.
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, 0o600)
        except OSError as error:
            raise self._problem(error) from error

    def _problem(self, error: OSError) -> RepeatrError:
        return RepeatrError(
            Category.STORE,
            f"cannot lock {self.path}: {error.strerror}",
            remedy="the store must be on a filesystem that you may write to and that has "
            "locks; set REPEATR_HOME to a local directory",
        )


def try_lock(path: Path) -> Lock | None:
    """The lock, held, where nobody else has it. To be released by the caller."""
    lock = Lock(path)
    return lock if lock.acquire(wait=False) else None


def _flock(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_named(fd: int, path: Path) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)


def sweep_locks(directory: Path) -> None:
    """Remove the lock files in a directory that nobody holds: their owners were killed."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        lock = try_lock(directory / name)
        if lock is not None:
            lock.release()
