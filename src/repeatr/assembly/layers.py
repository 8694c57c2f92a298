"""Layers: trees of files in a root, and what assembly itself added to them.

Under overlays there is one for each input; where inputs are copied, they are all one. What
a layer expects is the truth about what lies in it before the process starts: the input's
manifest, with the entries that assembly made or changed. What the disk shows may be less
(owners that the user may not give, devices that they may not make).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from repeatr.fileset.entry import DIRECTORY, Entry
from repeatr.fileset.manifest import Manifest
from repeatr.linux.births import birth_of
from repeatr.linux.idmaps import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from repeatr.fileset.place import Chown


class Identity(NamedTuple):
    """What tells an entry on disk from every other, and from itself after a change.

    The inode's number alone does not: filesystems give it to the next file as soon as the
    one that had it is gone. `born`, `changed` and `modified` are times in nanoseconds;
    `born` is 0 on filesystems that don't know it.
    """

    inode: int
    born: int
    changed: int
    modified: int

    def same_entry(self, other: Identity | None) -> bool:
        """Whether both are of one entry, changed or not."""
        return other is not None and self[:2] == other[:2]


class Layer:
    """One tree in a root, and what was added to it.

    `at` is where in the root it begins. `directory` is, of an overlay, its upper directory
    and `lower` the one below; of a copy it is the tree itself, and `lower` is None. `notes`
    begins the names of the attributes that overlayfs leaves on entries. `fd` refers to the
    tree as the process sees it; the owner of the layer closes it.
    """

    def __init__(
        self,
        at: bytes,
        manifest: Manifest,
        directory: Path,
        lower: Path | None = None,
        notes: str = "",
    ) -> None:
        self.at = at
        self.manifest = manifest
        self.directory = directory
        self.lower = lower
        self.notes = notes
        self.fd = -1
        #: Paths in the root of the inputs that are lone files in this layer.
        self.files: list[bytes] = []
        #: Entries that assembly made or changed.
        self.made: dict[bytes, Entry] = {}
        #: Entries on disk as they were before the process started: of a copy all, of an
        #: overlay those in its upper directory.
        self.before: dict[bytes, Identity] = {}
        #: What changed after this time, in nanoseconds, may have changed again since
        #: `before` was noted without showing another time.
        self.settled = 0

    def expected(self, path: bytes) -> Entry | None:
        """The entry at `path` (relative to the layer) before the process started."""
        return self.made.get(path) or self.manifest.get(path)

    def graft(self, at: bytes, manifest: Manifest) -> None:
        """Put a fileset in the place of all that is expected at and below `at`."""
        self.manifest = Manifest(grafted(self.manifest, at, manifest))
        self.made = {path: e for path, e in self.made.items() if not within(path, at)}


class HostMount(NamedTuple):
    """A piece of the host at a path of the root, as a formula's `mount:` input asks."""

    at: bytes
    source: str
    writable: bool
    fd: int


class Owner(NamedTuple):
    """A user and group id."""

    uid: int
    gid: int


def given(idmap: IdMap) -> Chown:
    """Which owners can be given on disk inside the enclosure; the others stay its root's."""

    def chown(uid: int, gid: int) -> tuple[int, int] | None:
        return (uid, gid) if idmap.holds(uid, gid) else None

    return chown


def owner_on_disk(idmap: IdMap, owner: Owner) -> Owner:
    """Whom an entry of `owner` belongs to on disk, inside the enclosure."""
    return owner if idmap.holds(*owner) else Owner(0, 0)


def empty_root(owner: Owner, mtime: int) -> Manifest:
    """The root of a formula that has no input at "/"."""
    return Manifest([Entry(b"", DIRECTORY, 0o755, owner.uid, owner.gid, mtime)])


def below(parent: bytes, name: bytes) -> bytes:
    """The path of `name` in the directory `parent`."""
    return parent + b"/" + name if parent else name


def within(path: bytes, place: bytes) -> bool:
    """Whether `path` is `place` or below it. Both are relative to the root; b"" is the root."""
    return not place or path == place or path.startswith(place + b"/")


def grafted(entries: Iterable[Entry], at: bytes, scion: Iterable[Entry]) -> list[Entry]:
    """`entries` with all that is at and below `at` replaced by those of `scion`."""
    kept = [entry for entry in entries if not within(entry.path, at)]
    kept += [entry._replace(path=at + b"/" + entry.path if entry.path else at) for entry in scion]
    return kept


def inside(path: bytes, at: bytes) -> bytes:
    """`path` relative to the layer at `at`, which it lies in."""
    return path[len(at) :].lstrip(b"/")


def identity(status: os.stat_result, parent_fd: int, name: str | bytes) -> Identity:
    """The identity of `name` in the directory `parent_fd`, whose lstat is `status`."""
    return Identity(
        status.st_ino, birth_of(parent_fd, name), status.st_ctime_ns, status.st_mtime_ns
    )
