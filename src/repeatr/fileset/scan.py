"""Reading a fileset's metadata from a disk. Contents are read by `outlet`."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import ExitStack

from repeatr.fileset.dirfds import OPEN_DIRECTORY, DirFds, inoperable
from repeatr.fileset.entry import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SOCKET,
    SYMLINK,
    Entry,
)
from repeatr.fileset.names import shown
from repeatr.model.events import Emit, Level, Log, ignore

#: The kind of an entry by the type bits of its mode.
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFBLK: BLOCK,
    stat.S_IFCHR: CHARACTER,
}
_BILLION = 1_000_000_000
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def scan(
    root: int | str | bytes | os.PathLike[str], *, xattrs: bool = False, emit: Emit = ignore
) -> list[Entry]:
    """The metadata of everything at and below `root`, a directory's descriptor or a path.

    Parents come before what is in them; other order there is none (`Manifest` sorts).
    Symlinks are read, never followed, `root` itself neither. Digests are None, sizes are
    what the disk says. Sockets are left out, with a warning. A root that is not a
    directory is one entry, of whatever kind it has. With `xattrs`, `user.*` and
    `security.capability` of files and directories are read as well.

    Raises RepeatrError INOPERABLE_PATH for a path that is missing, can't be listed or
    changes while it is read.
    """
    with ExitStack() as stack:
        if isinstance(root, int):
            root_fd, where = root, ""
            status = os.fstat(root_fd)
        else:
            where = os.fsdecode(root)
            try:
                status = os.lstat(root)
                if not stat.S_ISDIR(status.st_mode):
                    return _lone_root(root, status, xattrs)
                root_fd = os.open(root, OPEN_DIRECTORY)
            except OSError as error:
                raise inoperable(os.fsencode(root), "read", error) from None
            stack.callback(os.close, root_fd)
        top = _entry(b"", status)
        fds = stack.enter_context(DirFds(root_fd))
        if top.kind != DIRECTORY:
            return [top._replace(xattrs=_xattrs_of(root_fd) if xattrs else ())]
        return _scan_tree(fds, top, xattrs, emit, where)


def _lone_root(
    root: str | bytes | os.PathLike[str], status: os.stat_result, xattrs: bool
) -> list[Entry]:
    link = os.readlink(os.fsencode(root)) if stat.S_ISLNK(status.st_mode) else b""
    entry = _entry(b"", status, link)
    if xattrs and entry.kind == FILE:
        fd = os.open(root, _OPEN_FILE)
        try:
            entry = entry._replace(xattrs=_xattrs_of(fd))
        finally:
            os.close(fd)
    return [entry]


def _scan_tree(fds: DirFds, top: Entry, xattrs: bool, emit: Emit, where: str) -> list[Entry]:
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    found = [top]
    add = found.append
    new = tuple.__new__
    kinds = KINDS
    to_list = [b""]
    while to_list:
        directory = to_list.pop()
        prefix = directory + b"/" if directory else b""
        below: list[bytes] = []
        path = directory
        try:
            fd = fds.get(directory)
            with os.scandir(fd) as listing:
                for item in listing:
                    name = item.name
                    path = prefix + name.encode(encoding, errors)
                    status = item.stat(follow_symlinks=False)
                    mode = status.st_mode
                    kind = kinds[mode & 0o170000]
                    link: bytes = b""
                    major = minor = 0
                    if kind == DIRECTORY:
                        below.append(path)
                    elif kind == SYMLINK:
                        link = os.fsencode(os.readlink(name, dir_fd=fd))
                    elif kind in (BLOCK, CHARACTER):
                        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
                    elif kind == SOCKET:
                        _warn_of_socket(path, emit)
                        continue
                    mtime, nanoseconds = divmod(status.st_mtime_ns, _BILLION)
                    add(
                        new(
                            Entry,
                            (
                                path,
                                kind,
                                mode & 0o7777,
                                status.st_uid,
                                status.st_gid,
                                mtime,
                                nanoseconds,
                                status.st_size if kind == FILE else 0,
                                link,
                                major,
                                minor,
                                _read_xattrs(name, kind, fd) if xattrs else (),
                                None,
                            ),
                        )
                    )
        except OSError as error:
            raise inoperable(path, "read", error, where) from None
        # Reversed, so that what was found first is listed first, and its parent's
        # descriptor is still at hand.
        to_list.extend(reversed(below))
    if xattrs:
        found[0] = top._replace(xattrs=_xattrs_of(fds.root_fd))
    return found


def _entry(path: bytes, status: os.stat_result, link: bytes = b"") -> Entry:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    mtime, nanoseconds = divmod(status.st_mtime_ns, _BILLION)
    device = status.st_rdev if kind in (BLOCK, CHARACTER) else 0
    return Entry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        mtime,
        nanoseconds,
        status.st_size if kind == FILE else 0,
        link,
        os.major(device),
        os.minor(device),
    )


def _read_xattrs(name: str, kind: str, parent_fd: int) -> tuple[tuple[bytes, bytes], ...]:
    # Only files and directories can have those that are read.
    if kind != FILE and kind != DIRECTORY:
        return ()
    fd = os.open(name, _OPEN_FILE, dir_fd=parent_fd)
    try:
        return _xattrs_of(fd)
    finally:
        os.close(fd)


def _xattrs_of(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    if sys.platform != "linux":
        return ()
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    return tuple(
        sorted(
            (os.fsencode(name), os.getxattr(fd, name))
            for name in names
            if name.startswith("user.") or name == "security.capability"
        )
    )


def _warn_of_socket(path: bytes, emit: Emit) -> None:
    emit(
        Log(
            Level.WARN,
            f"leaving out {shown(path)!r}: a socket can't be packed",
            (("path", shown(path)),),
        )
    )
