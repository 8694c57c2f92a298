"""What Repeatr does with wares, as functions: the public API, which the commands call too.

Paths are of this machine, sources and targets are URLs of warehouses, filters are text as
on the command line (or `Filters`). Every function raises `RepeatrError`, and tells what
goes on to `emit`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.filters import (
    FOLLOW_ALL,
    PACK_DEFAULTS,
    SCAN_DEFAULTS,
    UNPACK_DEFAULTS,
    Filters,
    Usage,
    parse_filters,
)
from repeatr.model.wareid import WareID

if TYPE_CHECKING:
    from repeatr.model.record import RunRecord
    from repeatr.warehouses.base import Warehouse
    from repeatr.wares.decompress import Readable
    from repeatr.worker.client import Running

#: What can be run: a path, the text of a formula file, or the parsed JSON.
FormulaLike = str | os.PathLike[str] | bytes | Mapping[str, object]


def pack(
    packtype: str,
    path: str | os.PathLike[str],
    *,
    filters: str | Filters = "",
    target: str | None = None,
    emit: Emit = ignore,
) -> WareID:
    """Pack what is at `path`, and save the ware to the warehouse `target` where one is named.

    A path that does not exist gives `PACKTYPE:-`, with a warning, and nothing is saved.
    """
    from repeatr.warehouses.address import warehouse_at
    from repeatr.wares.packing import pack_directory
    from repeatr.wares.packtypes import packtype as known

    known(packtype)
    given = _filters(filters, "pack", PACK_DEFAULTS)
    if target is None:
        return pack_directory(packtype, path, given, None, emit=emit).ware
    warehouse = warehouse_at(target, emit)
    warehouse.check_save()
    with warehouse.save() as writer:
        ware = pack_directory(packtype, path, given, writer.file, emit=emit).ware
        if not ware.is_nothing:
            writer.commit(ware)
    return ware


def unpack(
    ware: str | WareID,
    path: str | os.PathLike[str],
    *,
    sources: Sequence[str] = (),
    filters: str | Filters = "",
    placer: str = "direct",
    emit: Emit = ignore,
) -> WareID:
    """Unpack a ware to `path`: verified, and then there at once, or not at all.

    `path` must be absent or an empty directory. `placer` is one of `assembly.placers.PLACERS`.
    Without `sources` the store is asked, and its own warehouse. Returns the ware's id after
    the filters: by default files become the calling user's.
    """
    from repeatr.assembly.placers import placer_called
    from repeatr.wares.packtypes import packtype

    place = placer_called(placer)
    ware = _ware(ware)
    packtype(ware.packtype)
    given = _filters(filters, "unpack", UNPACK_DEFAULTS)
    return place(ware, _sources(ware, sources), given, os.fspath(path), emit)


def scan(
    packtype: str,
    source: str | os.PathLike[str] | BinaryIO,
    *,
    filters: str | Filters = "",
    emit: Emit = ignore,
) -> WareID:
    """Tell the WareID of the archive at `source`: a path, a URL, or a stream to read.

    Filters do not change the id, but can reject.
    """
    from repeatr.warehouses.fetch import consumed
    from repeatr.wares.packtypes import packtype as known
    from repeatr.wares.unpacking import scan as scan_ware

    known(packtype)
    given = _filters(filters, "unpack", SCAN_DEFAULTS)
    if not isinstance(source, (str, os.PathLike)):
        return scan_ware(packtype, source, filters=given, emit=emit).ware
    return consumed(
        _open_lone(packtype, source, emit),
        lambda stream: scan_ware(packtype, stream, filters=given, emit=emit).ware,
    )


def mirror(
    ware: str | WareID, target: str, *, sources: Sequence[str] = (), emit: Emit = ignore
) -> WareID:
    """Copy a ware's bytes to the warehouse `target`, verifying them on the way.

    Where the target has the ware already (that is verified too), nothing is copied.
    Without `sources` the store's own warehouse is asked.
    """
    from repeatr.warehouses.address import warehouse_at
    from repeatr.warehouses.fetch import fetch
    from repeatr.wares.packtypes import packtype

    ware = _ware(ware)
    packtype(ware.packtype)
    warehouse = warehouse_at(target, emit)
    warehouse.check_save()
    if _has(warehouse, ware, emit):
        emit(Log(Level.INFO, f"{ware} is already in {warehouse.url}"))
        return ware

    def consume(stream: BinaryIO) -> None:
        with warehouse.save() as writer:
            copy = _Copying(stream, writer.file)
            _verify(ware, copy, emit)
            copy.rest()
            writer.commit(ware)

    fetch(ware, _sources(ware, sources), consume, emit)
    emit(Log(Level.INFO, f"{ware} was copied to {warehouse.url}"))
    return ware


def run(
    formula: FormulaLike,
    *,
    engine: str = "",
    memo: bool = False,
    timeout: float | None = None,
    keep: bool = False,
    emit: Emit = ignore,
) -> RunRecord:
    """Run a formula, and give its run record; the process's exit code is in there.

    `formula` is a path to a file, its text as bytes, or the parsed JSON as a mapping.
    `engine`, `memo`, `timeout` (seconds) and `keep` are as of the command. Runs of one
    program share a worker process, and may be in many threads at once.

    Raises RepeatrError where the formula could not be run to its end. A process that ran
    and failed is no error here: look at `exit_code`.
    """
    with start(formula, engine=engine, memo=memo, timeout=timeout, keep=keep) as running:
        for event in running:
            emit(event)
        record, error = running.answer()
    if record is None:
        assert error is not None, "a run ends with a record or an error"
        raise error
    return record


def start(
    formula: FormulaLike,
    *,
    engine: str = "",
    memo: bool = False,
    timeout: float | None = None,
    keep: bool = False,
) -> Running:
    """Start a run as `run` does, and give the handle on it.

    Iterate over it for its events; `answer()` is its record and error; `stop()` asks it to
    end; leaving it as a context manager stops it if it has not ended.
    """
    from repeatr.store.home import home_path
    from repeatr.worker.client import Running
    from repeatr.worker.protocol import Request

    text, name = _formula_text(formula)
    umask = os.umask(0o022)
    os.umask(umask)
    return Running(
        Request(
            formula=text,
            name=name,
            home=os.fspath(home_path()),
            engine=engine or os.environ.get("REPEATR_ENGINE", ""),
            memo=memo,
            timeout=timeout,
            keep=keep,
            directory=os.getcwd(),
            environment=dict(os.environ),
            umask=umask,
        )
    )


def _formula_text(formula: FormulaLike) -> tuple[str, str]:
    if isinstance(formula, Mapping):
        return json.dumps(formula), "formula.json"
    if isinstance(formula, bytes):
        return formula.decode(errors="surrogateescape"), "formula"
    from repeatr.model.text import MAX_BYTES

    path = os.fspath(formula)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise RepeatrError(
            Category.USAGE,
            f"the formula {path} can't be read: {problem.strerror}",
            remedy="check the path",
        ) from None
    return data.decode(errors="surrogateescape"), os.path.basename(path)


class _Copying:
    """A stream that writes what is read from it to a file."""

    def __init__(self, source: Readable, out: BinaryIO) -> None:
        self._source = source
        self._out = out

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._out.write(data)
        return data

    def rest(self) -> None:
        """Copy what nobody read: an archive may end before its file does."""
        while self.read(1 << 20):
            pass


def _verify(ware: WareID, stream: Readable, emit: Emit) -> None:
    from repeatr.wares.unpacking import unpack as unpack_ware

    unpack_ware(ware, stream, None, FOLLOW_ALL, emit=emit)


def _has(warehouse: Warehouse, ware: WareID, emit: Emit) -> bool:
    """Whether a warehouse has a ware, whole and unharmed."""
    try:
        with warehouse.open(ware) as stream:
            _verify(ware, stream, ignore)
    except RepeatrError as error:
        if error.category in (Category.WARE_CORRUPT, Category.HASH_MISMATCH):
            emit(Log(Level.WARN, f"what is in {warehouse.url} is replaced: {error.message}"))
        elif error.category not in (Category.WARE_NOT_FOUND, Category.WAREHOUSE_UNAVAILABLE):
            raise
        return False
    return True


def _sources(ware: WareID, sources: Sequence[str]) -> Sequence[str]:
    """The sources given, or the store's own warehouse where that has the ware."""
    if isinstance(sources, str):
        raise TypeError("sources are several: give a list of URLs")
    from repeatr.store.home import home_path
    from repeatr.store.own_warehouse import sources_of

    return sources_of(home_path(), ware, sources)


