"""Id maps: which user and group ids a user namespace of the caller's can hold.

There are three kinds, in falling order of what they can: `root` (all ids there are),
`range` (the caller as 0 and a range of subordinate ids from /etc/subuid after it) and
`single` (the caller's own id alone, whatever number it is shown under).
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Literal, NamedTuple

Kind = Literal["root", "range", "single"]


class Extent(NamedTuple):
    """`length` ids from `inside` on are those from `outside` on in the parent namespace."""

    inside: int
    outside: int
    length: int


class IdMap(NamedTuple):
    """The ids of the namespace in which filesets are unpacked and processes run."""

    kind: Kind
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]

    def holds(self, uid: int, gid: int) -> bool:
        """Whether files can be owned by `uid`:`gid` and processes run as them."""
        return _within(self.uids, uid) and _within(self.gids, gid)

    @property
    def key(self) -> str:
        """A short name, for the key of an unpacked fileset: who owns what on disk."""
        if self.kind == "root":
            return "root"
        outside = "-".join(f"{e.outside}.{e.length}" for e in (*self.uids, *self.gids))
        return f"{self.kind}-{outside}"


def _within(extents: tuple[Extent, ...], number: int) -> bool:
    return any(e.inside <= number < e.inside + e.length for e in extents)


def everything() -> IdMap:
    """The ids of the namespace that this process is in, as they are."""
    return IdMap("root", *(_present(f"/proc/self/{name}_map") for name in ("uid", "gid")))


def _present(path: str) -> tuple[Extent, ...]:
    with open(path) as lines:
        extents = [tuple(map(int, line.split())) for line in lines]
    return tuple(Extent(inside, inside, length) for inside, _outside, length in extents)


def single() -> IdMap:
    """The caller's own user and group as 0."""
    return IdMap("single", (Extent(0, os.geteuid(), 1),), (Extent(0, os.getegid(), 1),))


def from_subordinate_ids() -> IdMap | None:
    """The caller as 0 and then their first range of subordinate ids; None without one."""
    uids = _subordinate("/etc/subuid", os.geteuid())
    gids = _subordinate("/etc/subgid", os.geteuid())
    if uids is None or gids is None:
        return None
    return IdMap(
        "range",
        (Extent(0, os.geteuid(), 1), Extent(1, *uids)),
        (Extent(0, os.getegid(), 1), Extent(1, *gids)),
    )


def _subordinate(path: str, uid: int) -> tuple[int, int] | None:
    """The longest range that `path` gives the user `uid`, as (first, count)."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):  # a user without a name: only the number counts
        names.add(pwd.getpwuid(uid).pw_name)
    ranges = []
    try:
        with open(path) as lines:
            for line in lines:
                parts = line.strip().split(":")
                if len(parts) == 3 and parts[0] in names:
                    ranges.append((int(parts[1]), int(parts[2])))
    except (OSError, ValueError):
        return None
    return max(ranges, key=lambda found: found[1], default=None)
