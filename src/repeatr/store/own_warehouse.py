"""The store's own warehouse: where wares are that were made here and saved nowhere else.

It is a directory laid out by hash like any other (`ca+file://`), and is asked for wares for
which no warehouse was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repeatr.errors import RepeatrError
from repeatr.model.wareid import WareID
from repeatr.store.home import open_for_writing, store_problem

#: Its name in the store's directory.
WAREHOUSE = "warehouse"


def own_warehouse(home: Path) -> str:
    """The URL of the warehouse in the store at `home`, which is made where it is missing.

    Raises STORE where it can't be.
    """
    open_for_writing(home)
    try:
        (home / WAREHOUSE).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise store_problem(home, "cannot be made", error) from error
    return _url(home)


def sources_of(home: Path, ware: WareID, given: Sequence[str]) -> Sequence[str]:
    """The warehouses to ask for a ware: those given, else the store's own, if it has it."""
    if given:
        return given
    from repeatr.warehouses.file import FileWarehouse

    try:
        FileWarehouse(str(home / WAREHOUSE), by_hash=True).open(ware).close()
    except RepeatrError:
        return ()
    return (_url(home),)


def _url(home: Path) -> str:
    from urllib.parse import quote

    return f"ca+file://{quote(str(home / WAREHOUSE))}"
