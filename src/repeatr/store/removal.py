"""Removing trees that anything may have been done to.

What a process left in its root filesystem is hostile input: directories nobody may enter,
links that point out, thousands of levels, files of other owners. Everything is reached from
an open directory and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

#: Levels that are descended, each with an open directory; what is deeper is first moved up.
_DEPTH = 64


class Stuck(NamedTuple):
    """A path (relative to what was removed) that could not be removed, and why."""

    path: str
    error: OSError


def remove_tree(parent: int, name: str) -> list[Stuck]:
    """Remove `name` in the directory `parent` (an open fd), and all below it.

    Does what it can and returns what it could not. It is no error if nothing is there.
    """
    stuck: list[Stuck] = []
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return stuck
        _remove_directory(parent, name, stuck)
    except FileNotFoundError:
        pass
    except OSError as error:
        stuck.append(Stuck(name, error))
    return stuck


def _remove_directory(parent: int, name: str, stuck: list[Stuck]) -> None:
    fd = _enter(parent, name)
    try:
        # Again while deep directories were moved up to this one.
        while _empty(fd, fd, name, 0, stuck):
            pass
    finally:
        os.close(fd)
    if not stuck:
        os.rmdir(name, dir_fd=parent)


def _empty(fd: int, top: int, shown: str, depth: int, stuck: list[Stuck]) -> bool:
    """Remove what is in a directory; whether something was moved up to `top` instead."""
    moved = False
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        path = f"{shown}/{name}"
        try:
            if not is_directory:
                os.unlink(name, dir_fd=fd)
            elif depth >= _DEPTH:
                # Moving a directory writes its "..", so it must be writable itself.
                os.close(_enter(fd, name))
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                moved = True
            else:
                inner = _enter(fd, name)
                before = len(stuck)
                try:
                    moved |= _empty(inner, top, path, depth + 1, stuck)
                finally:
                    os.close(inner)
                if len(stuck) == before:
                    os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            stuck.append(Stuck(path, error))
    return moved


def _enter(parent: int, name: str) -> int:
    """Open a directory for listing, with all permissions for its owner."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        _permit(parent, name)
        return os.open(name, flags, dir_fd=parent)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        # Where this fails we may be privileged, or removing what is in it says why not.
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o700)
    return fd


def _permit(parent: int, name: str) -> None:
    if not hasattr(os, "O_PATH"):
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    # A name could be swapped for a link between a look and a chmod; this fd cannot.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)
