"""Assembling a root: filesets and pieces of the host, from the shortest path down.

Everything happens in a directory of the run and, where it may mount, in the enclosure's
mount namespace. A root is a context manager: leaving it lets go of every mount.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from repeatr.assembly import copying, overlay, paths
from repeatr.assembly.cradle import Carpenter
from repeatr.assembly.layers import HostMount, Layer, Owner, empty_root
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, FILE, Entry
from repeatr.fileset.manifest import Manifest
from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure
from repeatr.linux.idmaps import IdMap
from repeatr.model.events import Emit, Level, Log
from repeatr.model.wareid import WareID
from repeatr.store.filesets import StoredFileset


class Source(NamedTuple):
    """What an input brings: a fileset of the store, or a piece of the host."""

    fileset: StoredFileset | None = None
    host: str = ""
    writable: bool = False


class Root:
    """A root filesystem for one run, below `directory`, which must be new and empty.

    `path` is where it is. `placement` says how its inputs were placed: `overlay`, `overlay,
    upper layer on tmpfs`, or `copy`.
    """

    def __init__(self, directory: Path, enclosure: Enclosure, owner: Owner, emit: Emit) -> None:
        self.path = directory / "root"
        self.placement = "overlay" if enclosure.can_mount else "copy"
        self.layers: list[Layer] = []
        self.host_mounts: list[HostMount] = []
        #: Mount points that were made for the engine, and are nobody's output.
        self.engine_made: set[bytes] = set()
        self.idmap: IdMap = enclosure.idmap
        self.owner = owner
        self.fd = -1
        self.enclosure = enclosure
        self._directory = directory
        self._emit = emit
        self._mounted: list[Path] = []

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the mounts; the directories are the caller's to remove."""
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
        self.path.mkdir(mode=0o755)
        wanted: dict[bytes, Source] = {}
        for name, source in sources.items():
            if paths.relative(name) in wanted:
                raise RepeatrError(
                    Category.ASSEMBLY_INVALID,
                    f"two inputs have the same path: {name} is another's under a second name",
                    remedy="leave one of them out",
                )
            wanted[paths.relative(name)] = source
        if b"" not in wanted:
            self._place_nothing()
        for path in sorted(wanted, key=lambda each: (len(each), each)):
            source = wanted[path]
            if path:
                path = self._resolve_input(path)
            if source.fileset is None:
                self._mount_host(path, source)
            else:
                self._place(path, source.fileset)

    def prepare(self, mount_points: tuple[str, ...]) -> None:
        """Make the engine's mount points where they are missing, unseen by any output."""
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
            if layer.placement == "copy":
                fd = paths.open_directory(self.fd, layer.at)
                try:
                    copying.remember(layer, fd, self.nested_in(layer))
                finally:
                    os.close(fd)

    @property
    def carpenter(self) -> Carpenter:
        """Makes directories in this root."""
        return Carpenter(self.fd, self.idmap, self.layer_of)

    def layer_of(self, path: bytes) -> Layer:
        """The layer that `path` lies in: the one placed nearest above it."""
        return max(
            (layer for layer in self.layers if paths.within(path, layer.at)),
            key=lambda layer: len(layer.at),
        )

    def host_mount_of(self, path: bytes) -> HostMount | None:
        """The piece of the host that `path` lies in, if it does."""
        return next((m for m in self.host_mounts if paths.within(path, m.at)), None)

    def nested_in(self, layer: Layer) -> frozenset[bytes]:
        """Paths, relative to `layer`, where other layers and pieces of the host begin in it."""
        others = [other.at for other in self.layers if other is not layer]
        others += [mount.at for mount in self.host_mounts]
        return frozenset(
            inside(at, layer.at) for at in others if at != layer.at and paths.within(at, layer.at)
        )

    def _place_nothing(self) -> None:
        self._open_root()
        layer = Layer(b"", empty_root(self.owner, DEFAULT_MTIME), "copy", self.path)
        self.layers.append(layer)
        copying.copy_tree(layer.manifest, self._empty(), self.fd, self.idmap)

    def _empty(self) -> Path:
        empty = self._directory / "empty"
        empty.mkdir(mode=0o700)
        return empty

    def _open_root(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _resolve_input(self, path: bytes) -> bytes:
        try:
            resolved = paths.resolve(self.fd, path, follow_last=True)
        except OSError as problem:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input path /{os.fsdecode(path)} can't be reached: {problem.strerror}",
                remedy="use a path that leads through directories only",
            ) from None
        host = self.host_mount_of(resolved)
        if host is not None:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input at /{os.fsdecode(path)} lies below the host mount at"
                f" /{os.fsdecode(host.at)}",
                remedy="place it elsewhere: Repeatr writes nothing into a mounted host directory",
            )
        return resolved

    def _place(self, at: bytes, fileset: StoredFileset) -> None:
        manifest = fileset.manifest
        if manifest.root.kind != DIRECTORY:
            self._place_file(at, fileset)
            return
        if at:
            self.carpenter.directory(at, self.owner)
        target = self.path / os.fsdecode(at) if at else self.path
        layer = None
        if self.placement != "copy":
            layer = self._overlay(at, fileset, target)
        if layer is None:
            layer = self._copy(at, fileset, target)
        self.layers.append(layer)
        if not at:
            self._open_root()

    def _overlay(self, at: bytes, fileset: StoredFileset, target: Path) -> Layer | None:
        try:
            return self._try_overlay(at, fileset, target)
        except overlay.Unsupported as problem:
            why = str(problem)
        if self.placement == "overlay":
            # The filesystem of the store holds no upper layer; one in memory does.
            self.placement = "overlay, upper layer on tmpfs"
            memory = self._directory / "memory"
            try:
                memory.mkdir(mode=0o700)
                calls.mount("tmpfs", memory, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, "mode=700")
                self._mounted.append(memory)
                self._directory = memory
                layer = self._try_overlay(at, fileset, target)
                self._warn(f"the store's filesystem can hold no overlay ({why}): using memory")
                return layer
            except (overlay.Unsupported, OSError) as problem:
                why = f"{why}; on tmpfs: {problem}"
        self.placement = "copy"
        self._warn(f"no overlay can be mounted here ({why}): copying the inputs")
        return None

    def _try_overlay(self, at: bytes, fileset: StoredFileset, target: Path) -> Layer:
        place = self._directory / f"layer{len(self.layers)}"
        if place.exists():
            place = self._directory / f"layer{len(self.layers)}-again"
        upper = overlay.prepare(place, fileset.root, self.enclosure)
        layer = Layer(at, fileset.manifest, "overlay", upper)
        self._dress(upper, fileset.manifest.root)
        overlay.mount(place, target, self.enclosure)
        self._mounted.append(target)
        return layer

    def _dress(self, upper: Path, entry: Entry) -> None:
        """The root of an overlay shows its upper directory's metadata: make it the input's."""
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            empty = Manifest([entry])
            copying.copy_tree(empty, upper, fd, self.idmap)
        finally:
            os.close(fd)

    def _copy(self, at: bytes, fileset: StoredFileset, target: Path) -> Layer:
        layer = Layer(at, fileset.manifest, "copy", target)
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # What lay here is covered by the input, as a mount would cover it.
            _empty_directory(fd)
            copying.copy_tree(fileset.manifest, fileset.root, fd, self.idmap)
        finally:
            os.close(fd)
        return layer

    def _place_file(self, at: bytes, fileset: StoredFileset) -> None:
        entry = fileset.manifest.root
        if entry.kind != FILE or not at:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input at /{os.fsdecode(at)} ({fileset.ware}) is a lone file",
                remedy='a file can be an input at any path but "/"',
            )
        parent, _, name = at.rpartition(b"/")
        self.carpenter.directory(parent, self.owner)
        found = paths.status(self.fd, at)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"the input at /{os.fsdecode(at)} is a file, and a directory is there already",
                remedy="use another path for it",
            )
        with self.carpenter.kept_time(parent):
            fd = paths.open_directory(self.fd, parent)
            try:
                if found is not None:
                    os.unlink(name, dir_fd=fd)
                copying.copy_file(entry, fileset.root, fd, name, self.idmap)
                inode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
            finally:
                os.close(fd)
        layer = self.layer_of(at)
        where = inside(at, layer.at)
        layer.made[where] = entry._replace(path=where)
        layer.made_inodes[where] = inode

    def _mount_host(self, at: bytes, source: Source) -> None:
        if not at:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                'a piece of the host can\'t be the root ("/")',
                remedy="mount it at another path, beside a fileset at /",
            )
        if not self.enclosure.can_mount:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"mount:{source.host} can't be mounted: {self.enclosure.note}",
                remedy="run where mounts are allowed, or pack it and use its WareID",
            )
        try:
            is_directory = stat.S_ISDIR(os.stat(source.host).st_mode)
        except OSError as problem:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID,
                f"{source.host}, wanted at /{os.fsdecode(at)}, can't be mounted:"
                f" {problem.strerror}",
                remedy="check the path in the formula's input",
            ) from None
        if is_directory:
            self.carpenter.directory(at, self.owner)
        else:
            self._mount_point_file(at)
        target = self.path / os.fsdecode(at)
        try:
            calls.mount(source.host, target, flags=calls.MS_BIND | calls.MS_REC)
            self._mounted.append(target)
            calls.mount(None, target, flags=calls.MS_REC | calls.MS_PRIVATE)
            if not source.writable:
                calls.make_read_only(target)
        except OSError as problem:
            raise RepeatrError(
                Category.ASSEMBLY_INVALID, f"{source.host} can't be mounted: {problem}"
            ) from None
        self.host_mounts.append(HostMount(at, source.host, source.writable))

    def _mount_point_file(self, at: bytes) -> None:
        parent, _, name = at.rpartition(b"/")
        self.carpenter.directory(parent, self.owner)
        if paths.status(self.fd, at) is None:
            with self.carpenter.kept_time(parent):
                fd = paths.open_directory(self.fd, parent)
                try:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=fd))
                finally:
                    os.close(fd)

    def _warn(self, message: str) -> None:
        self._emit(Log(Level.WARN, message))


def inside(path: bytes, at: bytes) -> bytes:
    """`path` relative to the layer at `at`, which it lies in."""
    return path[len(at) :].lstrip(b"/")


def host_source(ware: WareID) -> Source:
    """The source that a `mount:ro:PATH` or `mount:rw:PATH` input names.

    Raises RepeatrError (USAGE) for any other text.
    """
    mode, _, path = ware.hash.partition(":")
    if mode not in ("ro", "rw") or not path.startswith("/"):
        raise RepeatrError(
            Category.USAGE,
            f"{ware} is no mount: expected mount:ro:/PATH or mount:rw:/PATH",
            remedy="give the host's path whole",
        )
    return Source(host=path, writable=mode == "rw")


def _empty_directory(fd: int) -> None:
    from repeatr.store.removal import remove_tree

    for name in os.listdir(fd):
        remove_tree(fd, name)
