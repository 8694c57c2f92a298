"""Assembling a root: filesets and pieces of the host, from the shortest path down.

Everything happens in a directory of the run and, where it may mount, in the enclosure's
mount namespace. A root is a context manager: leaving it lets go of every mount.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from repeatr.assembly import copying, host, overlay, paths
from repeatr.assembly.cradle import Carpenter
from repeatr.assembly.layers import HostMount, Layer, Owner, empty_root, inside, within
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.dirfds import OPEN_DIRECTORY
from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, FILE
from repeatr.fileset.manifest import Manifest
from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure
from repeatr.linux.idmaps import IdMap
from repeatr.model.events import Emit, Level, Log
from repeatr.store.filesets import StoredFileset
from repeatr.store.removal import remove_tree

#: How inputs are placed; the best that works is taken, for all of them.
OVERLAY, OVERLAY_IN_MEMORY, COPY = "overlay", "overlay, upper layer on tmpfs", "copy"

#: Filesystems take the time from a clock that ticks every 1 to 10 ms; in nanoseconds.
_TICK = 20_000_000

_REFER = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(NamedTuple):
    """What an input brings: a fileset of the store, or a piece of the host."""

    fileset: StoredFileset | None = None
    host: str = ""
    writable: bool = False


class Root:
    """A root filesystem for one run, below `directory`, which must be new and empty.

    `path` is where it is, `fd` a descriptor of it. `placement` says how its inputs were
    placed: OVERLAY, OVERLAY_IN_MEMORY or COPY.
    """

    def __init__(self, directory: Path, enclosure: Enclosure, owner: Owner, emit: Emit) -> None:
        self.path = directory / "root"
        self.fd = -1
        self.placement = ""
        self.layers: list[Layer] = []
        self.host_mounts: list[HostMount] = []
        #: Mount points that were made for the engine, and are nobody's output.
        self.engine_made: set[bytes] = set()
        self.owner = owner
        self.enclosure = enclosure
        self.idmap: IdMap = enclosure.idmap
        self._directory = directory
        self._layers = directory
        self._emit = emit
        self._mounted: list[Path] = []

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the mounts; the directories are the caller's to remove."""
        for placed in self._all:
            os.close(placed.fd)
        self.layers, self.host_mounts = [], []
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        while self._mounted:
            with contextlib.suppress(OSError):
                calls.unmount(self._mounted.pop())

    def assemble(self, sources: Mapping[str, Source]) -> None:
        """Place every source at its path, parents first.

        Raises RepeatrError (ASSEMBLY_INVALID) for inputs that can't be placed as asked.
        """
        wanted: dict[bytes, Source] = {}
        for name, source in sources.items():
            path = paths.relative(name)
            if path in wanted:
                raise RepeatrError(
                    Category.ASSEMBLY_INVALID,
                    f"two inputs have the same path: {name} is another's under a second name",
                    remedy="leave one of them out",
                )
            wanted[path] = source
        causes = []
        placements = (OVERLAY, OVERLAY_IN_MEMORY) if self.enclosure.can_mount else ()
        for placement in placements:
            self.placement = placement
            try:
                self._place_all(wanted)
            except overlay.Unsupported as problem:
                causes.append(str(problem))
                self._start_over()
                continue
            if causes:
                self._warn(f"the store can hold no overlay ({causes[0]}): changes go to memory")
            return
        if causes:
            self._warn(f"no overlay can be mounted here ({'; '.join(causes)}): copying the inputs")
        self.placement = COPY
        self._place_all(wanted)

    def prepare(self, mount_points: tuple[str, ...]) -> None:
        """Make the engine's mount points where they are missing, unseen by any output.

        The last change before the process starts: what is on disk then is noted.
        """
        for name in mount_points:
            path = os.fsencode(name)
            found = paths.status(self.fd, path)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                raise RepeatrError(
                    Category.ASSEMBLY_INVALID,
                    f"/{name} of the assembled root is not a directory",
                    remedy="every engine mounts there: leave it out of the input",
                )
            self.engine_made.update(self.carpenter.directory(path, Owner(0, 0)))
        for layer in self.layers:
            layer.settled = time.time_ns() - _TICK
            fd = os.open(layer.directory, OPEN_DIRECTORY)
            try:
                # What is in an upper directory now, assembly put there; it is little.
                for path, now, _status in copying.walk(fd, self.nested_in(layer)):
                    layer.before[path] = now
            finally:
                os.close(fd)

    @property
    def carpenter(self) -> Carpenter:
        """Makes directories in this root."""
        return Carpenter(self.fd, self.idmap, self.layer_of, self.host_mount_of)

    def layer_of(self, path: bytes) -> Layer:
        """The layer that `path` lies in: the one placed nearest above it."""
        return max(
            (layer for layer in self.layers if within(path, layer.at)),
            key=lambda layer: len(layer.at),
        )

    def host_mount_of(self, path: bytes) -> HostMount | None:
        """The piece of the host that `path` lies in, if it does."""
        return next((m for m in self.host_mounts if within(path, m.at)), None)

    def nested_in(self, layer: Layer) -> frozenset[bytes]:
        """Paths, relative to `layer`, where other layers and pieces of the host begin in it."""
        return frozenset(
            inside(other.at, layer.at)
            for other in self._all
            if other is not layer and within(other.at, layer.at)
        )

    def locate(self) -> None:
        """Find out where everything is after the process: it may have renamed directories.

        What was mounted in one of them is in it still.
        """
        top = os.readlink(b"/proc/self/fd/%d" % self.fd)
        for layer in [each for each in self.layers if each.at]:
            at = _found(layer.fd, top)
            if at is None:
                self.layers.remove(layer)
                os.close(layer.fd)
            else:
                layer.at = at
        mounts, self.host_mounts = self.host_mounts, []
        for mount in mounts:
            at = _found(mount.fd, top)
            if at is None:
                os.close(mount.fd)
            else:
                self.host_mounts.append(mount._replace(at=at))

    def _place_all(self, wanted: Mapping[bytes, Source]) -> None:
        self.path.mkdir(mode=0o755)
        layers = self._directory
        if self.placement == OVERLAY_IN_MEMORY:
            layers = self._directory / "memory"
            layers.mkdir(mode=0o700)
            try:
                calls.mount("tmpfs", layers, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "mode=700")
            except OSError as problem:
                raise overlay.Unsupported(f"no tmpfs: {problem}") from None
            self._mounted.append(layers)
        self._layers = layers
        if b"" not in wanted:
            empty = layers / "empty"
            empty.mkdir(mode=0o700)
            self._place_tree(b"", empty_root(self.owner, DEFAULT_MTIME), empty)
        for path in sorted(wanted, key=lambda each: (len(each), each)):
            source = wanted[path]
            at = self._free_place(path) if path else path
            if source.fileset is None:
                self._mount_host(at, source)
            elif source.fileset.manifest.root.kind == DIRECTORY:
                self._place_tree(at, source.fileset.manifest, source.fileset.root)
            else:
                self._place_file(at, source.fileset)

    def _start_over(self) -> None:
        self.release()
        fd = os.open(self._directory, OPEN_DIRECTORY)
        try:
            _empty_directory(fd)
        finally:
            os.close(fd)

    def _free_place(self, path: bytes) -> bytes:
        """Where an input of this path goes, its symlinks resolved."""
        shown = f"the input at /{os.fsdecode(path)}"
        try:
            at = paths.resolve(self.fd, path, follow_last=True)
        except OSError as problem:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"{shown} can't be placed: {problem.strerror}",
                remedy="use a path that leads through directories only",
            ) from None
        mount = self.host_mount_of(at)
        if mount is not None:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"{shown} lies below the host mount at /{os.fsdecode(mount.at)}",
                remedy="place it elsewhere: Repeatr writes nothing into a mounted host directory",
            )
        for other in self._placed:
            if within(other, at):
                raise RepeatrError(
                    Category.ASSEMBLY_INVALID,
                    f"{shown} would hide the input at /{os.fsdecode(other)}:"
                    f" symlinks lead to /{os.fsdecode(at)}",
                    remedy="write the paths of inputs as they are without symlinks",
                )
        return at

    @property
    def _placed(self) -> list[bytes]:
        files = [path for layer in self.layers for path in layer.files]
        return [each.at for each in self._all if each.at] + files

    @property
    def _all(self) -> list[Layer | HostMount]:
        return [*self.layers, *self.host_mounts]

    def _place_tree(self, at: bytes, manifest: Manifest, tree: Path) -> None:
        if at:
            self.carpenter.directory(at, self.owner)
        target = self.path / os.fsdecode(at) if at else self.path
        if self.placement == COPY:
            self._copy(at, manifest, tree, target)
        else:
            self._overlay(at, manifest, tree, target)
        if not at:
            self.fd = os.open(self.path, OPEN_DIRECTORY)

    def _overlay(self, at: bytes, manifest: Manifest, lower: Path, target: Path) -> None:
        place = self._layers / f"layer{len(self.layers)}"
        upper, notes = overlay.prepare(place, lower)
        # The root of an overlay shows its upper directory's metadata: make it the input's.
        fd = os.open(upper, OPEN_DIRECTORY)
        try:
            copying.copy_tree(Manifest([manifest.root]), upper, fd, self.idmap)
        finally:
            os.close(fd)
        overlay.mount(place, target, notes)
        self._mounted.append(target)
        self._add(Layer(at, manifest, upper, lower, notes), target)

    def _copy(self, at: bytes, manifest: Manifest, tree: Path, target: Path) -> None:
        fd = os.open(target, OPEN_DIRECTORY)
        try:
            # What lay here is covered by the input, as a mount would cover it.
            _empty_directory(fd)
            copying.copy_tree(manifest, tree, fd, self.idmap)
        finally:
            os.close(fd)
        if not at:
            self._add(Layer(at, manifest, target), target)
        else:
            # All that is copied is one layer: the process can move any part of it.
            (layer,) = self.layers
            layer.graft(at, manifest)

    def _add(self, layer: Layer, target: Path) -> None:
        layer.fd = os.open(target, _REFER)
        self.layers.append(layer)

    def _place_file(self, at: bytes, fileset: StoredFileset) -> None:
        entry = fileset.manifest.root
        if entry.kind != FILE or not at:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input at /{os.fsdecode(at)} ({fileset.ware}) is a lone file",
                remedy='a file can be an input at any path but "/"',
            )
        self._clear_for_file(at, "file")
        parent, _, name = at.rpartition(b"/")
        with self.carpenter.kept_time(parent) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
            copying.copy_file(entry, fileset.root, fd, name, self.idmap)
        layer = self.layer_of(at)
        where = inside(at, layer.at)
        layer.made[where] = entry._replace(path=where)
        layer.files.append(at)

    def _clear_for_file(self, at: bytes, what: str) -> None:
        self.carpenter.directory(at.rpartition(b"/")[0], self.owner)
        found = paths.status(self.fd, at)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input at /{os.fsdecode(at)} is a {what}, and a directory is there already",
                remedy="use another path for it",
            )

    def _mount_host(self, at: bytes, source: Source) -> None:
        if host.is_directory(source.host, at, self.enclosure):
            self.carpenter.directory(at, self.owner)
        else:
            self._clear_for_file(at, "file of the host")
            parent, _, name = at.rpartition(b"/")
            if paths.status(self.fd, at) is None:
                with self.carpenter.kept_time(parent) as fd:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=fd))
        target = self.path / os.fsdecode(at)
        host.bind(source.host, target, writable=source.writable)
        self._mounted.append(target)
        fd = os.open(target, _REFER)
        self.host_mounts.append(HostMount(at, source.host, source.writable, fd))

    def _warn(self, message: str) -> None:
        self._emit(Log(Level.WARN, message))


def _found(fd: int, top: bytes) -> bytes | None:
    """Where in the root at `top` the mount is that `fd` refers to; None: out of it."""
    try:
        path = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError:  # deeper than any path may be long
        return None
    return path[len(top) + 1 :] if path.startswith(top + b"/") else None


def _empty_directory(fd: int) -> None:
    for name in os.listdir(fd):
        remove_tree(fd, name)
