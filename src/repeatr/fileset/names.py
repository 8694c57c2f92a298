"""Names of entries: from what an archive says to a path in a fileset, and to text."""

from __future__ import annotations

import re

from repeatr.errors import Category, RepeatrError

# A component that is empty, "." or "..".
_UNCLEAN = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)")


def shown(path: bytes) -> str:
    """A path as messages show it: the root is ".", bytes that are not UTF-8 are escaped.

    Control characters are escaped too: a name must not write to the user's terminal.
    """
    text = path.decode("utf-8", "backslashreplace") or "."
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def clean_name(name: bytes) -> bytes:
    """The path that an archive's entry name means: b"" for the root ("." or "./").

    "./a", "a", ".//a" and "a/" are one name, and so is "b/../a". Raises RepeatrError
    WARE_CORRUPT for an absolute or empty name, one that leaves the root on its way, and
    one that holds a NUL byte.
    """
    if b"\0" in name:
        raise corrupt(f"the entry name {shown(name)!r} holds a NUL byte")
    if not _UNCLEAN.search(name):
        return name
    if not name:
        raise corrupt("an entry's name is empty")
    if name.startswith(b"/"):
        raise corrupt(f"the entry name {shown(name)!r} is absolute")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise corrupt(f"the entry name {shown(name)!r} leaves the root of the fileset")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def is_clean(path: bytes) -> bool:
    """Whether `path` is the one way to write it, as `Entry.path` has to be."""
    return not path or (b"\0" not in path and not _UNCLEAN.search(path))


def corrupt(what: str) -> RepeatrError:
    """The error for a ware whose structure is broken: `what` says where and how."""
    return RepeatrError(
        Category.WARE_CORRUPT,
        f"the ware is corrupt: {what}",
        remedy="fetch it from another warehouse, or pack it again",
    )
