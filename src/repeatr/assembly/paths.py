"""Paths as the container sees them: symlinks on the way lead within its root, never out."""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from repeatr.fileset.dirfds import OPEN_DIRECTORY

#: As many symlinks as the kernel follows in one path.
_MOST_LINKS = 40


def relative(path: str) -> bytes:
    """An absolute path of a formula as bytes below the root, normalized by its letters alone."""
    return os.fsencode(posixpath.normpath(path)).strip(b"/")


def resolve(root_fd: int, path: bytes, *, follow_last: bool) -> bytes:
    """`path` with the symlinks on its way resolved inside the root.

    What does not exist stays as it is named. The last component is resolved only with
    `follow_last`. Raises OSError ELOOP for links that go round in circles, and ENOTDIR
    where the way leads through something that is not a directory.
    """
    todo = [part for part in path.split(b"/") if part not in (b"", b".")]
    todo.reverse()
    done: list[bytes] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            if done:
                done.pop()
            continue
        found = _look(root_fd, done, part)
        if found is not None and stat.S_ISLNK(found.st_mode) and (todo or follow_last):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
            target = _read_link(root_fd, done, part)
            if target.startswith(b"/"):
                done.clear()
            todo.extend(p for p in reversed(target.split(b"/")) if p not in (b"", b"."))
            continue
        if todo and found is not None and not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(path))
        done.append(part)
    return b"/".join(done)


def open_directory(root_fd: int, path: bytes) -> int:
    """A descriptor of the directory at `path`, which must hold no symlink. The caller closes it."""
    fd = os.open(b".", OPEN_DIRECTORY, dir_fd=root_fd)
    for part in path.split(b"/") if path else ():
        try:
            below = os.open(part, OPEN_DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def status(root_fd: int, path: bytes) -> os.stat_result | None:
    """lstat of `path`, which must hold no symlink on its way; None where nothing is there."""
    parent, _, name = path.rpartition(b"/")
    try:
        fd = open_directory(root_fd, parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.stat(name or b".", dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def _look(root_fd: int, parents: list[bytes], name: bytes) -> os.stat_result | None:
    return status(root_fd, b"/".join((*parents, name)))


def _read_link(root_fd: int, parents: list[bytes], name: bytes) -> bytes:
    fd = open_directory(root_fd, b"/".join(parents))
    try:
        return os.readlink(name, dir_fd=fd)
    finally:
        os.close(fd)
