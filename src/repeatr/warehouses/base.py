"""The contract of a warehouse: a place that holds wares, named by a URL.

A warehouse is a location and never part of a ware's identity: whatever it hands out is
checked against the WareID by whoever unpacks it. So a warehouse promises little: bytes in,
the same bytes out, and that nobody ever sees a ware that is only half there.
"""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO, Protocol

from repeatr.model.wareid import WareID


class Writer(Protocol):
    """A ware on its way into a warehouse. A context manager.

    Its WareID is often known only when all bytes are written, so it is told to `commit`.
    Leaving the context without a commit leaves the warehouse as it was.
    """

    @property
    def file(self) -> BinaryIO:
        """Where the bytes go. Its `write` takes all it is given or raises
        WAREHOUSE_UNWRITABLE."""
        ...

    def commit(self, ware: WareID) -> None:
        """Make what was written the ware `ware`, atomically. Raises WAREHOUSE_UNWRITABLE."""
        ...

    def __enter__(self) -> Writer: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Warehouse(Protocol):
    """A place that holds wares."""

    @property
    def url(self) -> str:
        """Its address as it may be shown: without passwords and tokens."""
        ...

    def open(self, ware: WareID) -> BinaryIO:
        """The bytes of a ware, as a stream (a context manager).

        Raises WARE_NOT_FOUND where the warehouse answers that it has no such ware,
        WAREHOUSE_UNAVAILABLE where it does not answer or may not be read. Reading the stream
        raises WAREHOUSE_UNAVAILABLE where it breaks off; who reads it lets that through.
        """
        ...

    def save(self) -> Writer:
        """A writer for one ware.

        Entering it raises WAREHOUSE_UNAVAILABLE where the place does not exist, and
        WAREHOUSE_UNWRITABLE where it takes nothing.
        """
        ...

    def check_save(self) -> None:
        """Raise what `save` would raise, as far as can be told without writing.

        For asking before long work, not afterwards.
        """
        ...
