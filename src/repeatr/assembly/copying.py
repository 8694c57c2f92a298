"""Placing a fileset by copying it: where no overlay can be mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator

from repeatr.assembly.layers import Identity, given, identity
from repeatr.fileset.dirfds import DirFds
from repeatr.fileset.entry import FILE, Entry
from repeatr.fileset.manifest import Manifest
from repeatr.linux.idmaps import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from repeatr.fileset.outlet import OpenFile

_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(manifest: Manifest, source: os.PathLike[str], target_fd: int, idmap: IdMap) -> None:
    """Copy the fileset unpacked at the directory `source` into the empty directory `target_fd`."""
    from repeatr.fileset.place import Placer

    source_fd = os.open(source, _READ_DIRECTORY)
    try:
        with (
            DirFds(source_fd) as directories,
            Placer(target_fd, faithful=False, chown=given(idmap)) as placer,
        ):
            for entry in manifest:
                if entry.kind == FILE:
                    parent, _, name = entry.path.rpartition(b"/")
                    fd = os.open(name, _READ, dir_fd=directories.get(parent))
                    try:
                        placer.place(entry, _pieces(fd))
                    finally:
                        os.close(fd)
                else:
                    placer.place(entry)
    finally:
        os.close(source_fd)


def copy_file(
    entry: Entry, source: os.PathLike[str], parent_fd: int, name: bytes, idmap: IdMap
) -> None:
    """Copy a fileset whose root is a file to `name` in the directory `parent_fd`."""
    from repeatr.fileset.place import Placer

    fd = os.open(source, _READ)
    try:
        with Placer(parent_fd, faithful=False, chown=given(idmap)) as placer:
            placer.place(entry._replace(path=name), _pieces(fd))
    finally:
        os.close(fd)


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, _PIECE):
        yield piece


def walk(
    root_fd: int, skipped: frozenset[bytes]
) -> Iterator[tuple[bytes, Identity, os.stat_result]]:
    """Every entry at and below `root_fd`, parents first, with its identity and lstat.

    `skipped` are paths that are not looked at, nor what is below them.
    """
    status = os.fstat(root_fd)
    yield b"", identity(status, root_fd, "."), status
    with DirFds(root_fd) as directories:
        todo = [b""]
        while todo:
            directory = todo.pop()
            prefix = directory + b"/" if directory else b""
            fd = directories.get(directory)
            with os.scandir(fd) as found:
                for item in found:
                    path = prefix + os.fsencode(item.name)
                    if path in skipped:
                        continue
                    status = item.stat(follow_symlinks=False)
                    yield path, identity(status, fd, item.name), status
                    if item.is_dir(follow_symlinks=False):
                        todo.append(path)


def copy_out(manifest: Manifest, open_file: OpenFile, target: os.PathLike[str]) -> None:
    """Copy a fileset to the new directory `target`, every entry owned by the caller."""
    from repeatr.fileset.place import Placer

    with Placer(target, faithful=False, chown=lambda _uid, _gid: None) as placer:
        for entry in manifest:
            if entry.kind == FILE:
                fd = open_file(entry)
                try:
                    placer.place(entry, _pieces(fd))
                finally:
                    os.close(fd)
            else:
                placer.place(entry)
