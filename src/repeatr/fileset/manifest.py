"""The manifest: what a fileset is, entry by entry, without its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from repeatr.fileset.entry import DIRECTORY, Entry


def sort_key(entry: Entry) -> bytes:
    """The bytes that entries are sorted by: the path, of a directory with "/" at its end.

    So a directory sorts after its siblings `a-b` and `a.b` and before `a0`, and what is
    in it follows it at once. The root's key is b"". (docs/formats/tree-hash.md)
    """
    path = entry[0]
    return path + b"/" if entry[1] == DIRECTORY and path else path


class Manifest:
    """The entries of one fileset, sorted by `sort_key`, each path once; immutable.

    It does not check that parents are there: what comes from outside goes through
    `intake`, what comes from a disk through `scan`, and both see to that.
    """

    __slots__ = ("_entries", "_index")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: tuple[Entry, ...] = tuple(sorted(entries, key=sort_key))
        self._index: dict[bytes, int] | None = None

    @classmethod
    def from_sorted(cls, entries: Iterable[Entry]) -> Manifest:
        """A manifest of entries that are known to be in order; not checked."""
        manifest = cls.__new__(cls)
        manifest._entries = tuple(entries)
        manifest._index = None
        return manifest

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return f"<Manifest of {len(self._entries)} entries>"

    def __contains__(self, path: object) -> bool:
        return path in self._positions()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in order."""
        return self._entries

    @property
    def root(self) -> Entry:
        """The entry of the root, path b"". Raises LookupError where there is none."""
        if not self._entries or self._entries[0][0]:
            raise LookupError("this manifest has no root entry")
        return self._entries[0]

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, None where there is none. The first call builds an index."""
        position = self._positions().get(path)
        return None if position is None else self._entries[position]

    def subtree(self, path: bytes) -> Manifest:
        """What is at and below `path`, with `path` as the root; empty where it is absent.

        An index is built by the first call; each call costs what it returns.
        """
        if not path:
            return self
        start = self._positions().get(path)
        if start is None:
            return Manifest()
        entries = self._entries
        below = [entries[start]._replace(path=b"")]
        prefix = path + b"/"
        cut = len(prefix)
        new = tuple.__new__
        for position in range(start + 1, len(entries)):
            entry = entries[position]
            if not entry[0].startswith(prefix):
                break
            below.append(new(Entry, (entry[0][cut:], *entry[1:])))
        # Taking the same prefix off every key keeps their order.
        return Manifest.from_sorted(below)

    def _positions(self) -> dict[bytes, int]:
        index = self._index
        if index is None:
            # Made in one go and then set: threads may at worst make it twice.
            self._index = index = {entry[0]: n for n, entry in enumerate(self._entries)}
        return index
