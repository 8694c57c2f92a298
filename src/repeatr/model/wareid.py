"""WareIDs: what a ware is called, `packtype:hash`.

A WareID is identity and never location. Packtypes of this project are `tar`, `zip`,
`tree` and `git`; as an input of a formula there is also `mount`, which is not a ware but
a path of the host: `mount:ro:/path` or `mount:rw:/path`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.model import base58

#: The hash of a ware that does not exist: the packed path was not there.
NOTHING = "-"

#: The packtype of inputs that are a path of the host.
MOUNT = "mount"

_PACKTYPE = re.compile(r"[a-z][a-z0-9_+.-]{0,31}", re.ASCII)
# Warehouses and the store make file names of hashes, so nothing that a file system or a
# URL gives a meaning to may be in one: no "/", no leading ".", no "%", no control characters.
_HASH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}|-", re.ASCII)
_BASE58_PACKTYPES = frozenset({"tar", "zip", "tree"})
_GIT_HASH = r"[0-9a-f]{40}|[0-9a-f]{64}"


class WareID(NamedTuple):
    """The identity of a ware. `hash` is "-" for the ware of a path that does not exist."""

    packtype: str
    hash: str

    def __str__(self) -> str:
        if not self.packtype and not self.hash:
            return ""
        return f"{self.packtype}:{self.hash or NOTHING}"

    @classmethod
    def parse(cls, text: str) -> WareID:
        """Read a WareID strictly: of a known shape, and safe to make a file name of.

        Whether a hash has the length that its packtype's hashes have is not asked here
        (such a ware is merely not found, as in the original); see `oddity`.
        Raises RepeatrError USAGE.
        """
        packtype, colon, digest = text.partition(":")
        if packtype == MOUNT:
            raise RepeatrError(
                Category.USAGE,
                f"{shortened(text)} is not a ware, but a path of the host",
                remedy="a mount is only possible as an input of a formula",
            )
        if not colon or not _PACKTYPE.fullmatch(packtype) or not _HASH.fullmatch(digest):
            raise RepeatrError(
                Category.USAGE,
                f"malformed WareID {shortened(text)}: expected PACKTYPE:HASH",
                remedy="a WareID looks like tar:6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9"
                "EzQdeHVFAou7c4W9vFcQ6",
            )
        return cls(packtype, digest)

    @classmethod
    def parse_input(cls, text: str) -> WareID:
        """Read what stands for a ware in a formula's inputs, as tolerant as the original.

        "" stays "" and "tar:" is "tar:-"; anything with a colon is taken, mounts too, so
        that any formula can be hashed. Whether it can run is for `check_runnable` to say.
        Raises RepeatrError USAGE for other text without a colon.
        """
        if not text:
            return cls("", "")
        packtype, colon, digest = text.partition(":")
        if not colon:
            raise RepeatrError(
                Category.USAGE,
                f"malformed WareID {shortened(text)}: expected PACKTYPE:HASH, found no colon",
                remedy="write the packtype in front, for example tar:HASH",
            )
        return cls(packtype, digest or NOTHING)

    @property
    def is_nothing(self) -> bool:
        """Whether this is the WareID of a path that does not exist."""
        return self.hash == NOTHING

    @property
    def is_mount(self) -> bool:
        """Whether this is no ware but a path of the host."""
        return self.packtype == MOUNT

    @property
    def oddity(self) -> str:
        """Why no ware can have this id, or "" where one can: to be told when it is not found."""
        if self.packtype in _BASE58_PACKTYPES:
            try:
                length = len(base58.decode(self.hash))
            except ValueError as error:
                return f"no {self.packtype} ware can have this id: {error}"
            if length != 48:
                return (
                    f"no {self.packtype} ware can have this id: its hash is of 48 bytes in "
                    f"base58 (about 66 characters), this one is of {length}"
                )
        elif self.packtype == "git" and not re.fullmatch(_GIT_HASH, self.hash):
            return "no git ware can have this id: its hash is a whole commit id in hex"
        return ""


class HostMount(NamedTuple):
    """A path of the host as an input."""

    writable: bool
    path: str


def split_mount(ware: WareID) -> HostMount:
    """Read a `mount:` WareID.

    Raises RepeatrError USAGE where it is not `mount:ro:/path` or `mount:rw:/path`.
    """
    mode, _, path = ware.hash.partition(":")
    if ware.packtype != MOUNT or mode not in ("ro", "rw") or not path.startswith("/"):
        raise RepeatrError(
            Category.USAGE,
            f"malformed mount {shortened(str(ware))}: expected mount:ro:/PATH or mount:rw:/PATH",
            remedy="ro is read-only, rw writable; the path is the host's, and absolute",
        )
    return HostMount(writable=mode == "rw", path=path)


def shortened(text: str, limit: int = 80) -> str:
    """Quote a user's text for a one-line message, cut where it is long."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}..."
