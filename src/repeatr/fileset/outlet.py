"""The way of a fileset's bytes out, into whatever pack format: read once, hashed on the way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha384
from io import FileIO
from types import TracebackType
from typing import Self

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.dirfds import DirFds, inoperable
from repeatr.fileset.entry import FILE, Entry
from repeatr.fileset.names import shown
from repeatr.fileset.workers import PIECE, WORTH_A_THREAD, StreamHash, Task, Workers

#: Opens the content of a file entry: a new descriptor, which the caller closes. Called by
#: the thread that reads out, never by two at once. Raises OSError.
OpenFile = Callable[[Entry], int]

#: Files up to this size, in bytes, are handed on in one piece.
SMALL_FILE = 1024 * 1024

# How many entries reading may be ahead of what is asked for; a few of them hold up to
# SMALL_FILE bytes each.
_AHEAD = 16
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FilesOnDisk:
    """An `OpenFile` for a fileset on disk, at the directory `root_fd` or at a path.

    A path may be that of a lone file: the content of the root entry. Symlinks are not
    followed, and neither is `root` where it is one; a fifo in a file's place does not block.
    """

    def __init__(self, root: int | str | bytes | os.PathLike[str]) -> None:
        self._own = -1
        self._root = b""
        if not isinstance(root, int):
            self._root = os.fsencode(root)
            try:
                self._own = root = os.open(root, _OPEN_FILE)
            except OSError as error:
                raise inoperable(self._root, "read", error) from None
        self._fds = DirFds(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._fds.close()
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    def __call__(self, entry: Entry) -> int:
        """Open the content of `entry`."""
        path = entry[0]
        slash = path.rfind(b"/")
        if slash > 0:
            return os.open(path[slash + 1 :], _OPEN_FILE, dir_fd=self._fds.get(path[:slash]))
        if path:
            return os.open(path, _OPEN_FILE, dir_fd=self._fds.root_fd)
        fd = os.dup(self._fds.root_fd)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


class Reading:
    """The entries given, in their order, with their content; see `read_out`."""

    def __init__(
        self, entries: Iterable[Entry], open_file: OpenFile, workers: int | None = None
    ) -> None:
        #: The entries that were handed out, completed: files have their digest. All of
        #: them once the iteration is over.
        self.entries: list[Entry] = []
        self._source = entries
        self._open_file = open_file
        self._workers = workers

    def __iter__(self) -> Iterator[tuple[Entry, bytes | Iterator[bytes]]]:
        done = self.entries
        with Workers(self._workers) as workers:
            for entry, task in _ahead(self._source, self._open_file, workers):
                if entry[1] != FILE:
                    done.append(entry)
                    yield entry, b""
                elif entry[7] <= SMALL_FILE:
                    if task is None:
                        fd = _open(entry, self._open_file)
                        try:
                            content, digest = _read_small(entry, fd)
                        finally:
                            os.close(fd)
                    else:
                        content, digest = task.result()
                    entry = _digested(entry, digest)
                    done.append(entry)
                    yield entry, content
                else:
                    pieces = self._stream(entry)
                    yield entry, pieces
                    for _ in pieces:  # what the caller did not want is hashed all the same
                        pass

    def _stream(self, entry: Entry) -> Iterator[bytes]:
        fd = _open(entry, self._open_file)
        try:
            with StreamHash() as stream_hash:
                for piece in _pieces(entry, fd):
                    stream_hash.update(piece)
                    yield piece
                digest = stream_hash.digest()
        finally:
            os.close(fd)
        self.entries.append(_digested(entry, digest))


def read_out(
    entries: Iterable[Entry], open_file: OpenFile, *, workers: int | None = None
) -> Reading:
    """Read the contents of `entries`: iterate over the result once, for (entry, content).

    Content is b"" where there is none, bytes up to `SMALL_FILE`, and an iterator of pieces
    above, to be consumed before the next entry is asked for. Digests of entries with bytes
    are there at once, those of streams when the stream has ended; afterwards `entries` of
    the result has all of them. `workers`: how many threads may hash.

    Raises RepeatrError INOPERABLE_PATH where a file can't be read or does not have the size
    that its entry says, STORE where its content is not that of the digest in its entry.
    """
    return Reading(entries, open_file, workers)


def digest_all(
    entries: Iterable[Entry], open_file: OpenFile, *, workers: int | None = None
) -> list[Entry]:
    """The entries, in the order given, with the digests that they lacked.

    Files that have a digest are not read. Raises as `read_out` does.
    """
    result = list(entries)
    running: deque[tuple[int, Task[bytes]]] = deque()
    with Workers(workers) as threads:
        for position, entry in enumerate(result):
            if entry[1] != FILE or entry[12] is not None:
                continue
            fd = _open(entry, open_file)
            if entry[7] < WORTH_A_THREAD:
                try:
                    result[position] = _with_digest(entry, _read_small(entry, fd)[1])
                finally:
                    os.close(fd)
            else:
                if len(running) >= 4 * _AHEAD:
                    _finish_oldest(result, running)
                running.append((position, threads.submit(_HashFile(entry, fd))))
        while running:
            _finish_oldest(result, running)
    return result


def _finish_oldest(result: list[Entry], running: deque[tuple[int, Task[bytes]]]) -> None:
    position, task = running.popleft()
    result[position] = _with_digest(result[position], task.result())


class _HashFile:
    """Hashes one file; the descriptor is closed whatever happens to this."""

    def __init__(self, entry: Entry, fd: int) -> None:
        self._entry = entry
        self._file = _owned(entry, fd)

    def __call__(self) -> bytes:
        entry = self._entry
        hash_ = sha384()
        view = memoryview(bytearray(PIECE))
        total = 0
        with self._file as file:
            while True:
                try:
                    count = file.readinto(view)
                except OSError as error:
                    raise inoperable(entry.path, "read", error) from None
                if not count:
                    break
                hash_.update(view[:count])
                total += count
                if total > entry.size:
                    break
        if total != entry.size:
            raise _changed_size(entry, total)
        return hash_.digest()


def _ahead(
    entries: Iterable[Entry], open_file: OpenFile, workers: Workers
) -> Iterator[tuple[Entry, Task[tuple[bytes, bytes]] | None]]:
    """The entries, those worth it with a task that already reads them."""
    waiting: deque[tuple[Entry, Task[tuple[bytes, bytes]] | None]] = deque()
    for entry in entries:
        task = None
        if entry[1] == FILE and WORTH_A_THREAD <= entry[7] <= SMALL_FILE:
            task = workers.submit(_ReadFile(entry, _open(entry, open_file)))
        waiting.append((entry, task))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


class _ReadFile:
    """Reads and hashes one file; the descriptor is closed whatever happens to this."""

    def __init__(self, entry: Entry, fd: int) -> None:
        self._entry = entry
        self._file = _owned(entry, fd)

    def __call__(self) -> tuple[bytes, bytes]:
        with self._file as file:
            return _read_small(self._entry, file.fileno())


def _owned(entry: Entry, fd: int) -> FileIO:
    """A file object that owns `fd`, so that the descriptor goes where the object goes."""
    try:
        return FileIO(fd, "rb")
    except OSError as error:  # it is a directory
        os.close(fd)
        raise inoperable(entry.path, "read", error) from None


def _open(entry: Entry, open_file: OpenFile) -> int:
    try:
        return open_file(entry)
    except OSError as error:
        raise inoperable(entry.path, "read", error) from None


def _read_small(entry: Entry, fd: int) -> tuple[bytes, bytes]:
    size = entry[7]
    try:
        # One byte more than there should be, to see whether there is more.
        content = os.read(fd, size + 1)
        # A regular file gives less only at its end, other things whenever they like.
        while len(content) < size and (more := os.read(fd, size + 1 - len(content))):
            content += more
    except OSError as error:
        raise inoperable(entry.path, "read", error) from None
    if len(content) != size:
        raise _changed_size(entry, len(content))
    return content, sha384(content).digest()


def _pieces(entry: Entry, fd: int) -> Iterator[bytes]:
    total = 0
    while True:
        try:
            piece = os.read(fd, PIECE)
        except OSError as error:
            raise inoperable(entry.path, "read", error) from None
        if not piece:
            break
        total += len(piece)
        if total > entry.size:
            raise _changed_size(entry, total)
        yield piece
    if total != entry.size:
        raise _changed_size(entry, total)


def _digested(entry: Entry, digest: bytes) -> Entry:
    if entry[12] is None:
        return _with_digest(entry, digest)
    if entry[12] != digest:
        raise RepeatrError(
            Category.STORE,
            f"the content of {shown(entry.path)!r} has changed since it was unpacked",
            remedy="remove this fileset from the store; it is unpacked again when needed",
            details={"path": shown(entry.path)},
        )
    return entry


def _with_digest(entry: Entry, digest: bytes) -> Entry:
    return tuple.__new__(Entry, (*entry[:12], digest))


def _changed_size(entry: Entry, found: int) -> RepeatrError:
    known = entry.digest is not None
    return RepeatrError(
        Category.INOPERABLE_PATH,
        f"the size of {shown(entry.path)!r} changed while it was packed: it was {entry.size} "
        f"bytes, and now {'at least ' if found > entry.size else ''}{found} were found",
        remedy="pack again when nothing writes to it"
        if not known
        else "remove this fileset from the store; it is unpacked again when needed",
        details={"path": shown(entry.path)},
    )
