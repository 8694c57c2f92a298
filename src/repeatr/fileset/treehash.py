"""The tree hash: the id of a fileset, from its manifest alone.

The format is that of the original Repeatr (docs/formats/tree-hash.md): one CBOR record an
entry, SHA-384 of it, directories hold the hashes of their children. The writer below knows
nothing but these records, because it runs once for every entry of every fileset.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha384

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import BLOCK, CHARACTER, DIRECTORY, FILE, Entry
from repeatr.model.base58 import encode as base58

_KIND_WORDS = {
    "f": "a file",
    "d": "a directory",
    "L": "a symlink",
    "p": "a fifo",
    "S": "a socket",
    "D": "a block device",
    "c": "a character device",
}


def kind_words(kind: str) -> str:
    """What to call an entry of this kind in a message: "a file", "a symlink", ..."""
    return _KIND_WORDS.get(kind, "something unknown")


def tree_hash(manifest: Iterable[Entry], sound: bool) -> str:
    """The hash part of the WareID of `manifest`, in base58.

    `sound` is True for the packtype `tree`, where every entry counts. It is False for
    `tar` and `zip`, where only files and directories do.

    Every file needs its digest and every entry its parent (ValueError otherwise: that is
    a bug of the caller). Raises RepeatrError INOPERABLE_PATH where the root is neither a
    file nor a directory.
    """
    entries = iter(manifest)
    root = next(entries, None)
    if root is None or root.path:
        raise ValueError("a manifest without a root has no hash")
    write = _MetadataWriter()
    if root.kind == FILE:
        return base58(_file_hash(root, write(root, b".")))
    if root.kind != DIRECTORY:
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"the root of a fileset has to be a directory or a file, and this one is "
            f"{kind_words(root.kind)}",
            remedy="pack the directory that holds it, or what it points to",
        )

    # Entries come parents first and whole subtrees together, so the directories that
    # still wait for children are always the ancestors of the entry at hand.
    path = b""
    record = _open_directory(write(root, b"."))
    waiting: list[tuple[bytes, bytearray]] = []
    for entry in entries:
        entry_path = entry[0]
        slash = entry_path.rfind(b"/")
        parent = entry_path[:slash] if slash > 0 else b""
        while parent != path:
            if not waiting:
                raise ValueError(f"a manifest lacks the parent of {entry_path!r}")
            path, record = _close_directory(record, waiting)
        kind = entry[1]
        if kind == FILE:
            metadata = write(entry, entry_path[slash + 1 :])
            record += b"\x58\x30" + _file_hash(entry, metadata)
        elif kind == DIRECTORY:
            waiting.append((path, record))
            path = entry_path
            record = _open_directory(write(entry, entry_path[slash + 1 :]))
        elif sound:
            metadata = write(entry, entry_path[slash + 1 :])
            record += b"\x58\x30" + sha384(b"\xa1am" + metadata).digest()
    while waiting:
        path, record = _close_directory(record, waiting)
    record.append(0xFF)
    return base58(sha384(record).digest())


def uncovered(manifest: Iterable[Entry]) -> int:
    """How many entries a `tar:` or `zip:` id says nothing about."""
    return sum(1 for entry in manifest if entry[1] != FILE and entry[1] != DIRECTORY)


def _file_hash(entry: Entry, metadata: bytes) -> bytes:
    digest = entry[12]
    if digest is None or len(digest) != 48:
        raise ValueError(f"the content of {entry[0]!r} was not hashed")
    return sha384(b"\xa2am" + metadata + b"ah\x58\x30" + digest).digest()


def _open_directory(metadata: bytes) -> bytearray:
    return bytearray(b"\xa2am" + metadata + b"al\x9f")


def _close_directory(
    record: bytearray, waiting: list[tuple[bytes, bytearray]]
) -> tuple[bytes, bytearray]:
    record.append(0xFF)
    path, parent = waiting.pop()
    parent += b"\x58\x30" + sha384(record).digest()
    return path, parent


class _MetadataWriter:
    """Writes metadata records; remembers the parts that most entries share."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int, int, int], bytes] = {}
        self._times: dict[int, bytes] = {}

    def __call__(self, entry: Entry, name: bytes) -> bytes:
        _, kind, mode, uid, gid, mtime, mtime_ns, _, link, major, minor, xattrs, _ = entry
        owner = self._owners.get((kind, mode, uid, gid))
        if owner is None:
            owner = b"at" + _text(kind.encode()) + b"ap" + _head(0, mode & 0o7777)
            owner += b"au" + _head(0, uid) + b"ag" + _head(0, gid)
            self._owners[kind, mode, uid, gid] = owner
        time = self._times.get(mtime)
        if time is None:
            time = b"am" + (_head(0, mtime) if mtime >= 0 else _head(1, -1 - mtime))
            self._times[mtime] = time
        nanoseconds = b"bmn\x00" if mtime_ns == 0 else b"bmn" + _head(0, mtime_ns)
        if not link and not xattrs and kind != BLOCK and kind != CHARACTER:
            return b"\xa7an" + _text(name) + owner + time + nanoseconds

        fields = 7
        middle = end = b""
        if link:
            fields += 1
            middle += b"al" + _text(link)
        if kind in (BLOCK, CHARACTER):
            fields += 2
            middle += b"bdM" + _head(0, major) + b"bdm" + _head(0, minor)
        if xattrs:
            fields += 1
            end = b"ax" + _head(5, len(xattrs))
            for key, value in sorted(xattrs):
                end += _text(key) + _text(value)
        return _head(5, fields) + b"an" + _text(name) + owner + middle + time + nanoseconds + end


def _text(data: bytes) -> bytes:
    # A CBOR text string, but of whatever bytes there are (the original does not check).
    length = len(data)
    return (bytes((0x60 | length,)) if length < 24 else _head(3, length)) + data


def _head(major: int, value: int) -> bytes:
    # RFC 7049, 2.1: the major type and an integer in as few bytes as will do.
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 0x100:
        return bytes((major << 5 | 24, value))
    if value < 0x10000:
        return bytes((major << 5 | 25,)) + value.to_bytes(2, "big")
    if value < 0x100000000:
        return bytes((major << 5 | 26,)) + value.to_bytes(4, "big")
    return bytes((major << 5 | 27,)) + value.to_bytes(8, "big")
