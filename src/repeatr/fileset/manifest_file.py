"""Manifests on disk: a compact binary file, column by column (docs/formats/manifest.md).

Columns, because a manifest of a whole distribution is read at the start of every run:
Python turns a column into numbers in one call, and a row only with a call for each.
"""

from __future__ import annotations

import gc
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO
from zlib import crc32

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest

MAGIC = b"\x89RPTRm\n"
VERSION = 1

# Magic, version, entries, flags, bytes of the three sections whose size is not fixed.
_HEADER = struct.Struct("<7sBII QQQ")
_XATTR_ENTRY = struct.Struct("<IH")
_XATTR = struct.Struct("<HI")
_HAS_NANOSECONDS, _HAS_DEVICES = 1, 2
_DIGEST_BYTES = 48
_KINDS = {ord(letter): letter for letter in "fdLpSDc"}

Xattrs = tuple[tuple[bytes, bytes], ...]


def write_manifest(manifest: Manifest, file: BinaryIO) -> None:
    """Write `manifest` to `file`, from where `file` stands. The caller makes it atomic.

    Raises OverflowError where a number is outside of its column (docs/formats/manifest.md).
    """
    entries = manifest.entries
    count = len(entries)
    columns = list(zip(*entries, strict=True)) if entries else [()] * len(Entry._fields)
    (paths, kinds, modes, uids, gids, mtimes, mtime_ns, sizes, links, majors, minors) = columns[:11]
    xattrs, digests = columns[11:]

    flags = 0
    sections = [
        "".join(kinds).encode("ascii"),
        bytes(digest is not None for digest in digests),
        _column("H", modes),
        _column("I", uids),
        _column("I", gids),
        _column("q", mtimes),
        _column("Q", sizes),
    ]
    if any(mtime_ns):
        flags |= _HAS_NANOSECONDS
        sections.append(_column("I", mtime_ns))
    if any(majors) or any(minors):
        flags |= _HAS_DEVICES
        sections += [_column("I", majors), _column("I", minors)]
    path_text = b"\0".join(paths)
    link_text = b"\0".join(links) if any(links) else b""
    xattr_text = b"".join(_pack_xattrs(xattrs)) if any(xattrs) else b""
    sections += [path_text, link_text, xattr_text]
    sections.append(b"".join(digest for digest in digests if digest is not None))
    sections.insert(
        0,
        _HEADER.pack(MAGIC, VERSION, count, flags, len(path_text), len(link_text), len(xattr_text)),
    )
    check = 0
    for section in sections:
        check = crc32(section, check)
        file.write(section)
    file.write(check.to_bytes(4, "little"))


def read_manifest(file: BinaryIO) -> Manifest:
    """Read a manifest; everything from where `file` stands to its end.

    Raises RepeatrError STORE where that is not a whole manifest of this version.
    """
    data = file.read()
    name = str(getattr(file, "name", "")) or "of the store"
    if len(data) < _HEADER.size + 4 or not data.startswith(MAGIC):
        raise _damaged(name, "it does not begin like a manifest")
    _, version, count, flags, path_size, link_size, xattr_size = _HEADER.unpack_from(data)
    if version != VERSION:
        raise _damaged(name, f"it is of version {version}, and this program reads {VERSION}")
    if crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
        raise _damaged(name, "its checksum does not match, it was cut off or changed")
    # Entries hold no cycles, and looking for some while they are made takes a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return Manifest.from_sorted(
            _read_entries(data, count, flags, path_size, link_size, xattr_size)
        )
    except (ValueError, KeyError, struct.error):
        raise _damaged(name, "its sections do not fit together") from None
    finally:
        if collecting:
            gc.enable()


def _read_entries(
    data: bytes, count: int, flags: int, path_size: int, link_size: int, xattr_size: int
) -> Iterable[Entry]:
    position = _HEADER.size

    def take(size: int) -> bytes:
        nonlocal position
        if position + size > len(data) - 4:
            raise ValueError("short")
        position += size
        return data[position - size : position]

    def numbers(typecode: str) -> list[int]:
        column = array(typecode)
        column.frombytes(take(count * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column.tolist()

    kinds = map(_KINDS.__getitem__, take(count))
    has_digest = take(count)
    modes, uids, gids = numbers("H"), numbers("I"), numbers("I")
    mtimes, sizes = numbers("q"), numbers("Q")
    nanoseconds = numbers("I") if flags & _HAS_NANOSECONDS else repeat(0, count)
    devices = flags & _HAS_DEVICES
    majors = numbers("I") if devices else repeat(0, count)
    minors = numbers("I") if devices else repeat(0, count)
    paths = take(path_size).split(b"\0") if count else []
    links = take(link_size).split(b"\0") if link_size else repeat(b"", count)
    xattrs: Iterable[Xattrs] = repeat((), count)
    if xattr_size:
        xattrs = _unpack_xattrs(take(xattr_size), count)
    digests = iter(_cut(take(has_digest.count(1) * _DIGEST_BYTES)))
    if position != len(data) - 4:
        raise ValueError("long")
    # zip(strict=True) finds a wrong number of paths or links.
    rows = zip(
        paths,
        kinds,
        modes,
        uids,
        gids,
        mtimes,
        nanoseconds,
        sizes,
        links,
        majors,
        minors,
        xattrs,
        [next(digests) if has else None for has in has_digest],
        strict=True,
    )
    # Past Entry.__new__, which would cost as much as all the rest.
    return map(tuple.__new__, repeat(Entry), rows)


def _cut(digests: bytes) -> list[bytes]:
    return [digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES)]


def _column(typecode: str, values: Iterable[int]) -> bytes:
    column = array(typecode, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _pack_xattrs(column: Iterable[Xattrs]) -> Iterator[bytes]:
    for number, xattrs in enumerate(column):
        if xattrs:
            yield _XATTR_ENTRY.pack(number, len(xattrs))
            for key, value in xattrs:
                yield _XATTR.pack(len(key), len(value)) + key + value


def _unpack_xattrs(data: bytes, count: int) -> list[Xattrs]:
    column: list[Xattrs] = [()] * count
    position = 0
    while position < len(data):
        number, pairs = _XATTR_ENTRY.unpack_from(data, position)
        position += _XATTR_ENTRY.size
        if number >= count:
            raise ValueError("xattrs of no entry")
        xattrs = []
        for _ in range(pairs):
            key_size, value_size = _XATTR.unpack_from(data, position)
            position += _XATTR.size
            value_at = position + key_size
            xattrs.append((data[position:value_at], data[value_at : value_at + value_size]))
            position = value_at + value_size
        column[number] = tuple(xattrs)
    if position != len(data):
        raise ValueError("xattrs cut off")
    return column


def _damaged(name: str, why: str) -> RepeatrError:
    return RepeatrError(
        Category.STORE,
        f"the manifest file {name} can't be read: {why}",
        remedy="remove the fileset that it belongs to from the store; it is unpacked again",
    )
