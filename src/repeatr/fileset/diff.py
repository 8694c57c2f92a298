"""What differs between two filesets, by their manifests."""

from __future__ import annotations

from typing import NamedTuple

from repeatr.fileset.entry import BLOCK, CHARACTER, Entry
from repeatr.fileset.manifest import Manifest, sort_key
from repeatr.fileset.names import shown
from repeatr.fileset.treehash import kind_words


class Change(NamedTuple):
    """One path that differs: `what` is "added", "removed" or "changed".

    `fields` says in what, where it changed: "kind", "content", "mode", "uid", "gid",
    "mtime", "link", "device", "xattrs". `before` is None where it was added, `after` where
    it was removed.
    """

    path: bytes
    what: str
    fields: tuple[str, ...]
    before: Entry | None
    after: Entry | None

    def __str__(self) -> str:
        """One line for people: "changed etc/passwd: content, mode 0644 -> 0600"."""
        entry = self.after or self.before
        assert entry is not None
        if not self.before or not self.after:
            return f"{self.what} {shown(self.path)}: {kind_words(entry.kind)}"
        told = (_tell(field, self.before, self.after) for field in self.fields)
        return f"{self.what} {shown(self.path)}: {', '.join(told)}"


def diff(a: Manifest, b: Manifest) -> list[Change]:
    """What has to change in `a` to make `b` of it, in sort order.

    Contents are compared by digest, or by size where one was not read. A path that is of
    another kind is one change, of "kind" and of whatever else differs.
    """
    if a.entries == b.entries:
        return []
    changes: list[tuple[bytes, Change]] = []
    for before in a:
        after = b.get(before.path)
        if after is None:
            change = Change(before.path, "removed", (), before, None)
            changes.append((sort_key(before), change))
        elif before != after and (fields := _differing(before, after)):
            changes.append((sort_key(after), Change(after.path, "changed", fields, before, after)))
    for after in b:
        if after.path not in a:
            changes.append((sort_key(after), Change(after.path, "added", (), None, after)))
    changes.sort(key=lambda pair: pair[0])
    return [change for _, change in changes]


def _differing(before: Entry, after: Entry) -> tuple[str, ...]:
    known = before.digest is not None and after.digest is not None
    pairs = {
        "kind": (before.kind, after.kind),
        "content": (before.digest, after.digest) if known else (before.size, after.size),
        "mode": (before.mode, after.mode),
        "uid": (before.uid, after.uid),
        "gid": (before.gid, after.gid),
        "mtime": (before[5:7], after[5:7]),
        "link": (before.link, after.link),
        "device": (before[9:11], after[9:11]),
        "xattrs": (before.xattrs, after.xattrs),
    }
    return tuple(field for field, (old, new) in pairs.items() if old != new)


def _tell(field: str, before: Entry, after: Entry) -> str:
    old, new = _value(field, before), _value(field, after)
    return f"{field} {old} -> {new}" if old != new else field


def _value(field: str, entry: Entry) -> str:
    match field:
        case "kind":
            return kind_words(entry.kind)
        case "content":
            return f"{entry.size} bytes"
        case "mode":
            return f"{entry.mode:04o}"
        case "mtime":
            fraction = f".{entry.mtime_ns:09}".rstrip("0") if entry.mtime_ns else ""
            return f"@{entry.mtime}{fraction}"
        case "link":
            return repr(shown(entry.link)) if entry.link else "none"
        case "device":
            is_device = entry.kind in (BLOCK, CHARACTER)
            return f"{entry.major}:{entry.minor}" if is_device else "none"
        case "xattrs":
            return "[" + " ".join(shown(name) for name, _ in entry.xattrs) + "]"
    return str(getattr(entry, field))
