"""Compressed streams read: plain, gzip, bzip2, xz and zstd, told apart by their first bytes.

Several gzip, bzip2, xz or zstd streams one after another are one stream, zero bytes
between and after them are padding. A stream that is damaged or cut off is WARE_CORRUPT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from repeatr.errors import Category, RepeatrError
from repeatr.wares import zstd_frames
from repeatr.wares.pipes import ReadAhead

#: How many bytes are read at once, and about how many come out at once.
READ_SIZE = 256 * 1024
PIECE_SIZE = 512 * 1024

_XZ_MAGIC = b"\xfd7zXZ\x00"
#: What follows "BZh" and a digit: the magic of a block, or of the end of an empty stream.
_BZIP2_STARTS = (b"1AY&SY", b"\x17rE8P\x90")
#: More than xz -9 needs (65 MiB), less than what would take a machine down.
_XZ_MEMORY = 1 << 30
#: A decoder that answers nothing this often in a row, without asking for input, is stuck.
_PATIENCE = 1000


class Readable(Protocol):
    """What a ware is read from: `read(n)` gives up to n bytes, and b"" only at the end."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes."""
        ...


class _Decoder(Protocol):
    """What igzip, bz2 and lzma decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def compression_of(head: bytes) -> str:
    """Name the compression of a stream that starts with `head` (ten bytes are enough)."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == zstd_frames.MAGIC or zstd_frames.is_skippable(head[:4]):
        return "zstd"
    if head[:6] == _XZ_MAGIC:
        return "xz"
    if head[:3] == b"BZh" and head[3:4].isdigit() and head[4:10] in _BZIP2_STARTS:
        return "bzip2"
    return "plain"


def decompressed(
    stream: Readable, on_read: Callable[[int], None] | None = None
) -> AbstractContextManager[Iterator[bytes]]:
    """Give the pieces of `stream` without its compression, inflated ahead in a thread.

    `on_read` is told how many compressed bytes were read, from that thread. Raises
    RepeatrError WARE_CORRUPT, and WAREHOUSE_UNAVAILABLE where reading itself fails.
    """
    source = _read(stream, on_read)
    head = next(source, b"")
    compression = compression_of(head)
    whole = _chain(head, source)
    if compression == "plain":
        pieces = whole
    elif compression == "zstd":
        pieces = _unzstd(whole)
    else:
        pieces = _unpack_members(compression, whole)
    if len(head) < READ_SIZE:
        # All of it is here already: a thread would cost more than it saves.
        return nullcontext(pieces)
    return ReadAhead(pieces)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _read(stream: Readable, on_read: Callable[[int], None] | None) -> Iterator[bytes]:
    """Read in pieces of READ_SIZE, also from a stream that answers in smaller ones.

    Whole pieces matter for the first one, which tells the compression.
    """
    while True:
        parts: list[bytes] = []
        missing = READ_SIZE
        while missing:
            try:
                part = stream.read(missing)
            except OSError as error:
                raise RepeatrError(
                    Category.WAREHOUSE_UNAVAILABLE, f"reading the ware failed: {error}"
                ) from error
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        if not parts:
            return
        piece = parts[0] if len(parts) == 1 else b"".join(parts)
        if on_read is not None:
            on_read(len(piece))
        yield piece
        if missing > 0:
            return


def _corrupt(compression: str, what: str) -> RepeatrError:
    return RepeatrError(
        Category.WARE_CORRUPT,
        f"corrupt {compression} stream: {what}",
        remedy="this copy of the ware is damaged: fetch it from another warehouse",
    )


def _class(error: object) -> type[Exception]:
    """An exception class that isal's stubs declare as an instance."""
    assert isinstance(error, type)
    return error


def _maker(compression: str) -> tuple[Callable[[], _Decoder], tuple[type[Exception], ...], bytes]:
    """How to decode one member of a stream, what that raises, and what members start with."""
    if compression == "gzip":
        from isal import igzip_lib

        return (
            lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP),
            (_class(igzip_lib.IsalError), EOFError, ValueError),
            b"\x1f\x8b",
        )
    if compression == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError, EOFError, ValueError), b"BZh"
    import lzma

    return (
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
        (lzma.LZMAError, EOFError, ValueError),
        _XZ_MAGIC,
    )


def _unpack_members(compression: str, source: Iterator[bytes]) -> Iterator[bytes]:
    make, errors, magic = _maker(compression)
    data = next(source)
    while True:
        decoder = make()
        stuck = 0
        while not decoder.eof:
            if not data and decoder.needs_input:
                data = next(source, b"")
                if not data:
                    raise _corrupt(compression, "it ends in the middle")
            try:
                piece = decoder.decompress(data, PIECE_SIZE)
            except errors as error:
                raise _corrupt(compression, str(error)) from error
            stuck = 0 if piece or data else stuck + 1
            if stuck > _PATIENCE:
                raise _corrupt(compression, "it makes no sense")
            data = b""
            if piece:
                yield piece
        data = decoder.unused_data.lstrip(b"\0")
        while len(data) < len(magic):
            more = next(source, b"")
            if not more:
                break
            data = (data + more).lstrip(b"\0")
        if not data:
            return
        if not data.startswith(magic):
            raise _corrupt(compression, f"it is followed by what is not {compression}")


class _Watched:
    """What the zstd decompressor reads from."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self.frames = zstd_frames.FrameWatcher()

    def read(self, _size: int = -1) -> bytes:
        piece = next(self._source, b"")
        self.frames.feed(piece)
        return piece


def _unzstd(source: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    watched = _Watched(source)
    # The type stubs ask for a whole IO object; only read() is used.
    reader = zstandard.ZstdDecompressor().stream_reader(
        watched,  # type: ignore[arg-type]
        read_size=READ_SIZE,
        read_across_frames=True,
    )
    while True:
        try:
            piece = reader.read(PIECE_SIZE)
        except zstandard.ZstdError as error:
            raise _corrupt("zstd", str(error)) from error
        if not piece:
            break
        yield piece
    if not watched.frames.between_frames:
        raise _corrupt("zstd", "it ends in the middle")
