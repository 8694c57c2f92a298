"""Projecting a fileset onto a directory, as faithfully as asked and as this user may.

Whoever places entries has checked that they make a tree (`intake`); nonetheless each
directory is opened without following symlinks and each file made anew, so that whatever
else happens to be there is neither followed nor overwritten.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.dirfds import OPEN_DIRECTORY, DirFds, inoperable
from repeatr.fileset.entry import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry
from repeatr.fileset.names import shown
from repeatr.fileset.workers import PIECE

#: Says which uid and gid on disk an entry's uid and gid become; None: the calling user's.
Chown = Callable[[int, int], tuple[int, int] | None]

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SETID = 0o6000
_BILLION = 1_000_000_000
# chown(2) takes this for "leave it as it is".
_NO_ID = 2**32 - 1
# What overlayfs takes for its own notes (Documentation/filesystems/overlayfs.rst), which hide
# files: where what is placed is a lower layer, a ware could show a user another tree than root.
_OVERLAYS_OWN = (b"user.overlay.", b"trusted.overlay.")
_DEVICE_TYPES = {BLOCK: 0o060000, CHARACTER: 0o020000}


def projected_owner(entry: Entry, chown: Chown | None) -> tuple[int, int] | None:
    """The owner that a `Placer` with this `chown` gives an entry; None: the calling user."""
    return chown(entry.uid, entry.gid) if chown else (entry.uid, entry.gid)


def projected_mode(entry: Entry, chown: Chown | None) -> int:
    """The mode that goes with `projected_owner`.

    An entry that stays the calling user's gets no set-id bits: they would lend the wrong
    user's rights.
    """
    return entry.mode if projected_owner(entry, chown) else entry.mode & ~_SETID


class Placer:
    """Places entries at `root`: a directory's descriptor, or a path.

    A path is made: a directory (or one that is there is taken) or, where the root entry is
    a file, that file. Entries come with their parents first. Directories are writable
    until the placer is left; then, without an error on the way, they get their metadata,
    deepest first. With an error, what was placed stays, for the caller to remove.

    `faithful`: what can't be made as it is raises RepeatrError INOPERABLE_PATH. Otherwise
    devices that can't be made are left out, an owner that can't be given is not given (and
    the set-id bits with it); `shortfalls` counts these by what they lack. Extended
    attributes are always best effort. `chown` maps owners; None takes the entry's own.

    Every other failure (no space, read-only, something in the way) raises INOPERABLE_PATH.
    """

    def __init__(
        self,
        root: int | str | bytes | os.PathLike[str],
        *,
        faithful: bool,
        chown: Chown | None = None,
    ) -> None:
        self.shortfalls: dict[str, int] = {}
        self._faithful = faithful
        self._chown = chown
        self._path = None if isinstance(root, int) else os.fsencode(root)
        self._where = "" if self._path is None else shown(self._path)
        self._fds = DirFds(root) if isinstance(root, int) else None
        self._own_root_fd = -1
        self._file_placed = False
        self._directories: dict[bytes, Entry] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish_directories()
        finally:
            if self._fds is not None:
                self._fds.close()
            if self._own_root_fd >= 0:
                os.close(self._own_root_fd)
                self._own_root_fd = -1

    def place(self, entry: Entry, content: bytes | Iterable[bytes] | None = None) -> None:
        """Place one entry; `content` is of files, whole or in pieces.

        A directory may come again: its later metadata counts.
        """
        path, kind = entry.path, entry.kind
        try:
            if kind == DIRECTORY:
                self._place_directory(entry)
                return
            parent, name = self._parent(entry)
            if kind == FILE:
                self._place_file(entry, parent, name, content or b"")
            elif kind == SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
                self._finish(entry, parent, name)
            elif kind == FIFO:
                os.mkfifo(name, 0o600, dir_fd=parent)
                self._finish(entry, parent, name)
            elif kind in _DEVICE_TYPES:
                self._place_device(entry, parent, name)
            else:
                raise ValueError(f"an entry of kind {kind!r} can't be placed")
        except OSError as error:
            raise inoperable(path, "create", error, self._where) from None

    def copy(self, source: bytes, entry: Entry) -> None:
        """Place the file `entry` with the content of the file placed at `source`."""
        try:
            fd = self._open_placed(source)
            try:
                self.place(entry, iter(lambda: os.read(fd, PIECE), b""))
            finally:
                os.close(fd)
        except OSError as error:
            raise inoperable(source, "read", error, self._where) from None

    def _open_placed(self, path: bytes) -> int:
        fds = self._root_directory()
        slash = path.rfind(b"/")
        parent, name = fds.get(path[: max(slash, 0)]), path[slash + 1 :]
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, dir_fd=parent)
        except PermissionError:
            # Its mode keeps even its owner out; for a moment it must not.
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            os.chmod(name, 0o600, dir_fd=parent)
            try:
                return os.open(name, flags, dir_fd=parent)
            finally:
                os.chmod(name, mode & 0o7777, dir_fd=parent)

    def _root_directory(self) -> DirFds:
        if self._fds is None:
            assert self._path is not None
            with suppress(FileExistsError):  # where it is no directory, opening it says so
                os.mkdir(self._path, 0o700)
            self._own_root_fd = os.open(self._path, OPEN_DIRECTORY)
            self._fds = DirFds(self._own_root_fd)
        return self._fds

    def _parent(self, entry: Entry) -> tuple[int, bytes]:
        path = entry.path
        if path:
            slash = path.rfind(b"/")
            return self._root_directory().get(path[: max(slash, 0)]), path[slash + 1 :]
        # The root itself, which is no directory: only a path can become that.
        if self._path is None or self._fds is not None:
            raise IsADirectoryError(errno.EISDIR, "there is a directory already")
        head, tail = os.path.split(self._path.rstrip(b"/"))
        self._own_root_fd = os.open(head or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._own_root_fd, tail

    def _place_directory(self, entry: Entry) -> None:
        path = entry.path
        known = path in self._directories
        self._directories[path] = entry
        if not path:
            self._root_directory()
        elif not known:
            parent, name = self._parent(entry)
            os.mkdir(name, 0o700, dir_fd=parent)

    def _place_file(
        self, entry: Entry, parent: int, name: bytes, content: bytes | Iterable[bytes]
    ) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            if isinstance(content, bytes):
                if content:
                    _write(fd, content)
            else:
                for piece in content:
                    _write(fd, piece)
            self._finish(entry, fd)
        finally:
            os.close(fd)

    def _place_device(self, entry: Entry, parent: int, name: bytes) -> None:
        device = os.makedev(entry.major, entry.minor)
        if not device and entry.kind == CHARACTER and not self._faithful:
            # Overlayfs takes it for its own mark of a deleted entry.
            self._lacks("device")
            return
        try:
            os.mknod(name, 0o600 | _DEVICE_TYPES[entry.kind], device, dir_fd=parent)
        except PermissionError as error:
            if not self._faithful:
                self._lacks("device")
                return
            raise RepeatrError(
                Category.INOPERABLE_PATH,
                f"can't make the device node {shown(entry.path)!r}: {error.strerror}",
                remedy="run as root, or go without device nodes with the filter dev=ignore",
                details={"path": shown(entry.path)},
            ) from None
        self._finish(entry, parent, name)

    def _finish(self, entry: Entry, fd: int, name: bytes | None = None) -> None:
        """Give metadata to the open file `fd`, or to `name` in the directory `fd`.

        The order matters: a change of owner drops set-id bits and capabilities, and a mode
        without write permission keeps an unprivileged owner from setting attributes.
        """
        mode = entry.mode
        if not self._give_owner(entry, fd, name):
            mode &= ~_SETID
        if name is None:
            if entry.xattrs:
                self._give_xattrs(entry, fd)
            os.fchmod(fd, mode)
        elif entry.kind != SYMLINK:  # of symlinks Linux keeps no mode
            os.chmod(name, mode, dir_fd=fd)
        time = entry.mtime * _BILLION + entry.mtime_ns
        try:
            if name is None:
                os.utime(fd, ns=(time, time))
            else:
                os.utime(name, ns=(time, time), dir_fd=fd, follow_symlinks=False)
        except OverflowError:
            raise OSError(errno.EOVERFLOW, f"no file system keeps the time {entry.mtime}") from None

    def _give_owner(self, entry: Entry, fd: int, name: bytes | None) -> bool:
        owner = projected_owner(entry, self._chown)
        if owner is None:
            return False
        try:
            if _NO_ID in owner:
                raise OSError(errno.EINVAL, "no file can have this id")
            if name is None:
                os.fchown(fd, *owner)
            else:
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            if not self._faithful:
                self._lacks("owner")
                return False
            raise RepeatrError(
                Category.INOPERABLE_PATH,
                f"can't give {shown(entry.path)!r} to the user {owner[0]} and the group "
                f"{owner[1]}: {error.strerror}",
                remedy="run as root, or keep it yours with the filters uid=mine,gid=mine",
                details={"path": shown(entry.path)},
            ) from None
        return True

    def _give_xattrs(self, entry: Entry, fd: int) -> None:
        for key, value in entry.xattrs:
            if key.startswith(_OVERLAYS_OWN):
                self._lacks("xattr")
                continue
            try:
                if sys.platform == "linux":
                    os.setxattr(fd, key, value)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise
                self._lacks("xattr")

    def _finish_directories(self) -> None:
        # Backwards in sort order comes what is in a directory before itself.
        for path in sorted(self._directories, reverse=True):
            entry = self._directories[path]
            try:
                fds = self._root_directory()
                self._finish(entry, fds.get(path))
            except OSError as error:
                raise inoperable(path, "set the metadata of", error, self._where) from None

    def _lacks(self, what: str) -> None:
        self.shortfalls[what] = self.shortfalls.get(what, 0) + 1


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)
        while written < len(data):
            written += os.write(fd, rest[written:])
