"""What a process changed in a layer, read from what changed alone.

Of an overlay that is its upper directory; of a copy, the entries whose identity (inode and
times) is no longer what it was. All else is as the manifest says it is: unread, with the
owners and devices that the disk may not show.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from repeatr.assembly import copying
from repeatr.assembly.layers import Layer, Owner, below, given, identity
from repeatr.assembly.overlay import is_whiteout
from repeatr.fileset.dirfds import OPEN_DIRECTORY, DirFds
from repeatr.fileset.entry import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FILE,
    SOCKET,
    SYMLINK,
    Entry,
)
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.scan import KINDS
from repeatr.linux.idmaps import IdMap

_SETID = 0o6000

#: Every filesystem of Linux keeps times in this range; of others what it keeps must be seen.
_TIMES_KEPT = range(2**31)


class Viewer(NamedTuple):
    """Who looks: with which id map, and for which action's owner."""

    idmap: IdMap
    owner: Owner


class Collected(NamedTuple):
    """A layer as the process left it, and the sockets in it, which no manifest holds."""

    manifest: Manifest
    sockets: frozenset[bytes]


class _Changes:
    """Entries that are new or different, and paths whose former content is gone."""

    def __init__(self) -> None:
        self.now: dict[bytes, Entry] = {}
        #: Deleted, or replaced together with all that was below.
        self.gone: set[bytes] = set()
        self.sockets: list[bytes] = []

    def add(self, entry: Entry) -> None:
        """Note an entry. Sockets are in no fileset."""
        if entry.kind == SOCKET:
            self.sockets.append(entry.path)
        else:
            self.now[entry.path] = entry


class _Found(NamedTuple):
    """An entry on disk: `name` in the directory `parent_fd`, and whether it is an old one.

    `same` says that it was there before the process started, changed or not.
    """

    path: bytes
    status: os.stat_result
    parent_fd: int
    name: str
    same: bool


def collected(
    layer: Layer, viewer: Viewer, nested: frozenset[bytes], hidden: frozenset[bytes]
) -> Collected:
    """`layer` as the process left it.

    `nested` are paths in the layer where others begin; `hidden` are those made for the
    engine. Digests of changed files are None.
    """
    fd = os.open(layer.directory, OPEN_DIRECTORY)
    try:
        if layer.lower is None:
            changes = _of_copy(layer, fd, viewer, nested, hidden)
        else:
            changes = _of_overlay(layer, fd, viewer, hidden)
    finally:
        os.close(fd)
    return Collected(Manifest(_merge(layer, changes, hidden)), frozenset(changes.sockets))


def _merge(layer: Layer, changes: _Changes, hidden: frozenset[bytes]) -> list[Entry]:
    now, gone = changes.now, changes.gone
    # What was made in an upper directory is in it, or is deleted without a trace.
    made = layer.made if layer.lower is None else {}
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
        if path not in now and path not in hidden and layer.manifest.get(path) is None
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


def _of_overlay(layer: Layer, upper_fd: int, viewer: Viewer, hidden: frozenset[bytes]) -> _Changes:
    changes = _Changes()
    top = _Found(b"", os.fstat(upper_fd), upper_fd, ".", same=True)
    changes.add(_entry(layer, top, viewer))
    with DirFds(upper_fd) as directories, _Origins(layer) as origins:
        todo = [b""]
        while todo:
            directory = todo.pop()
            fd = directories.get(directory)
            for name in os.listdir(fd):
                path = below(directory, os.fsencode(name))
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if is_whiteout(status):
                    changes.gone.add(path)
                    continue
                if path in hidden:
                    continue
                expected = layer.expected(path)
                is_directory = stat.S_ISDIR(status.st_mode)
                was_directory = expected is not None and expected.kind == DIRECTORY
                same = origins.same(path, status, fd, name)
                if not (
                    is_directory
                    and was_directory
                    and _note(fd, name, status, layer.notes + "opaque") != b"y"
                ):
                    changes.gone.add(path)
                changes.add(_entry(layer, _Found(path, status, fd, name, same), viewer))
                if is_directory:
                    todo.append(path)
    return changes


class _Origins:
    """Tells which entries of an upper directory are old ones: copied up, or made by assembly."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        assert layer.lower is not None
        self._top = os.open(f"/proc/self/fd/{layer.fd}", OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        self._lower = os.open(layer.lower, OPEN_DIRECTORY)
        self._seen, self._below = DirFds(self._top), DirFds(self._lower)
        one = os.stat(layer.lower).st_dev == os.stat(layer.directory).st_dev
        #: On one filesystem, overlayfs shows a copied-up entry under the old one's number.
        self._told_by_number = one

    def __enter__(self) -> _Origins:
        return self

    def __exit__(self, *_error: object) -> None:
        self._seen.close()
        self._below.close()
        os.close(self._top)
        os.close(self._lower)

    def same(self, path: bytes, status: os.stat_result, fd: int, name: str) -> bool:
        """Whether `name` in the upper directory `fd` is what was at `path` before."""
        before = self._layer.before.get(path)
        if before is not None and identity(status, fd, name).same_entry(before):
            return True
        if _note(fd, name, status, self._layer.notes + "origin") is None:
            return False
        # The note goes with an entry that is renamed, also over another.
        return not self._told_by_number or self._number_is_old(path, status.st_ino)

    def _number_is_old(self, path: bytes, upper: int) -> bool:
        parent, _, name = path.rpartition(b"/")
        try:
            seen = os.stat(name, dir_fd=self._seen.get(parent), follow_symlinks=False).st_ino
            old = os.stat(name, dir_fd=self._below.get(parent), follow_symlinks=False).st_ino
        except OSError:
            return False
        # In a user namespace overlayfs forgets the old number when it runs out of memory, and
        # shows the upper one: then the note must do.
        return seen in (old, upper)


def _note(parent_fd: int, name: str, status: os.stat_result, note: str) -> bytes | None:
    """What overlayfs noted in the attribute `note` of an entry of an upper directory."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    try:
        return os.getxattr(f"/proc/self/fd/{parent_fd}/{name}", note, follow_symlinks=False)
    except OSError:
        return None


