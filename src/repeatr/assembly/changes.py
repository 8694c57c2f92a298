"""What a process changed in a layer, read from what changed alone.

Of an overlay that is its upper directory; of a copy, the entries whose identity (inode and
change time) is no longer what it was. All else is as the manifest says it is: unread, with
the owners and devices that the disk may not show.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from repeatr.assembly import copying, paths
from repeatr.assembly.layers import Layer, Owner, below, given
from repeatr.assembly.overlay import is_whiteout, xattr_prefix
from repeatr.fileset.dirfds import DirFds
from repeatr.fileset.entry import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    Entry,
)
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.place import projected_mode, projected_owner
from repeatr.linux.enclosure import Enclosure

_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFBLK: BLOCK,
    stat.S_IFCHR: CHARACTER,
}


class Viewer(NamedTuple):
    """Who looks: from which enclosure, and for which action's owner."""

    enclosure: Enclosure
    owner: Owner


class _Changes:
    """Entries that are new or different, and paths whose former content is gone."""

    def __init__(self, hidden: frozenset[bytes]) -> None:
        self.hidden = hidden
        self.now: dict[bytes, Entry] = {}
        #: Deleted, or replaced together with all that was below.
        self.gone: set[bytes] = set()
        self.sockets: list[bytes] = []


def collected(
    layer: Layer, root_fd: int, viewer: Viewer, nested: frozenset[bytes], hidden: frozenset[bytes]
) -> tuple[Manifest, list[bytes]]:
    """The manifest of `layer` as the process left it, and the sockets that it leaves out.

    `root_fd` is the assembled root. `nested` are paths in the layer where others begin;
    `hidden` are those made for the engine. Digests of changed files are None.
    """
    if layer.placement == "overlay":
        changes = _of_overlay(layer, viewer, hidden)
    else:
        changes = _of_copy(layer, root_fd, viewer, nested, hidden)
    return Manifest(_merge(layer, changes)), changes.sockets


def _merge(layer: Layer, changes: _Changes) -> list[Entry]:
    now, gone = changes.now, changes.gone
    # What was made in an upper directory is in it, or is deleted without a trace.
    made = layer.made if layer.placement == "copy" else {}
    merged = []
    skip: bytes | None = None
    # The manifest's order has what is below a directory follow it at once.
    for entry in layer.manifest:
        path = entry.path
        if skip is not None:
            if path.startswith(skip):
                continue
            skip = None
        if path in gone:
            skip = path + b"/"
            continue
        if path not in now:
            merged.append(made.get(path, entry) if made else entry)
    merged.extend(
        entry
        for path, entry in made.items()
        if path not in now and path not in changes.hidden and layer.manifest.get(path) is None
        if not _under(path, gone)
    )
    merged.extend(now.values())
    return merged


def _under(path: bytes, places: set[bytes]) -> bool:
    while path:
        if path in places:
            return True
        path = path.rpartition(b"/")[0]
    return False


