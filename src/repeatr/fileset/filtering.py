"""Filters at work: what of each entry's metadata is kept, flattened or refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import BLOCK, CHARACTER, Entry
from repeatr.fileset.names import shown
from repeatr.model.filters import Filters

#: What a filter makes of an entry; None where it leaves the entry out.
EntryFilter = Callable[[Entry], Entry | None]

_STICKY, _SETID = 0o1000, 0o6000


def entry_filter(filters: Filters, *, packing: bool) -> EntryFilter | None:
    """The function that applies `filters` to one entry; None where there is nothing to do.

    What a filter does not say is left as it is: complete it first (`Filters.completed`).
    While `packing`, mtimes are floored to whole seconds. "mine" is the calling process's
    uid and gid. The function raises RepeatrError FILTER_REJECTION for a set-id bit or a
    device where the filter says reject. A device at the root is kept even where devices
    are ignored, since nothing would be left: whoever packs it refuses it by its kind.
    """
    uid = _owner(filters.uid, os.getuid)
    gid = _owner(filters.gid, os.getgid)
    mtime = None if isinstance(filters.mtime, str) else filters.mtime
    mask = 0o7777
    if filters.sticky == "ignore":
        mask &= ~_STICKY
    if filters.setid == "ignore":
        mask &= ~_SETID
    reject_setid = filters.setid == "reject"
    dev = filters.dev
    keep_devices = dev not in ("ignore", "reject")
    drop_xattrs = filters.xattr == "ignore"
    word = "keep" if packing else "follow"

    if (
        uid is None
        and gid is None
        and mtime is None
        and mask == 0o7777
        and not reject_setid
        and keep_devices
        and not drop_xattrs
        and not packing
    ):
        return None
    new = tuple.__new__

    def apply(entry: Entry) -> Entry | None:
        path, kind, mode, own_uid, own_gid, own_mtime, nanoseconds, *rest = entry
        if reject_setid and mode & _SETID:
            raise _rejected(
                path, f"it has set-id bits (mode {mode:04o})", f"setid={word}", "setid=ignore"
            )
        if not keep_devices and kind in (BLOCK, CHARACTER):
            if dev == "reject":
                raise _rejected(path, "it is a device node", f"dev={word}", "dev=ignore")
            if path:
                return None
        if drop_xattrs and entry[11]:
            rest[4] = ()
        return new(
            Entry,
            (
                path,
                kind,
                mode & mask,
                own_uid if uid is None else uid,
                own_gid if gid is None else gid,
                own_mtime if mtime is None else mtime,
                0 if packing or mtime is not None else nanoseconds,
                *rest,
            ),
        )

    return apply


def apply_filters(entries: Iterable[Entry], filters: Filters, *, packing: bool) -> list[Entry]:
    """All entries after `filters`, in the order given; see `entry_filter`."""
    apply = entry_filter(filters, packing=packing)
    if apply is None:
        return list(entries)
    return [kept for entry in entries if (kept := apply(entry)) is not None]


def _owner(value: int | str | None, mine: Callable[[], int]) -> int | None:
    if value == "mine":
        return mine()
    return value if isinstance(value, int) else None


def _rejected(path: bytes, why: str, keep: str, ignore: str) -> RepeatrError:
    return RepeatrError(
        Category.FILTER_REJECTION,
        f"the filters reject {shown(path)!r}: {why}",
        remedy=f"let it through with the filter {keep}, or go without it with {ignore}",
        details={"path": shown(path)},
    )
