"""The place where a fileset is unpacked for a user: there whole, or not at all."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.dirfds import inoperable
from repeatr.store.removal import remove_tree


class Landing:
    """Makes `path` appear at once, by a rename from a new name beside it. A context manager.

    `path` must be absent or an empty directory; a symlink to an empty directory stays one.
    What is to land goes to `staging`, which does not exist when this is entered; `commit`
    puts it in place. Leaving without a commit removes it. Where nothing can be put beside
    the empty directory at `path` (it is a mount point, or what it is in may not be written
    to), `staging` is `path` itself, and is emptied again without a commit.

    Raises RepeatrError INOPERABLE_PATH where `path` cannot be taken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = os.fspath(path)
        if not given:
            raise RepeatrError(
                Category.USAGE, "the path to unpack to is empty", remedy="name a directory"
            )
        self._path = given.rstrip("/") or "/"
        self._in_place = False
        self._committed = False
        self.staging = ""

    def __enter__(self) -> Landing:
        if os.path.islink(self._path):
            self._path = os.path.realpath(self._path)
        exists = self._check_free()
        parent = os.path.dirname(self._path) or "."
        if not os.path.isdir(parent):
            raise RepeatrError(
                Category.INOPERABLE_PATH,
                f"cannot unpack to {self._path!r}: {parent!r} is not a directory that exists",
                remedy=f"mkdir -p {parent}",
            )
        writable = os.access(parent, os.W_OK | os.X_OK)
        if exists and (not writable or os.path.ismount(self._path)):
            self._in_place = True
            self.staging = self._path
        elif not writable:
            denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise inoperable(os.fsencode(self._path), "create", denied)
        else:
            self.staging = f"{self._path}.repeatr-{os.urandom(4).hex()}"
        return self

    def commit(self) -> None:
        """Put what is at `staging` in place. Raises INOPERABLE_PATH where that fails."""
        if not self._in_place:
            try:
                if not os.path.isdir(self.staging) and os.path.isdir(self._path):
                    os.rmdir(self._path)  # a file cannot be renamed onto an empty directory
                os.rename(self.staging, self._path)
            except OSError as error:
                raise inoperable(os.fsencode(self._path), "create", error) from error
        self._committed = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._committed:
            return
        if self._in_place:
            _empty(self._path)
        else:
            _remove(self.staging)

    def _check_free(self) -> bool:
        """Whether there is an empty directory at the path. Raises for anything else."""
        try:
            found = os.listdir(self._path)
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            if not os.path.lexists(self._path):
                return False  # it is a parent that is no directory
            raise RepeatrError(
                Category.INOPERABLE_PATH,
                f"cannot unpack to {self._path!r}: something that is not a directory is there",
                remedy="name a path that does not exist, or an empty directory",
            ) from None
        except OSError as error:
            raise inoperable(os.fsencode(self._path), "read", error) from error
        if found:
            raise RepeatrError(
                Category.INOPERABLE_PATH,
                f"cannot unpack to {self._path!r}: the directory is not empty",
                remedy="name a path that does not exist, or empty it first; nothing is "
                "overwritten or removed here",
            )
        return True


def _remove(path: str) -> None:
    head, name = os.path.split(path)
    parent = os.open(head or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, name)
    finally:
        os.close(parent)


def _empty(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            remove_tree(fd, name)
    finally:
        os.close(fd)