def _of_overlay(layer: Layer, viewer: Viewer, hidden: frozenset[bytes]) -> _Changes:
    changes = _Changes(hidden)
    prefix = xattr_prefix(viewer.enclosure)
    upper_fd = os.open(layer.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        changes.now[b""] = _entry(layer, b"", os.fstat(upper_fd), upper_fd, b".", viewer, True)
        with DirFds(upper_fd) as directories:
            todo = [b""]
            while todo:
                directory = todo.pop()
                fd = directories.get(directory)
                for name in os.listdir(fd):
                    raw = os.fsencode(name)
                    path = below(directory, raw)
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if is_whiteout(status):
                        changes.gone.add(path)
                        continue
                    if path in hidden:
                        continue
                    expected = layer.expected(path)
                    is_directory = stat.S_ISDIR(status.st_mode)
                    if stat.S_ISSOCK(status.st_mode):
                        changes.sockets.append(path)
                        changes.gone.add(path)
                        continue
                    copied_up = _has_note(fd, name, status, prefix + "origin")
                    same = copied_up or layer.made_inodes.get(path) == status.st_ino
                    if not is_directory:
                        changes.gone.add(path)
                    elif (
                        expected is None
                        or expected.kind != DIRECTORY
                        or _has_note(fd, name, status, prefix + "opaque")
                    ):
                        changes.gone.add(path)
                        same = same and expected is not None and expected.kind == DIRECTORY
                    changes.now[path] = _entry(layer, path, status, fd, raw, viewer, same)
                    if is_directory:
                        todo.append(path)
    finally:
        os.close(upper_fd)
    return changes


def _has_note(parent_fd: int, name: str, status: os.stat_result, note: str) -> bool:
    """Whether overlayfs left the attribute `note` on an entry of an upper directory."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    try:
        value = os.getxattr(f"/proc/self/fd/{parent_fd}/{name}", note, follow_symlinks=False)
    except OSError:
        return False
    return note.endswith("origin") or value == b"y"


def _of_copy(
    layer: Layer,
    root_fd: int,
    viewer: Viewer,
    nested: frozenset[bytes],
    hidden: frozenset[bytes],
) -> _Changes:
    changes = _Changes(hidden)
    left = dict(layer.seen)
    #: Directories that took another's place: what lies below them is told whole.
    replaced: set[bytes] = set()
    top = paths.open_directory(root_fd, layer.at)
    try:
        with DirFds(top) as directories:
            for path, seen, status in copying.walk(top, nested):
                before = left.pop(path, None)
                if path in hidden:
                    continue
                parent, _, name = path.rpartition(b"/")
                if parent in replaced:
                    replaced.add(path)
                if before == seen:
                    if path in replaced and (entry := layer.expected(path)) is not None:
                        changes.now[path] = entry
                    continue
                fd = directories.get(parent)
                if stat.S_ISSOCK(status.st_mode):
                    changes.sockets.append(path)
                    changes.gone.add(path)
                    continue
                same = before is not None and before.inode == seen.inode
                if not same or not stat.S_ISDIR(status.st_mode):
                    changes.gone.add(path)
                    replaced.add(path)
                changes.now[path] = _entry(layer, path, status, fd, name or b".", viewer, same)
    finally:
        os.close(top)
    # What was on disk and is no more. (Devices that could not be made never were there.)
    changes.gone.update(path for path in left if path not in hidden)
    return changes


def _entry(
    layer: Layer,
    path: bytes,
    status: os.stat_result,
    parent_fd: int,
    name: bytes,
    viewer: Viewer,
    same: bool,
) -> Entry:
    """The entry at `path` as it is on disk now.

    `same` says that it is the one that was there before the process started, changed or
    not. Then owner and mode count as unchanged where the disk shows what was placed there:
    the disk may not have been able to hold what the manifest says.
    """
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    link = os.readlink(name, dir_fd=parent_fd) if kind == SYMLINK else b""
    mtime, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    mode = stat.S_IMODE(status.st_mode)
    idmap = viewer.enclosure.idmap
    expected = layer.expected(path)
    if expected is not None and expected.kind != kind:
        expected = None
    if expected is not None and kind == SYMLINK and not same:
        # Overlayfs can't leave its note on a symlink: the same text and time will do.
        same = expected.link == link and (expected.mtime, expected.mtime_ns) == (mtime, nanoseconds)
    if not same:
        expected = None
    uid, gid = status.st_uid, status.st_gid
    if expected is not None and (uid, gid) == (projected_owner(expected, given(idmap)) or (0, 0)):
        uid, gid = expected.uid, expected.gid
    elif idmap.kind == "single":
        uid, gid = viewer.owner
    if expected is not None and mode == projected_mode(expected, given(idmap)):
        mode = expected.mode
    return Entry(
        path,
        kind,
        mode,
        uid,
        gid,
        mtime,
        nanoseconds,
        status.st_size if kind == FILE else 0,
        link,
        os.major(status.st_rdev) if kind in (BLOCK, CHARACTER) else 0,
        os.minor(status.st_rdev) if kind in (BLOCK, CHARACTER) else 0,
        _xattrs(parent_fd, name, kind, expected),
        None,
    )


def _xattrs(
    parent_fd: int, name: bytes, kind: str, expected: Entry | None
) -> tuple[tuple[bytes, bytes], ...]:
    """Those that packing reads, from disk; of the others what the manifest says."""
    kept = [] if expected is None else [pair for pair in expected.xattrs if not _read(pair[0])]
    if kind in (FILE, DIRECTORY) and sys.platform == "linux":
        path = b"/proc/self/fd/%d/%s" % (parent_fd, name)
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            names = []
        kept += [
            (os.fsencode(each), os.getxattr(path, each, follow_symlinks=False))
            for each in names
            if _read(os.fsencode(each)) and not each.startswith("user.overlay.")
        ]
    return tuple(sorted(kept))


def _read(name: bytes) -> bool:
    return name.startswith(b"user.") or name == b"security.capability"
