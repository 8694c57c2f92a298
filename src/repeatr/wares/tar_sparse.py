"""GNU sparse files: which parts of a file an archive holds; what is between them is zeros.

There are four ways to say it (GNU tar manual, "Storing Sparse Files"): in the header and
blocks after it (old GNU, typeflag S), in PAX records (0.0 and 0.1), in front of the
content (1.0). A map that is out of order, overlaps, reaches past the file's end or does
not add up to the bytes that are there is WARE_CORRUPT.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from repeatr.fileset.names import corrupt
from repeatr.wares.bytesource import ByteSource
from repeatr.wares.tar_fields import Records, decimal, number, text

#: Bytes of a map that are read at most. Each entry of it takes at least four.
_MAP_LIMIT = 16 * 1024 * 1024

#: A hole costs an archive nothing, but hashing it takes time: what no ext4 can hold is refused.
_SIZE_LIMIT = 1 << 44

_ZEROS = bytes(256 * 1024)

_BLOCK = 512


class SparseFile(NamedTuple):
    """A file with holes: its name if told, its size, the parts (offset, length) stored."""

    name: bytes
    size: int
    parts: tuple[tuple[int, int], ...]
    stored: int

    def expand(self, source: ByteSource) -> Iterator[bytes]:
        """The content in pieces, holes filled with zeros."""
        position = 0
        for offset, length in self.parts:
            yield from _hole(offset - position)
            yield from source.stream(length)
            position = offset + length
        yield from _hole(self.size - position)


def old_gnu(header: bytes, source: ByteSource, stored: int) -> SparseFile:
    """The map of an entry with typeflag S; reads the blocks that continue it."""
    numbers: list[int] = []
    block, count, more = header[386:482], 4, header[482]
    read = 0
    while True:
        for start in range(0, count * 24, 24):
            # An empty offset ends the map.
            if not block[start]:
                break
            numbers.append(number(block[start : start + 12]))
            numbers.append(number(block[start + 12 : start + 24]))
        if not more:
            break
        read += _BLOCK
        if read > _MAP_LIMIT:
            raise corrupt("the map of a sparse file is too big")
        block = source.take(_BLOCK)
        count, more = 21, block[504]
    return _checked(b"", number(header[483:495]), numbers, stored)


def from_records(records: Records, source: ByteSource, stored: int) -> SparseFile | None:
    """The map of an entry with PAX records of GNU.sparse; None where it has none.

    `stored` is the size of the content in the archive. The map of format 1.0 is read from
    the start of that content.
    """
    values = records.values
    major, minor = values.get(b"GNU.sparse.major", b""), values.get(b"GNU.sparse.minor", b"")
    in_map = values.get(b"GNU.sparse.map", b"")
    version_1 = major == b"1" and minor == b"0"
    if not version_1:
        if (major or minor) and (major != b"0" or minor not in (b"0", b"1")):
            raise corrupt(f"version {major!r}.{minor!r} of sparse files is not known")
        if not in_map and not records.sparse:
            return None
    size_text = values.get(b"GNU.sparse.realsize") or values.get(b"GNU.sparse.size") or b""
    size = decimal(size_text) if size_text else stored
    name = values.get(b"GNU.sparse.name", b"")
    if version_1:
        numbers, used = _leading_map(source, stored)
        return _checked(name, size, numbers, stored - used)
    numbers = [decimal(part) for part in in_map.split(b",")] if in_map else list(records.sparse)
    count = values.get(b"GNU.sparse.numblocks", b"")
    if count and decimal(count) * 2 != len(numbers):
        raise corrupt("the map of a sparse file has not as many parts as it says")
    return _checked(name, size, numbers, stored)


def _leading_map(source: ByteSource, stored: int) -> tuple[list[int], int]:
    """Read lines of decimal numbers, their count first, up to the end of their last block.

    Returns the numbers and how many bytes of the content they took.
    """
    numbers: list[int] = []
    wanted = 1
    used = 0
    rest = b""
    while len(numbers) < wanted:
        used += _BLOCK
        if used > min(stored, _MAP_LIMIT):
            raise corrupt("the map of a sparse file is longer than its content")
        *lines, rest = (rest + source.take(_BLOCK)).split(b"\n")
        if len(rest) > _BLOCK:
            raise corrupt("the map of a sparse file holds no numbers")
        for line in lines:
            numbers.append(decimal(line))
            if len(numbers) == 1:
                wanted = 1 + 2 * numbers[0]
                if numbers[0] < 0:
                    raise corrupt("the map of a sparse file has less than no parts")
            if len(numbers) == wanted:
                break
    return numbers[1:], used


def _checked(name: bytes, size: int, numbers: list[int], stored: int) -> SparseFile:
    if not 0 <= size <= _SIZE_LIMIT:
        raise corrupt(f"a sparse file claims an impossible size, {size} bytes")
    if len(numbers) % 2:
        raise corrupt("the map of a sparse file is incomplete")
    parts = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if any(offset < 0 or length < 0 or offset + length > size for offset, length in parts):
        raise corrupt("the map of a sparse file reaches past its end")
    if any(a + length > b for (a, length), (b, _) in pairwise(parts)):
        raise corrupt("the map of a sparse file is out of order")
    if sum(length for _, length in parts) != stored:
        raise corrupt("the map of a sparse file does not fit its content")
    return SparseFile(text(name), size, parts, stored)


def _hole(size: int) -> Iterator[bytes]:
    while size > len(_ZEROS):
        yield _ZEROS
        size -= len(_ZEROS)
    if size:
        yield _ZEROS[:size]
