"""Wares made: filesets packed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.fileset import scan as disk
from repeatr.fileset.entry import DIRECTORY, FILE, Entry
from repeatr.fileset.filtering import apply_filters
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.names import shown
from repeatr.fileset.outlet import FilesOnDisk, OpenFile, digest_all, read_out
from repeatr.fileset.treehash import kind_words, tree_hash
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.filters import PACK_DEFAULTS, Filters
from repeatr.model.wareid import NOTHING, WareID
from repeatr.wares.packtypes import packtype
from repeatr.wares.progress import Ticker


class Packed(NamedTuple):
    """A ware that was made, and the manifest of what is in it (empty for `PACKTYPE:-`)."""

    ware: WareID
    manifest: Manifest


def pack(
    kind: str,
    entries: Iterable[Entry],
    open_file: OpenFile,
    out: BinaryIO | None,
    *,
    emit: Emit = ignore,
) -> Packed:
    """Pack `entries`, which have been through the filters, as a ware of packtype `kind`.

    `open_file` opens the content of a file. The bytes go to `out`, which stays open; None
    where only the id is wanted: then nothing is compressed, and files whose entry has a
    digest are not even read. xattrs are packed by sound packtypes alone.

    Raises RepeatrError INOPERABLE_PATH where the root is neither a directory nor a file,
    a file can't be read or changes on the way; PACK_INVALID for what the format cannot
    hold; STORE for a file that is not what its digest says; WAREHOUSE_UNWRITABLE where
    `out` fails.
    """
    form = packtype(kind)
    chosen = list(entries)
    if not form.sound:
        chosen = [entry._replace(xattrs=()) if entry.xattrs else entry for entry in chosen]
    _check_root(chosen)
    if out is None:
        manifest = Manifest(digest_all(chosen, open_file))
    else:
        reading = read_out(sorted(chosen, key=form.order), open_file)
        form.write(_counted(reading, Ticker(f"packing a {kind}", emit, _total(chosen))), out)
        manifest = Manifest(reading.entries)
    return Packed(WareID(kind, tree_hash(manifest, form.sound)), manifest)


def pack_directory(
    kind: str,
    path: str | bytes | os.PathLike[str],
    filters: Filters,
    out: BinaryIO | None,
    *,
    emit: Emit = ignore,
) -> Packed:
    """Pack what is at `path`: a directory, or a file as a fileset of its own.

    `filters` in their pack form, completed by PACK_DEFAULTS. A path that does not exist
    gives `PACKTYPE:-`, with a warning, and nothing is written. Raises as `pack` does, and
    FILTER_REJECTION.
    """
    form = packtype(kind)
    filters = filters.completed(PACK_DEFAULTS)
    if not os.path.lexists(path):
        emit(
            Log(
                Level.WARN,
                f"{shown(os.fsencode(path))!r} does not exist: it packs as {kind}:{NOTHING}",
            )
        )
        return Packed(WareID(kind, NOTHING), Manifest())
    found = disk.scan(path, xattrs=form.sound and filters.xattr != "ignore", emit=emit)
    entries = apply_filters(found, filters, packing=True)
    _check_root(entries, shown(os.fsencode(path)))
    with FilesOnDisk(path) as open_file:
        return pack(kind, entries, open_file, out, emit=emit)


def _check_root(entries: list[Entry], place: str = "") -> None:
    root = next((entry for entry in entries if not entry.path), None)
    if root is None:
        raise ValueError("entries to be packed need a root")
    if root.kind not in (DIRECTORY, FILE):
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"only a directory or a file can be packed, and {repr(place) if place else 'this'}"
            f" is {kind_words(root.kind)}",
            remedy="pack the directory that holds it, or what it points to",
        )


def _total(entries: list[Entry]) -> int:
    return sum(entry[7] for entry in entries)


def _counted(
    items: Iterable[tuple[Entry, bytes | Iterator[bytes]]], ticker: Ticker
) -> Iterator[tuple[Entry, bytes | Iterator[bytes]]]:
    for entry, content in items:
        if isinstance(content, bytes):
            ticker.add(len(content))
            yield entry, content
        else:
            yield entry, _counted_pieces(content, ticker)


def _counted_pieces(pieces: Iterator[bytes], ticker: Ticker) -> Iterator[bytes]:
    for piece in pieces:
        ticker.add(len(piece))
        yield piece