def _open_lone(packtype: str, source: str | os.PathLike[str], emit: Emit) -> BinaryIO:
    """A file whose WareID nobody knows yet."""
    from repeatr.warehouses.address import warehouse_at
    from repeatr.warehouses.file import FileWarehouse
    from repeatr.warehouses.redaction import redact

    place = os.fspath(source)
    warehouse: Warehouse
    if isinstance(source, str) and "://" in source:
        if source.startswith("ca+"):
            raise RepeatrError(
                Category.USAGE,
                f"{redact(source)!r} is a warehouse of many wares: which one is meant is not said",
                remedy="name the file of one ware, with file:// or http(s)://",
            )
        warehouse = warehouse_at(source, emit)
    elif os.path.isdir(place):
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"{place!r} is a directory, not an archive",
            remedy=f"for the WareID of what is in it: repeatr pack {packtype} {place}",
        )
    else:
        warehouse = FileWarehouse(place, by_hash=False, url=place)
    try:
        # A warehouse of one ware gives that one, whatever it is asked for.
        return warehouse.open(WareID(packtype, "any"))
    except RepeatrError as error:
        if error.category is not Category.WARE_NOT_FOUND:
            raise
        raise RepeatrError(
            Category.WARE_NOT_FOUND,
            f"there is nothing to scan at {warehouse.url}",
            remedy="check the path",
        ) from error


def _ware(ware: str | WareID) -> WareID:
    return ware if isinstance(ware, WareID) else WareID.parse(ware)


def _filters(filters: str | Filters, usage: Usage, defaults: Filters) -> Filters:
    given = filters if isinstance(filters, Filters) else parse_filters(filters, usage)
    return given.completed(defaults)
