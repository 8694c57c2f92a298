"""From a URL to the warehouse it names."""

from __future__ import annotations

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, ignore
from repeatr.warehouses.base import Warehouse
from repeatr.warehouses.redaction import redact

#: The URL schemes that are known, as an error tells them.
SCHEMES = ("file", "ca+file", "http", "https", "ca+http", "ca+https")


def warehouse_at(url: str, emit: Emit = ignore) -> Warehouse:
    """The warehouse that a URL names. Nothing is opened or asked yet.

    `emit` hears what it has to say while it works (retries). Raises USAGE for a URL that
    is none, or whose scheme is not one of `SCHEMES`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise RepeatrError(
            Category.USAGE,
            f"{redact(url)!r} is not the address of a warehouse",
            remedy="known are " + ", ".join(f"{each}://" for each in SCHEMES),
        )
    if not rest or "\0" in rest:
        raise RepeatrError(
            Category.USAGE,
            f"the warehouse address {redact(url)!r} names no place",
            remedy=f"write it as {scheme}://{'PATH' if 'file' in scheme else 'HOST/PATH'}",
        )
    by_hash = scheme.startswith("ca+")
    if scheme.endswith("file"):
        from repeatr.warehouses.file import FileWarehouse

        return FileWarehouse(_unquote(rest), by_hash=by_hash, url=url)
    from repeatr.warehouses.http import HttpWarehouse

    return HttpWarehouse(url, emit=emit)


def _unquote(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote

    return unquote(path, errors="surrogateescape")
