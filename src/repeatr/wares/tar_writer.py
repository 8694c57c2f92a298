"""Tar archives written: ustar headers, PAX headers where ustar cannot hold something.

Names, and everything else, are written as the bytes they are. The order is that of the
original: siblings by their bare names, a directory's content right after it, the root
first. See docs/formats/tar.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from zlib import adler32

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry
from repeatr.fileset.names import shown
from repeatr.wares.tar_fields import text_of_time

_BLOCK = 512
_END = bytes(2 * _BLOCK)

_TYPES = {
    FILE: b"0",
    SYMLINK: b"2",
    CHARACTER: b"3",
    BLOCK: b"4",
    DIRECTORY: b"5",
    FIFO: b"6",
}

# name mode uid gid size mtime | checksum as spaces | type linkname magic names major minor
# prefix. Numbers are octal and end in NUL.
_START = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0"
_MIDDLE = b"%b%bustar\x0000" + bytes(64) + b"%07o\0%07o\0%b" + bytes(12)

# The largest number of 7 and of 11 octal digits.
_MAX_7, _MAX_11 = 0o7777777, 0o77777777777

_NAME_LENGTH, _PREFIX_LENGTH, _LINK_LENGTH = 100, 155, 100

#: How much is gathered before it is handed on, in bytes.
_GATHER = 128 * 1024


def archive_order(entry: Entry) -> bytes:
    """The sort key of an archive's order: siblings by bare name, content after its directory."""
    return entry.path.replace(b"/", b"\0")


def write_tar(
    items: Iterable[tuple[Entry, bytes | Iterator[bytes] | None]],
    write: Callable[[bytes], object],
    *,
    xattrs: bool = False,
) -> None:
    """Write an archive of `items`, which come in `archive_order`; `write` takes all of each piece.

    A content has exactly `Entry.size` bytes. `xattrs` writes the entries' xattrs, as the
    packtype `tree` has them. Raises RepeatrError PACK_INVALID for what no tar can hold.
    """
    gathered: list[bytes] = []
    held = 0
    for entry, content in items:
        header = tar_header(entry, xattrs=xattrs)
        gathered.append(header)
        held += len(header)
        if content is not None:
            size = entry.size
            if isinstance(content, bytes):
                _check_size(entry, len(content))
                gathered.append(content)
                held += size
            else:
                if held:
                    write(b"".join(gathered))
                    gathered.clear()
                    held = 0
                written = 0
                for piece in content:
                    written += len(piece)
                    write(piece)
                _check_size(entry, written)
            if size % _BLOCK:
                gathered.append(bytes(-size % _BLOCK))
                held += -size % _BLOCK
        if held >= _GATHER:
            write(b"".join(gathered))
            gathered.clear()
            held = 0
    gathered.append(_END)
    write(b"".join(gathered))


def tar_header(entry: Entry, *, xattrs: bool = False) -> bytes:
    """The header blocks of one entry: a ustar header, a PAX header before it where needed."""
    path, kind, mode, uid, gid, mtime, mtime_ns, size, link, major, minor, attributes, _ = entry
    flag = _TYPES.get(kind)
    if flag is None:
        raise RepeatrError(
            Category.PACK_INVALID, f"a tar archive cannot hold {shown(path)!r}: it is a socket"
        )
    if kind == DIRECTORY:
        name = b"./" + path + b"/" if path else b"./"
    else:
        name = b"./" + path if path else b"."
    if kind != FILE:
        size = 0
    records: list[bytes] = []
    prefix = b""
    if len(name) > _NAME_LENGTH:
        cut = _prefix_end(name)
        if cut:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            records.append(_record(b"path", name))
            name = name[:_NAME_LENGTH]
    if len(link) > _LINK_LENGTH:
        records.append(_record(b"linkpath", link))
        link = link[:_LINK_LENGTH]
    if size > _MAX_11:
        records.append(_record(b"size", b"%d" % size))
        size = 0
    if uid > _MAX_7:
        records.append(_record(b"uid", b"%d" % uid))
        uid = 0
    if gid > _MAX_7:
        records.append(_record(b"gid", b"%d" % gid))
        gid = 0
    if mtime_ns or not 0 <= mtime <= _MAX_11:
        records.append(_record(b"mtime", text_of_time(mtime, mtime_ns)))
        mtime = min(max(mtime, 0), _MAX_11)
    if xattrs:
        for key, value in attributes:
            # The key of a PAX record ends at its first "="; GNU tar encodes it the same way.
            key = key.replace(b"%", b"%25").replace(b"=", b"%3D")
            records.append(_record(b"SCHILY.xattr." + key, value))
    header = _ustar(name, mode, uid, gid, size, mtime, flag, link, major, minor, prefix)
    if not records:
        return header
    data = b"".join(records)
    # Some name is needed, for programs that know no PAX and unpack it as a file.
    base = (path.rpartition(b"/")[2] or b".")[: _NAME_LENGTH - 13]
    extended = _ustar(b"PaxHeaders.0/" + base, 0o644, 0, 0, len(data), 0, b"x", b"", 0, 0, b"")
    return b"".join((extended, data, bytes(-len(data) % _BLOCK), header))


def _ustar(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    flag: bytes,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    if not (0 <= major <= _MAX_7 and 0 <= minor <= _MAX_7):
        raise RepeatrError(
            Category.PACK_INVALID,
            f"a tar archive cannot hold the device {shown(name)!r}: its number {major}:{minor} "
            "is too big",
        )
    start = _START % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    rest = _MIDDLE % (flag, link.ljust(100, b"\0"), major, minor, prefix.ljust(155, b"\0"))
    # See tar_fields.checksum_holds for why Adler-32 gives the sum; 148 and 356 bytes of
    # headers, of which no more than 257 are not NUL or ASCII, need the second part split.
    checksum = (
        (adler32(start) & 0xFFFF)
        + (adler32(rest[:200]) & 0xFFFF)
        + (adler32(rest[200:]) & 0xFFFF)
        - 3
        + 8 * 0x20
    )
    return b"%b%06o\0 %b" % (start, checksum, rest)


def _prefix_end(name: bytes) -> int:
    """Where the "/" is that parts a name into ustar's prefix and name; 0 if nowhere."""
    # The name part is not empty: the "/" at the end of a directory's name is no candidate.
    cut = name.rfind(b"/", 0, min(_PREFIX_LENGTH + 1, len(name) - 1))
    return cut if cut > 0 and len(name) - cut - 1 <= _NAME_LENGTH else 0


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record, which starts with its own length in decimal digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _check_size(entry: Entry, found: int) -> None:
    if found != entry.size:
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"{shown(entry.path)!r} changed while it was packed: it had {entry.size} bytes, "
            f"and then {found}",
        )
