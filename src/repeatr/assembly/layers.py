"""Layers: one input each, placed at its path, and what assembly itself added to it.

A layer's `base` is the truth about what lies in it before the process starts: the input's
manifest, with the entries that assembly made or changed. What the disk shows may be less
(owners that the user may not give, devices that they may not make).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from repeatr.fileset.entry import DIRECTORY, Entry
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.place import Chown
from repeatr.linux.idmaps import IdMap


class Seen(NamedTuple):
    """What tells an entry on disk from every other, and from itself after a change."""

    inode: int
    changed: int


class Layer:
    """One input's tree in a root, and the changes to it."""

    def __init__(
        self,
        at: bytes,
        manifest: Manifest,
        placement: Literal["overlay", "copy"],
        directory: Path,
    ) -> None:
        self.at = at
        self.manifest = manifest
        self.placement = placement
        #: Of an overlay its upper directory, of a copy the tree itself.
        self.directory = directory
        #: Entries that assembly made or changed, and the inodes of those that it made.
        self.made: dict[bytes, Entry] = {}
        self.made_inodes: dict[bytes, int] = {}
        #: Of a copy: every entry as it was before the process started.
        self.seen: dict[bytes, Seen] = {}

    def expected(self, path: bytes) -> Entry | None:
        """The entry at `path` (relative to the layer) before the process started."""
        return self.made.get(path) or self.manifest.get(path)


class HostMount(NamedTuple):
    """A piece of the host at a path of the root, as a formula's `mount:` input asks."""

    at: bytes
    source: str
    writable: bool


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


def identity(status: os.stat_result) -> Seen:
    """What `Seen` an entry has now."""
    return Seen(status.st_ino, status.st_ctime_ns)
