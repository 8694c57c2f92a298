"""How a `ca+` warehouse lays wares out: by hash, as the original does."""

from __future__ import annotations

from repeatr.errors import Category, RepeatrError
from repeatr.model.wareid import NOTHING, WareID


def check_named(ware: WareID) -> None:
    """Refuse a WareID that names no bytes (`tar:-`) or that could leave a directory.

    Raises WARE_NOT_FOUND for the first, USAGE for the second.
    """
    if ware.hash in ("", NOTHING):
        raise RepeatrError(
            Category.WARE_NOT_FOUND,
            f"{ware} names no ware: it is what a path that does not exist packs to",
            remedy="look at the run that made it: its output path was missing",
        )
    WareID.parse(str(ware))


def path_of(ware: WareID) -> str:
    """The relative path of a ware: `ABC/DEF/ABCDEF...` (3 + 3 letters, then the whole hash).

    Raises what `check_named` raises.
    """
    check_named(ware)
    first, second = ware.hash[:3], ware.hash[3:6]
    # Real hashes have letters there; a made-up one could step out of its directory.
    return f"{first}/{second if second.isalnum() else 'x'}/{ware.hash}"


def absent(ware: WareID, place: str, why: str) -> RepeatrError:
    """The error of a warehouse that answers that it has no such ware."""
    oddity = ware.oddity
    return RepeatrError(
        Category.WARE_NOT_FOUND,
        f"{place} has no {ware}: {why}" + (f" ({oddity})" if oddity else ""),
        remedy="check the WareID, and that it was saved to this warehouse",
    )
