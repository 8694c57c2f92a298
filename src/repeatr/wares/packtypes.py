"""Pack formats by name: what one has to offer, and which there are.

A pack format is a way to write a fileset as a stream of bytes. It lives in a module of its
own, which is imported when a ware of that packtype is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DIRECTORY, FILE, Content, Entry
from repeatr.model.events import Emit
from repeatr.wares.decompress import Readable

#: Reads a stream of bytes into entries. Told how many bytes were read, from any thread.
Reader = Callable[
    [Readable, Emit, Callable[[int], None]],
    AbstractContextManager[Iterator[tuple[Entry, Content]]],
]

#: Writes entries with their contents, in the packtype's order; the file stays open.
Writer = Callable[[Iterable[tuple[Entry, bytes | Iterator[bytes] | None]], BinaryIO], None]


class PackType(NamedTuple):
    """A pack format.

    `sound`: its ids cover every entry, not only files and directories, and xattrs are
    packed. `read` and `write` are the format itself; `order` is the sort key in which
    `write` wants entries. `compression` is what it is written with and `media` the
    media type (RFC 6838) of the bytes written.
    """

    name: str
    sound: bool
    read: Reader
    write: Writer
    order: Callable[[Entry], bytes]
    compression: str
    media: str

    def covers(self, entry: Entry) -> bool:
        """Whether `entry` is part of the id of a ware of this packtype."""
        return self.sound or entry.kind in (FILE, DIRECTORY)


#: Where each packtype is; the module has a PackType of that name in `PACKTYPES`.
_MODULES = {"tar": "repeatr.wares.tar", "tree": "repeatr.wares.tar"}


def packtype(name: str) -> PackType:
    """The pack format called `name`. Raises RepeatrError USAGE where there is none."""
    module = _MODULES.get(name)
    if module is None:
        raise RepeatrError(
            Category.USAGE,
            f"unknown packtype {name!r}",
            remedy=f"known packtypes are {', '.join(known_packtypes())}",
        )
    from importlib import import_module

    found = import_module(module).PACKTYPES[name]
    assert isinstance(found, PackType)
    return found


def known_packtypes() -> tuple[str, ...]:
    """The names of all pack formats, sorted."""
    return tuple(sorted(_MODULES))
