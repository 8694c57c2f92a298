"""Directories that assembly makes in a root: missing parents, mount points, the cradle."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from repeatr.assembly import paths
from repeatr.assembly.layers import Layer, Owner, owner_on_disk
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, Entry
from repeatr.linux.idmaps import IdMap


class Carpenter:
    """Makes and changes directories in a root, and notes what it did in their layers.

    `layer_of` finds the layer that a path of the root belongs to.
    """

    def __init__(self, root_fd: int, idmap: IdMap, layer_of: Callable[[bytes], Layer]) -> None:
        self._root_fd = root_fd
        self._idmap = idmap
        self._layer_of = layer_of

    def directory(
        self, path: bytes, owner: Owner, category: Category = Category.ASSEMBLY_INVALID
    ) -> list[bytes]:
        """Make the directory `path` and its missing parents, 0755; the paths that were made.

        Parents that exist keep their time. Raises RepeatrError with `category` where
        something that is no directory is in the way.
        """
        made: list[bytes] = []
        parts = path.split(b"/") if path else []
        for depth in range(1, len(parts) + 1):
            here = b"/".join(parts[:depth])
            found = paths.status(self._root_fd, here)
            if found is None:
                self._make(here, owner)
                made.append(here)
            elif not stat.S_ISDIR(found.st_mode):
                raise RepeatrError(
                    category,
                    f"/{os.fsdecode(path)} can't be made a directory: /{os.fsdecode(here)}"
                    " is in the way and is none",
                    remedy="use another path in the formula, or an input without that entry",
                )
        return made

    def add_mode(self, path: bytes, bits: int) -> None:
        """Set the mode bits `bits` of the directory `path`, if they are not set yet."""
        fd = paths.open_directory(self._root_fd, path)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if mode | bits != mode:
                os.fchmod(fd, mode | bits)
        finally:
            os.close(fd)
        layer, inside = self._inside(path)
        known = layer.expected(inside)
        if known is not None and known.mode | bits != known.mode:
            layer.made[inside] = known._replace(mode=known.mode | bits)

    def world_writable(self, path: bytes) -> None:
        """Make `path`, or change it, to a directory 01777 of root: as /tmp is."""
        self.directory(path, Owner(0, 0))
        fd = paths.open_directory(self._root_fd, path)
        try:
            self._give(fd, Owner(0, 0))
            os.fchmod(fd, 0o1777)
        finally:
            os.close(fd)
        layer, inside = self._inside(path)
        known = layer.expected(inside)
        if known is not None:
            layer.made[inside] = known._replace(mode=0o1777, uid=0, gid=0)

    def cradle(self, cwd: bytes, home: bytes, owner: Owner) -> None:
        """Make a root habitable: its cwd and home are there and writable to `owner`; /tmp is."""
        for place in (cwd, home):
            self.directory(place, owner, Category.JOB_INVALID)
            self.add_mode(place, 0o700)
            while place:
                place = place.rpartition(b"/")[0]
                self.add_mode(place, 0o001)
        self.world_writable(b"tmp")

    def _make(self, path: bytes, owner: Owner) -> None:
        parent, _, name = path.rpartition(b"/")
        with self.kept_time(parent):
            parent_fd = paths.open_directory(self._root_fd, parent)
            try:
                os.mkdir(name, 0o755, dir_fd=parent_fd)
            finally:
                os.close(parent_fd)
        fd = paths.open_directory(self._root_fd, path)
        try:
            self._give(fd, owner)
            os.fchmod(fd, 0o755)
            os.utime(fd, (DEFAULT_MTIME, DEFAULT_MTIME))
            inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        layer, inside = self._inside(path)
        layer.made[inside] = Entry(inside, DIRECTORY, 0o755, owner.uid, owner.gid, DEFAULT_MTIME)
        layer.made_inodes[inside] = inode

    def _give(self, fd: int, owner: Owner) -> None:
        os.fchown(fd, *owner_on_disk(self._idmap, owner))

    @contextlib.contextmanager
    def kept_time(self, path: bytes) -> Iterator[None]:
        """What happens meanwhile does not show in the time of the directory `path`."""
        fd = paths.open_directory(self._root_fd, path)
        try:
            before = os.fstat(fd)
            yield
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)

    def _inside(self, path: bytes) -> tuple[Layer, bytes]:
        layer = self._layer_of(path)
        return layer, path[len(layer.at) :].lstrip(b"/")
