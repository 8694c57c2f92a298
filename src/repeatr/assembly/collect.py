"""Outputs: what lies at a path of the root after the process, across all of its layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from repeatr.assembly import changes, paths
from repeatr.assembly.layers import Layer
from repeatr.assembly.root import Root, inside
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.outlet import FilesOnDisk, OpenFile
from repeatr.fileset.scan import scan
from repeatr.model.events import Emit, Level, Log


class Collected(NamedTuple):
    """A fileset to pack: its manifest, in which changed files have no digest yet; its content."""

    manifest: Manifest
    open_file: OpenFile


class Collector:
    """Collects outputs from a root whose process has ended. Layers are read once."""

    def __init__(self, root: Root, emit: Emit) -> None:
        self._root = root
        self._emit = emit
        self._viewer = changes.Viewer(root.enclosure, root.owner)
        self._known: dict[bytes, Manifest] = {}

    @contextmanager
    def collect(self, path: str) -> Iterator[Collected | None]:
        """What is at `path` now; None where nothing is. Its files can be read meanwhile."""
        at = self._resolve(path)
        if at is None or paths.status(self._root.fd, at) is None:
            yield None
            return
        entries = self._entries(at)
        parent, _, name = at.rpartition(b"/")
        parent_fd = paths.open_directory(self._root.fd, parent)
        try:
            where = f"/proc/self/fd/{parent_fd}/{os.fsdecode(name)}" if name else self._root.path
            manifest = Manifest(entries)
            if manifest.root.kind in "fd":
                with FilesOnDisk(where) as open_file:
                    yield Collected(manifest, open_file)
            else:
                yield Collected(manifest, _nothing_to_open)
        finally:
            os.close(parent_fd)

    def _resolve(self, path: str) -> bytes | None:
        try:
            return paths.resolve(self._root.fd, paths.relative(path), follow_last=False)
        except OSError:
            return None

    def _entries(self, at: bytes) -> list[Entry]:
        root = self._root
        host = root.host_mount_of(at)
        if host is not None:
            return self._scan_host(at)
        layer = root.layer_of(at)
        entries = list(self._of_layer(layer).subtree(inside(at, layer.at)))
        nested = [each.at for each in root.layers if each.at != at and paths.within(each.at, at)]
        nested += [each.at for each in root.host_mounts if paths.within(each.at, at)]
        for below in sorted(nested, key=len):
            entries = _grafted(entries, inside(below, at), self._nested_entries(below))
        return entries

    def _nested_entries(self, at: bytes) -> list[Entry]:
        for layer in self._root.layers:
            if layer.at == at:
                return list(self._of_layer(layer))
        return self._scan_host(at)

    def _scan_host(self, at: bytes) -> list[Entry]:
        # A piece of the host has no manifest: all of it is read.
        return scan(self._root.path / os.fsdecode(at), xattrs=True, emit=self._emit)

    def _of_layer(self, layer: Layer) -> Manifest:
        known = self._known.get(layer.at)
        if known is None:
            hidden = frozenset(
                inside(path, layer.at)
                for path in self._root.engine_made
                if self._root.layer_of(path) is layer
            )
            known, sockets = changes.collected(
                layer, self._root.fd, self._viewer, self._root.nested_in(layer), hidden
            )
            for path in sockets:
                shown = os.fsdecode(b"/" + layer.at + b"/" + path).replace("//", "/")
                self._emit(Log(Level.WARN, f"{shown} is a socket, and is left out of the outputs"))
            self._known[layer.at] = known
        return known


def _grafted(entries: list[Entry], at: bytes, scion: list[Entry]) -> list[Entry]:
    """`entries` with all that is at and below `at` replaced by `scion`."""
    kept = [entry for entry in entries if not paths.within(entry.path, at)]
    kept += [entry._replace(path=at + b"/" + entry.path if entry.path else at) for entry in scion]
    return kept


def _nothing_to_open(entry: Entry) -> int:
    raise RepeatrError(
        Category.BUG, f"{os.fsdecode(entry.path)!r} of an output has no content to open"
    )
