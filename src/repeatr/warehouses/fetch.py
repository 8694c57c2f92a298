"""Getting a ware from the first of several warehouses that has it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import warehouse_at
from repeatr.warehouses.layout import check_named

T = TypeVar("T")


def fetch(
    ware: WareID,
    sources: Sequence[str],
    consume: Callable[[BinaryIO], T],
    emit: Emit = ignore,
) -> T:
    """What `consume` makes of the ware's bytes, from the first source that has all of them.

    `sources` are warehouse URLs in the order to try. `consume` reads a stream and verifies
    it; it is called anew, from the start, for the next source when a stream breaks off
    half-way, so it must leave nothing behind when it raises. A missing ware and a warehouse
    that is down are warnings, and the next source is tried. All else that `consume` raises
    is fatal; of a hash mismatch and a corrupt ware it is told which warehouse gave them.

    Raises USAGE for a source that is no address, WARE_NOT_FOUND where every source that
    answered has no such ware, WAREHOUSE_UNAVAILABLE where none answered or there is none.
    """
    check_named(ware)
    if not sources:
        raise RepeatrError(
            Category.WAREHOUSE_UNAVAILABLE,
            f"{ware} is not in the local store, and no warehouse is named to fetch it from",
            remedy="name one: `fetchUrls` in the formula's context, or --source=URL",
        )
    warehouses = [warehouse_at(url, emit) for url in dict.fromkeys(sources)]
    failures: list[RepeatrError] = []
    for warehouse in warehouses:
        try:
            return consumed(warehouse.open(ware), consume)
        except Exception as error:
            failure = _of_warehouse(error)
            if failure is None:
                _tell_where(error, ware, warehouse.url)
                raise
        failures.append(failure)
        if len(failures) < len(warehouses):  # the last one is told by the error
            detail = (("ware", str(ware)), ("warehouse", warehouse.url))
            emit(Log(Level.WARN, f"{failure.message}; trying the next warehouse", detail))
    if len(failures) == 1:
        raise failures[0]
    absent = any(failure.category is Category.WARE_NOT_FOUND for failure in failures)
    reasons = "; ".join(failure.message for failure in failures)
    raise RepeatrError(
        Category.WARE_NOT_FOUND if absent else Category.WAREHOUSE_UNAVAILABLE,
        f"none of {len(failures)} warehouses gave {ware}: {reasons}",
        remedy=next((failure.remedy for failure in failures if failure.remedy), ""),
        details={f"tried.{i}": house.url for i, house in enumerate(warehouses)},
    )


def consumed(stream: BinaryIO, consume: Callable[[BinaryIO], T]) -> T:
    """What `consume` makes of `stream`, which is closed afterwards.

    After an error (or Ctrl-C) nobody waits for that: a thread of the reader's may still be
    in a read from where nothing comes, and closing would wait for it.
    """
    try:
        result = consume(stream)
    except BaseException:
        threading.Thread(target=stream.close, name="close-stream", daemon=True).start()
        raise
    stream.close()
    return result


def _tell_where(error: Exception, ware: WareID, url: str) -> None:
    """Raise the error anew, naming the warehouse, where it is the bytes that are wrong."""
    if not isinstance(error, RepeatrError) or error.category not in (
        Category.WARE_CORRUPT,
        Category.HASH_MISMATCH,
    ):
        return
    where = url if str(ware) in error.message else f"{ware} in {url}"
    raise RepeatrError(
        error.category,
        f"{where}: {error.message}",
        remedy=error.remedy,
        details={**error.details, "ware": str(ware), "warehouse": url},
    ) from error


def _of_warehouse(error: BaseException | None) -> RepeatrError | None:
    """The warehouse's failure behind an error, where there is one.

    A reader deep inside may have taken a broken stream for a corrupt one; the cause is
    still in the chain, and decides.
    """
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, RepeatrError) and error.category in (
            Category.WAREHOUSE_UNAVAILABLE,
            Category.WARE_NOT_FOUND,
        ):
            return error
        error = error.__cause__ or error.__context__
        seen += 1
    return None
