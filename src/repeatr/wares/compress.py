"""Compressed streams written: gzip and zstd, deflated in a thread of their own.

The bytes of a gzip stream depend on the content alone (no name, no time, pieces of a fixed
size), so that packing twice gives the same bytes. No id depends on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO

from repeatr.errors import Category, RepeatrError
from repeatr.wares.pipes import WriteBehind

#: What goes through the compressor at once. ISA-L's output depends on it: part of the format
#: in so far as two packs of one fileset are to be the same bytes.
PIECE_SIZE = 128 * 1024

_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3
#: zlib's number for "a gzip header and trailer around a 32 KiB window".
_GZIP_WINDOW = 31


class Compressed:
    """A file object's writing half, in front of `out`: `write(bytes)`, many small ones too.

    `method` is "gzip", "zstd" or "plain". Leaving the context without an error finishes
    the stream; `out` stays open. Raises RepeatrError WAREHOUSE_UNWRITABLE where `out` fails.
    """

    def __init__(self, out: BinaryIO, method: str) -> None:
        self._out = out
        self._compress, self._finish = _encoder(method)
        self._behind = WriteBehind(self._deflate)
        self._parts: list[bytes] = []
        self._held = 0

    def __enter__(self) -> Compressed:
        self._behind.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                if self._held:
                    self._behind.put(b"".join(self._parts))
            except BaseException as failure:
                self._behind.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._behind.__exit__(kind, error, trace)
        if kind is None:
            self._write(self._finish())

    def write(self, data: bytes) -> None:
        """Take bytes to be written."""
        self._parts.append(data)
        self._held += len(data)
        if self._held < PIECE_SIZE:
            return
        whole = data if len(self._parts) == 1 else b"".join(self._parts)
        full = self._held - self._held % PIECE_SIZE
        for start in range(0, full, PIECE_SIZE):
            self._behind.put(whole[start : start + PIECE_SIZE])
        self._held -= full
        self._parts = [whole[full:]] if self._held else []

    def _deflate(self, piece: bytes) -> None:
        self._write(self._compress(piece))

    def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._out.write(data)
        except OSError as error:
            raise RepeatrError(
                Category.WAREHOUSE_UNWRITABLE, f"writing the ware failed: {error}"
            ) from error


def _encoder(method: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """What compresses a piece, and what ends the stream."""
    if method == "gzip":
        from isal import isal_zlib

        gzip = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
        return gzip.compress, gzip.flush
    if method == "zstd":
        import zstandard

        # Any number of threads from one up gives the same bytes.
        threads = min(os.cpu_count() or 1, 4)
        zstd = zstandard.ZstdCompressor(
            level=_ZSTD_LEVEL, threads=threads, write_checksum=True
        ).compressobj()
        return zstd.compress, zstd.flush
    if method == "plain":
        return (lambda piece: piece), (lambda: b"")
    raise ValueError(f"no such compression: {method}")
