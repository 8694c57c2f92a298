"""Tar archives read: v7, ustar, GNU and PAX (docs/formats/tar.md).

A parser of its own, because ids hang on every detail of it: the standard library's skips
what it does not understand, and takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NoReturn

from repeatr.errors import RepeatrError
from repeatr.fileset.entry import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    Content,
    Entry,
    HardLink,
)
from repeatr.fileset.names import clean_name, corrupt, shown
from repeatr.model.events import Emit, Level, Log
from repeatr.wares.bytesource import ByteSource
from repeatr.wares.tar_fields import (
    Records,
    checksum_holds,
    decimal,
    number,
    parse_records,
    pax_time,
    text,
)
from repeatr.wares.tar_sparse import SparseFile, from_records, old_gnu

#: Files up to this size are handed on whole, larger ones as a stream.
SMALL = 1 << 20

#: A PAX or long-name header is at most this big.
HEADER_LIMIT = 1 << 20

_BLOCK = 512
_ZERO_BLOCK = bytes(_BLOCK)
_ID_MASK = 0xFFFFFFFF

# name mode uid gid size mtime checksum type linkname magic+version names major minor prefix
_HEADER = Struct("100s8s8s8s12s12s8xc100s8s64x8s8s155s12x")
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"1": "",
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK,
    b"5": DIRECTORY,
    b"6": FIFO,
    b"S": FILE,
}

_DEVICES = (CHARACTER, BLOCK)
_ROOT_KINDS = (DIRECTORY, FILE)

_XATTR = b"SCHILY.xattr."
_NO_RECORDS = Records({})


def read_tar(
    pieces: Iterator[bytes], emit: Emit, *, exact_xattrs: bool = False
) -> Iterator[tuple[Entry, Content]]:
    """Read the entries of an uncompressed tar archive, in its order.

    `exact_xattrs` is how the packtype `tree` reads xattrs: an empty value is a value, and
    "%" and "=" in names are percent-encoded, as GNU tar does it. Without it both are read
    as the original reads them, which ids of `tar` wares hang on.

    Structure (parents, repeated names, where hard links point) is for `intake` to check.
    Raises RepeatrError WARE_CORRUPT for whatever is malformed or ends too early.
    """
    source = ByteSource(pieces, "tar archive")
    records = _NO_RECORDS
    long_name = long_link = b""
    extended = False
    unpack = _HEADER.unpack
    while True:
        header = source.block(_BLOCK)
        if header is None or (not header[0] and header == _ZERO_BLOCK):
            if extended:
                raise corrupt("the tar archive ends after an extended header")
            if header is None and not source.offset:
                raise corrupt("a tar archive of no bytes at all")
            return
        if not checksum_holds(header):
            raise corrupt(
                f"at byte {source.offset - _BLOCK} there is no tar header (its checksum is wrong)"
            )
        name, mode, uid, gid, size, mtime, flag, link, magic, major, minor, prefix = unpack(header)
        stored = number(size)
        if stored < 0:
            raise corrupt("a tar entry has a negative size")

        if flag in b"xgLK":
            data = _extended_header(source, stored)
            extended = True
            if flag == b"x":
                records = parse_records(data)
            elif flag == b"L":
                long_name = text(data)
            elif flag == b"K":
                long_link = text(data)
            else:
                parse_records(data)
                emit(
                    Log(
                        Level.WARN,
                        "unpacking: skipping an entry: tar type 'g' header entries ignored",
                    )
                )
                # As in the original, a global header ends what stood before it.
                records, long_name, long_link, extended = _NO_RECORDS, b"", b"", False
            continue

        kind = _KINDS.get(flag)
        if kind is None:
            raise corrupt(f"{shown(flag)!r} is not a known tar entry type")
        name, link = text(name), text(link)
        if magic == _USTAR:
            # "tar" at the end marks the format of star, whose prefix is shorter.
            prefix = text(prefix[:131] if header[508:] == b"tar\0" else prefix)
            if prefix:
                name = prefix + b"/" + name
        try:
            seconds, nanoseconds = number(mtime), 0
            owner, group = number(uid) & _ID_MASK, number(gid) & _ID_MASK
            xattrs: tuple[tuple[bytes, bytes], ...] = ()
            if records is not _NO_RECORDS:
                values = records.values
                name = values.get(b"path") or name
                link = values.get(b"linkpath") or link
                if value := values.get(b"size"):
                    stored = decimal(value)
                    if stored < 0:
                        raise corrupt("a PAX header has a negative size")
                if value := values.get(b"uid"):
                    owner = decimal(value) & _ID_MASK
                if value := values.get(b"gid"):
                    group = decimal(value) & _ID_MASK
                if value := values.get(b"mtime"):
                    seconds, nanoseconds = pax_time(value)
                xattrs = _xattrs(values, exact_xattrs)
            name = long_name or name
            link = long_link or link
            if flag == b"\0" and name.endswith(b"/"):
                kind = DIRECTORY
            sparse = None
            if kind == FILE:
                if flag == b"S":
                    if magic != _GNU:
                        raise corrupt("a sparse file in an archive that is not GNU tar's")
                    sparse = old_gnu(header, source, stored)
                elif records is not _NO_RECORDS:
                    sparse = from_records(records, source, stored)
                if sparse is not None:
                    name = sparse.name or name
            path = _path(name)
            device = (0, 0)
            if kind in _DEVICES:
                device = _device(magic, major, minor)
            elif kind == SYMLINK and not link:
                raise corrupt("a symlink that points to nothing")
            if not path and kind not in _ROOT_KINDS:
                raise corrupt("the root of a fileset has to be a directory or a file")
            permissions = number(mode) & 0o7777
        except RepeatrError as error:
            _tell_where(error, name)
        records, long_name, long_link, extended = _NO_RECORDS, b"", b"", False

        if not kind:
            entry = Entry(path, FILE, permissions, owner, group, seconds, nanoseconds)
            yield entry, HardLink(_target(path, link))
            continue
        content: Content = None
        length = 0
        if sparse is not None:
            length = sparse.size
            content = _sparse_content(source, sparse)
        elif kind == FILE:
            length = stored
            padded = stored + -stored % _BLOCK
            if stored <= SMALL:
                content = source.take(padded)[:stored] if padded else b""
            else:
                source.expect(padded)
                content = source.stream(stored)
        yield (
            Entry(
                path,
                kind,
                permissions,
                owner,
                group,
                seconds,
                nanoseconds,
                length,
                link,
                *device,
                xattrs,
            ),
            content,
        )


def _extended_header(source: ByteSource, size: int) -> bytes:
    if size > HEADER_LIMIT:
        raise corrupt(f"an extended tar header of {size} bytes is too big")
    return source.take(size + -size % _BLOCK)[:size]


def _path(name: bytes) -> bytes:
    # Nearly all names are "./a/b" or "./a/b/": those need no more than a look.
    if name[:2] == b"./" and len(name) > 2 and name[2] != 0x2F:
        name = name[2:]
    if name[-1:] == b"/" and len(name) > 1:
        name = name[:-1]
    return clean_name(name)


def _target(path: bytes, link: bytes) -> bytes:
    try:
        return clean_name(link)
    except RepeatrError:
        raise corrupt(
            f"the hard link {shown(path)!r} points to {shown(link)!r}, outside of the fileset"
        ) from None


def _device(magic: bytes, major: bytes, minor: bytes) -> tuple[int, int]:
    if magic not in (_USTAR, _GNU):
        return 0, 0
    device = number(major), number(minor)
    if not all(0 <= part <= 0xFFFFFFFF for part in device):
        raise corrupt("a device number is out of range")
    return device


def _xattrs(values: dict[bytes, bytes], exact: bool) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for key, value in values.items():
        if key.startswith(_XATTR) and (value or exact):
            name = key[len(_XATTR) :]
            if exact:
                name = name.replace(b"%3D", b"=").replace(b"%25", b"%")
            found.append((name, value))
    found.sort()
    return tuple(found)


def _sparse_content(source: ByteSource, sparse: SparseFile) -> Content:
    source.expect(sparse.stored + -sparse.stored % _BLOCK)
    pieces = sparse.expand(source)
    return b"".join(pieces) if sparse.size <= SMALL else pieces


def _tell_where(error: RepeatrError, name: bytes) -> NoReturn:
    if shown(name) in error.message:
        raise error
    raise RepeatrError(
        error.category, f"{error.message} (in the entry {shown(name)!r})", remedy=error.remedy
    ) from None
