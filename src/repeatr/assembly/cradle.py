"""Directories that assembly makes in a root: missing parents, mount points, the cradle."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from repeatr.assembly import paths
from repeatr.assembly.layers import HostMount, Layer, Owner, inside, owner_on_disk
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.dirfds import OPEN_DIRECTORY
from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, Entry
from repeatr.linux.idmaps import IdMap


class Carpenter:
    """Makes and changes directories in a root, and notes what it did in their layers.

    `layer_of` finds the layer that a path of the root belongs to, `host_mount_of` the piece
    of the host that it lies in: there, nothing is made or changed.
    """

    def __init__(
        self,
        root_fd: int,
        idmap: IdMap,
        layer_of: Callable[[bytes], Layer],
        host_mount_of: Callable[[bytes], HostMount | None],
    ) -> None:
        self._root_fd = root_fd
        self._idmap = idmap
        self._layer_of = layer_of
        self._host_mount_of = host_mount_of

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
            if self._host_mount_of(here):
                break
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

    def cradle(self, cwd: bytes, home: bytes, tmp: bytes, owner: Owner) -> None:
        """Make a root habitable: its cwd and home are there and writable to `owner`; /tmp is.

        The paths are resolved. Raises RepeatrError (JOB_INVALID) where a cwd or home can't
        be, and ASSEMBLY_INVALID for /tmp.
        """
        for place in (cwd, home):
            self.directory(place, owner, Category.JOB_INVALID)
            self._add_mode(place, 0o700)
            while place:
                place = place.rpartition(b"/")[0]
                self._add_mode(place, 0o001)
        self._world_writable(tmp)

    def _add_mode(self, path: bytes, bits: int) -> None:
        if self._host_mount_of(path):
            return
        fd = paths.open_directory(self._root_fd, path)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if mode | bits != mode:
                os.fchmod(fd, mode | bits)
        finally:
            os.close(fd)
        layer = self._layer_of(path)
        where = inside(path, layer.at)
        known = layer.expected(where)
        if known is not None and known.mode | bits != known.mode:
            layer.made[where] = known._replace(mode=known.mode | bits)

    def _world_writable(self, path: bytes) -> None:
        """Make `path`, or change it, to a directory 01777 of root: as /tmp is."""
        if self._host_mount_of(path):
            return
        self.directory(path, Owner(0, 0))
        fd = paths.open_directory(self._root_fd, path)
        try:
            os.fchown(fd, *owner_on_disk(self._idmap, Owner(0, 0)))
            os.fchmod(fd, 0o1777)
        finally:
            os.close(fd)
        layer = self._layer_of(path)
        where = inside(path, layer.at)
        known = layer.expected(where)
        if known is not None:
            layer.made[where] = known._replace(mode=0o1777, uid=0, gid=0)

    def _make(self, path: bytes, owner: Owner) -> None:
        parent, _, name = path.rpartition(b"/")
        with self.kept_time(parent) as parent_fd:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent_fd)
            try:
                os.fchown(fd, *owner_on_disk(self._idmap, owner))
                # Explicitly: a umask, and what the parent hands down, must not show.
                os.fchmod(fd, 0o755)
                os.utime(fd, (DEFAULT_MTIME, DEFAULT_MTIME))
            finally:
                os.close(fd)
        layer = self._layer_of(path)
        where = inside(path, layer.at)
        layer.made[where] = Entry(where, DIRECTORY, 0o755, owner.uid, owner.gid, DEFAULT_MTIME)

    @contextlib.contextmanager
    def kept_time(self, path: bytes) -> Iterator[int]:
        """A descriptor of the directory `path`; what happens meanwhile leaves its time alone."""
        fd = paths.open_directory(self._root_fd, path)
        try:
            before = os.fstat(fd)
            yield fd
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)
