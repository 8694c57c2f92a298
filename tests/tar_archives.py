"""Tar archives made by hand, block by block, for the tests."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

from repeatr.fileset.entry import Content, Entry, HardLink
from repeatr.model.events import Emit, ignore
from repeatr.wares.decompress import decompressed
from repeatr.wares.tar_reader import read_tar

END = bytes(1024)


def header(
    name: bytes = b"a",
    *,
    flag: bytes = b"0",
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    size: int | bytes = 0,
    mtime: bytes = b"11317417000\0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    major: bytes = b"0000000\0",
    minor: bytes = b"0000000\0",
    tail: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """One header block; `tail` is what follows the device numbers."""
    size = b"%011o\0" % size if isinstance(size, int) else size
    block = (
        name.ljust(100, b"\0")
        + mode.ljust(8, b"\0")
        + uid.ljust(8, b"\0")
        + gid.ljust(8, b"\0")
        + size.ljust(12, b"\0")
        + mtime.ljust(12, b"\0")
        + b" " * 8
        + flag
        + link.ljust(100, b"\0")
        + magic.ljust(8, b"\0")
        + bytes(64)
        + major.ljust(8, b"\0")
        + minor.ljust(8, b"\0")
        + tail.ljust(167, b"\0")
    )
    assert len(block) == 512
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes, **fields: bytes) -> bytes:
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while size != (grown := len(str(size)) + len(key) + len(value) + 3):
        size = grown
    return b"%d %b=%b\n" % (size, key, value)


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    data = b"".join(record(key, value) for key, value in records)
    return header(b"pax", flag=flag, size=len(data)) + padded(data)


def whole(content: Content) -> bytes | None:
    """All of a content; a hard link as "=> TARGET"."""
    if content is None or isinstance(content, bytes):
        return content
    if isinstance(content, HardLink):
        return b"=> " + content.target
    return b"".join(content)


def entries(data: bytes, emit: Emit = ignore, exact: bool = False) -> dict[bytes, Entry]:
    return {entry.path: entry for entry, _ in contents(data, emit, exact)}


def contents(
    data: bytes, emit: Emit = ignore, exact: bool = False
) -> list[tuple[Entry, bytes | None]]:
    with decompressed(io.BytesIO(data)) as pieces:
        return [(e, whole(c)) for e, c in read_tar(pieces, emit, exact_xattrs=exact)]


def small_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def gnu_tar(directory: Path, *options: str) -> bytes:
    """What GNU tar makes of a directory."""
    return subprocess.run(
        ["tar", "-c", *options, "-C", str(directory), "."], check=True, capture_output=True
    ).stdout
