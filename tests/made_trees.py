"""Filesets made by hand, as entries with their content."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha384

from repeatr.fileset.entry import Entry

Tree = Sequence[tuple[Entry, bytes | None]]

MTIME = 1_000_000_000


def d(path: str | bytes, mode: int = 0o755, uid: int = 0, **more: object) -> tuple[Entry, None]:
    return Entry(_bytes(path), "d", mode, uid, uid, MTIME)._replace(**more), None  # type: ignore[arg-type]


def f(
    path: str | bytes, data: bytes = b"x", mode: int = 0o644, uid: int = 0, **more: object
) -> tuple[Entry, bytes]:
    digest = sha384(data).digest()
    entry = Entry(_bytes(path), "f", mode, uid, uid, MTIME, size=len(data), digest=digest)
    return entry._replace(**more), data  # type: ignore[arg-type]


def n(path: str | bytes, kind: str, **more: object) -> tuple[Entry, None]:
    mode = 0o777 if kind == "L" else 0o644
    return Entry(_bytes(path), kind, mode, 0, 0, MTIME)._replace(**more), None  # type: ignore[arg-type]


def _bytes(path: str | bytes) -> bytes:
    return path.encode() if isinstance(path, str) else path


DEEP = "/".join(["deep"] * 300)

#: Something of everything, all of which root can place.
TREE: Tree = (
    d(""),
    d("dir", mtime=MTIME + 1),
    f("dir/a", b"a"),
    f("dir/b", b"b" * 5000, 0o600, 1000),
    d("dir/sub", 0o700, 1000),
    f("dir/sub/c", b"c"),
    d("empty", 0o1777),
    d("other", 0o2755, 5),
    f("other/setuid", b"s", 0o4755, 7),
    f("file", b"file", mtime_ns=123_456_789),
    n("link", "L", link=b"dir/a", uid=1000, gid=1000),
    n("fifo", "p", uid=3, gid=4),
    f(b"not-utf8-\xff\xfe", b"n"),
    f("n" * 255, b"long"),
    *(d("/".join(DEEP.split("/")[: depth + 1])) for depth in range(300)),
    f(DEEP + "/bottom", b"bottom"),
)
#: And what no ordinary user can.
HARD: Tree = (
    *TREE,
    d("dev"),
    n("dev/null", "c", major=1, minor=3, mode=0o666),
    n("dev/sda", "D", major=8, minor=0, uid=0, gid=6),
    f("foreign", b"f", 0o6755, 4_000_000_000),
    d("foreign-dir", 0o2770, 3_000_000_000),
    f("foreign-dir/in", b"in", 0o640, 3_000_000_001),
    n("foreign-fifo", "p", uid=3_000_000_000),
    f("labelled", b"l", xattrs=((b"security.selinux", b"x"), (b"trusted.note", b"y"))),
)
