"""One entry of a fileset, and how its content is handed on.

Paths, link targets and xattr names are bytes: a filesystem's names are bytes, and ids
are computed over them unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, BLOCK, CHARACTER = "f", "d", "L", "p", "S", "D", "c"

#: mtime of things that nobody gave a time: 2010-01-01T00:00:00Z, as in the original.
DEFAULT_MTIME = 1262304000


class Entry(NamedTuple):
    """Metadata and content digest of one path in a fileset.

    `path` is relative to the fileset's root, without "./" in front or "/" at the end;
    the root itself is b"". `kind` is one of the letters above (they are what is hashed).
    `mode` holds the low twelve bits. `mtime` is in whole seconds (floored, may be
    negative), `mtime_ns` the nanoseconds above it. `size` and `digest` (SHA-384 of the
    content) are of regular files; `digest` is None while the content was not read.
    """

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    mtime_ns: int = 0
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    digest: bytes | None = None


class HardLink(NamedTuple):
    """Stands where content would: the content and metadata of an earlier entry."""

    target: bytes


#: The content of an entry on its way: nothing, all of it, its pieces in order (to be
#: consumed before the next entry is asked for), or a reference to an earlier entry.
Content = bytes | Iterator[bytes] | HardLink | None
