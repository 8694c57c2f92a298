"""The way of bytes into a fileset, whatever pack format they come in.

Structure is checked, contents are hashed and, where there is a placer, placed, all in one
pass over the stream. What is known in the end is the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha384
from typing import NamedTuple

from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, FILE, Content, Entry, HardLink
from repeatr.fileset.filtering import entry_filter
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.names import corrupt, is_clean, shown
from repeatr.fileset.place import Placer
from repeatr.fileset.treehash import kind_words
from repeatr.fileset.workers import WORTH_A_THREAD, StreamHash, Task, Workers
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.filters import Filters

#: The longest path that is taken, in bytes (Linux: PATH_MAX). The kernel opens no longer
#: one, and a few such names would otherwise infer gigabytes of parents.
MAX_PATH = 4096

_INT64 = 2**63

# How many contents may wait to be hashed; each is held in memory so long.
_HASHING = 16


class Intake(NamedTuple):
    """What came in: `manifest` as the ware has it, `placed` as it is after the filters."""

    manifest: Manifest
    placed: Manifest


def take_in(
    entries: Iterable[tuple[Entry, Content]],
    *,
    placer: Placer | None = None,
    filters: Filters | None = None,
    emit: Emit = ignore,
) -> Intake:
    """Take in the entries of a ware, in any order, and place them.

    Paths are clean already (`names.clean_name`). Missing parents are inferred: 0755, 0:0,
    2010-01-01; a directory that comes (again) later replaces what was known of it. Sizes
    and digests are of what was read. A `HardLink` becomes a file of its own with content
    and metadata of the earlier file. `filters` are complete, in their unpack form.

    Raises RepeatrError WARE_CORRUPT where the entries make no tree, FILTER_REJECTION where
    a filter rejects, and what the placer and the given iterators raise.
    """
    with Workers() as workers:
        return _Intake(placer, filters, emit, workers).run(entries)


class _Intake:
    """The state of one intake."""

    def __init__(
        self, placer: Placer | None, filters: Filters | None, emit: Emit, workers: Workers
    ) -> None:
        self._placer = placer
        self._filter = entry_filter(filters, packing=False) if filters else None
        self._emit = emit
        self._workers = workers
        self._taken: dict[bytes, Entry] = {}
        # The same after the filters; only where there are any.
        self._filtered: dict[bytes, Entry] = {}
        # Digests that a thread computes, and bytes of contents that they hold.
        self._hashing: dict[bytes, Task[bytes]] = {}

    def run(self, entries: Iterable[tuple[Entry, Content]]) -> Intake:
        for entry, content in entries:
            self._check(entry)
            if isinstance(content, HardLink):
                self._take_link(entry, content.target)
            elif entry.kind != FILE:
                self._keep(entry)
            elif content is None or isinstance(content, bytes):
                self._take_small(entry, content or b"")
            else:
                self._take_stream(entry, content)
        if b"" not in self._taken:
            self._infer(b"", b"")
        self._collect_digests()
        manifest = Manifest(self._taken.values())
        return Intake(
            manifest, manifest if self._filter is None else Manifest(self._filtered.values())
        )

    def _check(self, entry: Entry) -> None:
        path, kind = entry.path, entry.kind
        if not is_clean(path) or len(path) > MAX_PATH:
            raise corrupt(
                f"the entry name {shown(path[:200])!r} is not a relative path within the "
                f"fileset of at most {MAX_PATH} bytes"
            )
        if b"\0" in entry.link or not -_INT64 <= entry.mtime < _INT64:
            raise corrupt(f"{shown(path)!r} has a link target or time that nothing can have")
        if path:
            slash = path.rfind(b"/")
            parent = path[:slash] if slash > 0 else b""
            above = self._taken.get(parent)
            if above is None:
                self._infer(parent, path)
            elif above[1] != DIRECTORY:
                self._no_parent(path, above)
        known = self._taken.get(path)
        if known is not None and not (known[1] == DIRECTORY and kind == DIRECTORY):
            if known[1] == kind:
                raise corrupt(f"it holds {shown(path)!r} twice")
            raise corrupt(
                f"{shown(path)!r} is both {kind_words(known[1])} and {kind_words(kind)} in it"
            )

    def _no_parent(self, path: bytes, above: Entry) -> None:
        raise corrupt(
            f"{shown(path)!r} is said to be in {shown(above.path)!r}, which is "
            f"{kind_words(above.kind)} and not a directory"
        )

    def _infer(self, parent: bytes, path: bytes) -> None:
        missing = []
        while True:
            above = self._taken.get(parent)
            if above is not None:
                if above[1] != DIRECTORY:
                    self._no_parent(path, above)
                break
            missing.append(parent)
            if not parent:
                break
            parent = parent[: max(parent.rfind(b"/"), 0)]
        for directory in reversed(missing):
            self._emit(
                Log(
                    Level.DEBUG,
                    f'unpacking: inferring dir "{_dotted(directory)}" for parent of path '
                    f'"{_dotted(path)}"',
                )
            )
            self._keep(Entry(directory, DIRECTORY, 0o755, 0, 0, DEFAULT_MTIME))

    def _keep(self, entry: Entry, content: bytes | Iterable[bytes] | None = None) -> None:
        """Place an entry; remember it, before and after the filters."""
        kept: Entry | None = entry
        if self._filter is not None:
            kept = self._filter(entry)
        if self._placer is not None and kept is not None:
            self._placer.place(kept, content)
        self._remember(entry, kept)

    def _remember(self, entry: Entry, kept: Entry | None) -> None:
        self._taken[entry[0]] = entry
        if self._filter is not None and kept is not None:
            self._filtered[entry[0]] = kept

    def _take_small(self, entry: Entry, content: bytes) -> None:
        if len(content) < WORTH_A_THREAD:
            self._keep(_with_content(entry, len(content), sha384(content).digest()), content)
            return
        if len(self._hashing) >= _HASHING:
            self._collect_digests()
        self._hashing[entry.path] = self._workers.submit(lambda: sha384(content).digest())
        self._keep(_with_content(entry, len(content), None), content)

    def _take_stream(self, entry: Entry, pieces: Iterator[bytes]) -> None:
        size = 0
        with StreamHash() as stream_hash:

            def tee() -> Iterator[bytes]:
                nonlocal size
                for piece in pieces:
                    size += len(piece)
                    stream_hash.update(piece)
                    yield piece

            kept: Entry | None = entry if self._filter is None else self._filter(entry)
            if self._placer is not None and kept is not None:
                self._placer.place(kept, tee())
            else:
                for _ in tee():
                    pass
            digest = stream_hash.digest()
        self._remember(
            _with_content(entry, size, digest),
            None if kept is None else _with_content(kept, size, digest),
        )

    def _take_link(self, entry: Entry, target: bytes) -> None:
        source = self._taken.get(target)
        if source is None or source.kind != FILE:
            found = "is not in it before" if source is None else f"is {kind_words(source.kind)}"
            raise corrupt(
                f"{shown(entry.path)!r} is a hard link to {shown(target)!r}, which {found}"
            )
        if target in self._hashing:
            self._collect_digests()
            source = self._taken[target]
        copy = source._replace(path=entry.path, link=b"")
        kept = copy if self._filter is None else self._filter(copy)
        if self._placer is not None and kept is not None:
            self._placer.copy(target, kept)
        self._remember(copy, kept)

    def _collect_digests(self) -> None:
        for path, task in self._hashing.items():
            digest = task.result()
            for known in (self._taken, self._filtered):
                entry = known.get(path)
                if entry is not None:
                    known[path] = entry._replace(digest=digest)
        self._hashing.clear()


def _with_content(entry: Entry, size: int, digest: bytes | None) -> Entry:
    return tuple.__new__(Entry, (*entry[:7], size, *entry[8:12], digest))


def _dotted(path: bytes) -> str:
    # As the original writes paths, so that log lines are the same.
    return f"./{shown(path)}" if path else "."
