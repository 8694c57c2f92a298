"""Outputs: what lies at a path of the root after the process, across all of its layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from repeatr.assembly import changes, paths
from repeatr.assembly.layers import HostMount, Layer, grafted, inside, within
from repeatr.assembly.root import Root
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DIRECTORY, FILE, Entry
from repeatr.fileset.manifest import Manifest
from repeatr.model.events import Emit, Level, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from repeatr.fileset.outlet import OpenFile


class Collected(NamedTuple):
    """A fileset to pack: its manifest, in which changed files have no digest yet; its content."""

    manifest: Manifest
    open_file: OpenFile


class Collector:
    """Collects outputs from a root whose process has ended. Layers are read once.

    Without `host`, pieces of the host that are mounted in the root are left out.
    """

    def __init__(self, root: Root, emit: Emit, *, host: bool = True) -> None:
        self._root = root
        self._emit = emit
        self._host = host
        self._viewer = changes.Viewer(root.idmap, root.owner)
        self._known: dict[Layer, changes.Collected] = {}
        root.locate()

    @contextmanager
    def collect(self, path: str) -> Iterator[Collected | None]:
        """What is at `path` now; None where nothing is. Its files can be read meanwhile.

        Symlinks on the way are followed, within the root. Raises RepeatrError
        (INOPERABLE_PATH) for a socket.
        """
        at = self._resolve(path)
        entries = [] if at is None else self._entries(at)
        if at is None or not entries:
            yield None
            return
        manifest = Manifest(entries)
        if manifest.root.kind not in (FILE, DIRECTORY):
            yield Collected(manifest, _nothing_to_open)
            return
        from repeatr.fileset.outlet import FilesOnDisk

        parent, _, name = at.rpartition(b"/")
        parent_fd = paths.open_directory(self._root.fd, parent)
        try:
            where = f"/proc/self/fd/{parent_fd}/{os.fsdecode(name)}" if name else self._root.path
            with FilesOnDisk(where) as open_file:
                yield Collected(manifest, open_file)
        finally:
            os.close(parent_fd)

    def _resolve(self, path: str) -> bytes | None:
        try:
            return paths.resolve(self._root.fd, paths.relative(path), follow_last=False)
        except OSError:
            return None

    def _entries(self, at: bytes) -> list[Entry]:
        root = self._root
        mount = root.host_mount_of(at)
        if mount is not None:
            return self._of_host(mount, at)
        layer = root.layer_of(at)
        where = inside(at, layer.at)
        entries = list(self._of_layer(layer, where).subtree(where))
        nested: list[Layer | HostMount] = [*root.layers, *root.host_mounts]
        for each in sorted(nested, key=lambda one: len(one.at)):
            if each.at != at and within(each.at, at):
                if isinstance(each, Layer):
                    scion = list(self._of_layer(each, b""))
                else:
                    scion = self._of_host(each, each.at)
                entries = grafted(entries, inside(each.at, at), scion)
        return entries

    def _of_host(self, mount: HostMount, at: bytes) -> list[Entry]:
        """A piece of the host has no manifest: all of it is read."""
        from repeatr.fileset.scan import scan

        if not self._host:
            return []
        where = f"/proc/self/fd/{self._root.fd}/{os.fsdecode(at)}"
        if paths.status(self._root.fd, at) is None:
            return []
        return scan(where, xattrs=True, emit=self._emit)

    def _of_layer(self, layer: Layer, wanted: bytes) -> Manifest:
        """The layer now; its sockets at and below `wanted` are told."""
        known = self._known.get(layer)
        if known is None:
            hidden = frozenset(
                inside(path, layer.at)
                for path in self._root.engine_made
                if self._root.layer_of(path) is layer
            )
            nested = self._root.nested_in(layer)
            known = changes.collected(layer, self._viewer, nested, hidden)
            self._known[layer] = known
        for path in sorted(each for each in known.sockets if within(each, wanted)):
            shown = os.fsdecode(b"/".join(part for part in (layer.at, path) if part))
            if path == wanted:
                raise RepeatrError(
                    Category.INOPERABLE_PATH,
                    f"the output /{shown} is a socket: only directories and files can be packed",
                    remedy="pack the directory that holds it",
                )
            self._emit(Log(Level.WARN, f"leaving out /{shown}: a socket can't be packed"))
        return known.manifest


def _nothing_to_open(entry: Entry) -> int:
    raise RepeatrError(
        Category.BUG, f"{os.fsdecode(entry.path)!r} of an output has no content to open"
    )