def _of_copy(
    layer: Layer, top: int, viewer: Viewer, nested: frozenset[bytes], hidden: frozenset[bytes]
) -> _Changes:
    changes = _Changes()
    left = dict(layer.before)
    #: Directories that took another's place: what lies below them is told whole.
    replaced: set[bytes] = set()
    with DirFds(top) as directories:
        for path, seen, status in copying.walk(top, nested | hidden):
            before = left.pop(path, None)
            parent, _, name = path.rpartition(b"/")
            moved = parent in replaced and path != b""
            if moved and stat.S_ISDIR(status.st_mode):
                replaced.add(path)
            if before == seen and seen.changed < layer.settled:
                # It came here in a directory that was moved away and back: not changed.
                if moved and (entry := layer.expected(path)) is not None:
                    changes.now[path] = entry
                continue
            same = seen.same_entry(before)
            if not same or not stat.S_ISDIR(status.st_mode):
                changes.gone.add(path)
                replaced.add(path)
            fd = directories.get(parent)
            found = _Found(path, status, fd, os.fsdecode(name) or ".", same)
            changes.add(_entry(layer, found, viewer))
    # What was on disk and is no more. (Devices that could not be made never were there.)
    changes.gone.update(path for path in left if path not in hidden)
    return changes


def _entry(layer: Layer, found: _Found, viewer: Viewer) -> Entry:
    """The entry that was found on disk.

    Of one that is an old one, owner and mode count as unchanged where the disk shows what
    was placed there: the disk may not have been able to hold what the manifest says.
    """
    path, status, parent_fd, name, same = found
    expected = layer.expected(path)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    link = os.fsencode(os.readlink(name, dir_fd=parent_fd)) if kind == SYMLINK else b""
    mtime, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    device = status.st_rdev if kind in (BLOCK, CHARACTER) else 0
    now = Entry(
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
    if expected is not None and not (expected.kind == kind and (same or _alike(expected, now))):
        expected = None
    now = _with_owner(now, expected, viewer)
    if expected is not None and _time_is_old(layer, expected, status):
        now = now._replace(mtime=expected.mtime, mtime_ns=expected.mtime_ns)
    return now._replace(xattrs=_xattrs(parent_fd, name, kind, expected))


def _alike(expected: Entry, now: Entry) -> bool:
    """Whether an entry on which overlayfs can leave no note is the old one, copied up."""
    return (
        now.kind not in (FILE, DIRECTORY)
        and (now.link, now.major, now.minor) == (expected.link, expected.major, expected.minor)
        and (now.mtime, now.mtime_ns) == (expected.mtime, expected.mtime_ns)
    )


def _with_owner(now: Entry, expected: Entry | None, viewer: Viewer) -> Entry:
    if expected is not None:
        shown = given(viewer.idmap)(expected.uid, expected.gid)
        if (now.uid, now.gid) == (shown or (0, 0)):
            # Without their owner, set-id bits are not given either.
            placed = expected.mode if shown else expected.mode & ~_SETID
            mode = expected.mode if now.mode == placed else now.mode
            return now._replace(uid=expected.uid, gid=expected.gid, mode=mode)
    if viewer.idmap.kind == "single":
        return now._replace(uid=viewer.owner.uid, gid=viewer.owner.gid)
    return now


def _time_is_old(layer: Layer, expected: Entry, status: os.stat_result) -> bool:
    """Whether the time on disk is all that the disk could keep of the expected one."""
    if expected.mtime in _TIMES_KEPT:
        return False
    before = layer.before.get(expected.path)
    if before is not None:
        return before.modified == status.st_mtime_ns
    if layer.lower is None:
        return False
    try:
        path = os.fsencode(layer.lower) + b"/" + expected.path
        return os.stat(path, follow_symlinks=False).st_mtime_ns == status.st_mtime_ns
    except OSError:
        return False


def _xattrs(
    parent_fd: int, name: str, kind: str, expected: Entry | None
) -> tuple[tuple[bytes, bytes], ...]:
    """Those that packing reads, from disk; of the others what the manifest says."""
    kept = [] if expected is None else [pair for pair in expected.xattrs if not _read(pair[0])]
    if kind in (FILE, DIRECTORY) and sys.platform == "linux":
        path = f"/proc/self/fd/{parent_fd}/{name}"
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
