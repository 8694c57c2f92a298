"""Wares read: scanned for their id, or unpacked."""

from __future__ import annotations

from typing import NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.intake import Intake, take_in
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.place import Placer
from repeatr.fileset.treehash import tree_hash
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.filters import SCAN_DEFAULTS, Filters
from repeatr.model.wareid import WareID
from repeatr.wares.decompress import Readable
from repeatr.wares.packtypes import PackType, packtype
from repeatr.wares.progress import Ticker


class Scanned(NamedTuple):
    """What a stream of bytes is: its id, its entries, and how many of them no id covers."""

    ware: WareID
    manifest: Manifest
    uncovered: int


class Unpacked(NamedTuple):
    """What came of a ware.

    `ware` is its id after filters, `manifest` what is in it, `placed` the same after
    filters: what `Placer` was given.
    """

    ware: WareID
    manifest: Manifest
    placed: Manifest


def scan(
    kind: str, stream: Readable, *, filters: Filters = SCAN_DEFAULTS, emit: Emit = ignore
) -> Scanned:
    """Find the id of the ware of packtype `kind` that `stream` holds.

    The id is the ware's own, before `filters`: those only reject. Says as a warning how
    many entries a `tar` id does not cover. Raises RepeatrError WARE_CORRUPT for what is
    no such ware, FILTER_REJECTION for what a filter rejects.
    """
    form = packtype(kind)
    taken = _take_in(form, stream, None, filters, emit, f"scanning a {kind}")
    ware = WareID(kind, tree_hash(taken.manifest, form.sound))
    uncovered = sum(not form.covers(entry) for entry in taken.manifest)
    if uncovered:
        emit(
            Log(
                Level.WARN,
                f"{uncovered} of {len(taken.manifest)} entries are not covered by the id "
                f"(a {kind} id covers files and directories; the packtype tree covers all)",
                (("uncovered", str(uncovered)), ("entries", str(len(taken.manifest)))),
            )
        )
    return Scanned(ware, taken.manifest, uncovered)


def unpack(
    ware: WareID,
    stream: Readable,
    placer: Placer | None,
    filters: Filters,
    *,
    emit: Emit = ignore,
) -> Unpacked:
    """Unpack `ware` from `stream` with `placer`, through `filters`.

    What is placed is not to be trusted before this returns: the id is known when all is
    read, and a placer's directory is thrown away by its owner where this raises.
    Raises RepeatrError HASH_MISMATCH where the stream is another ware, WARE_CORRUPT where
    it is none, FILTER_REJECTION, and INOPERABLE_PATH where placing fails.
    """
    form = packtype(ware.packtype)
    if ware.is_nothing:
        raise RepeatrError(
            Category.WARE_NOT_FOUND,
            f"{ware} cannot be unpacked: it is the name of a path that did not exist",
        )
    taken = _take_in(form, stream, placer, filters, emit, f"unpacking {ware}")
    found = WareID(ware.packtype, tree_hash(taken.manifest, form.sound))
    if found != ware:
        raise RepeatrError(
            Category.HASH_MISMATCH,
            f"asked for {ware}, and what came is {found}",
            remedy="the warehouse holds something else under this name: use another one, or "
            "ask for what it has",
            details={"expected": str(ware), "actual": str(found)},
        )
    after = found
    if taken.placed is not taken.manifest:
        after = WareID(ware.packtype, tree_hash(taken.placed, form.sound))
    return Unpacked(after, taken.manifest, taken.placed)


def _take_in(
    form: PackType,
    stream: Readable,
    placer: Placer | None,
    filters: Filters,
    emit: Emit,
    what: str,
) -> Intake:
    ticker = Ticker(what, emit)
    with form.read(stream, emit, ticker.add) as entries:
        return take_in(entries, placer=placer, filters=filters, emit=emit)
