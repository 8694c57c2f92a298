"""A base as a ware in a warehouse."""

from __future__ import annotations

import os
from collections.abc import Sequence

from repeatr.base.programs import collect
from repeatr.fileset.entry import Entry
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import warehouse_at
from repeatr.wares.packing import pack


def make(
    programs: Sequence[str], target: str, *, packtype: str = "tree", emit: Emit = ignore
) -> WareID:
    """Pack `programs` with what they need (see `collect`) into the warehouse `target`, a URL.

    Raises as `collect`, `pack` and the warehouse do.
    """
    warehouse = warehouse_at(target, emit)
    warehouse.check_save()
    found = collect(programs)
    sources = {entry.path: source for entry, source in found}

    def open_file(entry: Entry) -> int:
        return os.open(sources[entry.path], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    with warehouse.save() as writer:
        ware = pack(packtype, [each for each, _ in found], open_file, writer.file, emit=emit).ware
        writer.commit(ware)
    size = sum(entry.size for entry, _ in found)
    facts = (("ware", str(ware)), ("files", str(len(found))), ("bytes", str(size)))
    emit(Log(Level.INFO, f"base: saved in {warehouse.url}", facts))
    return ware
