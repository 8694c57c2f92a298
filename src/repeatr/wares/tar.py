"""The packtypes that are tar archives: `tar` and the sound `tree`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from repeatr.fileset.entry import Content, Entry
from repeatr.model.events import Emit
from repeatr.wares.compress import Compressed
from repeatr.wares.decompress import Readable, decompressed
from repeatr.wares.packtypes import PackType
from repeatr.wares.tar_reader import read_tar
from repeatr.wares.tar_writer import archive_order, write_tar

Items = Iterable[tuple[Entry, bytes | Iterator[bytes] | None]]


@contextmanager
def _read_tar(
    stream: Readable, emit: Emit, on_read: Callable[[int], None]
) -> Iterator[Iterator[tuple[Entry, Content]]]:
    with decompressed(stream, on_read) as pieces:
        yield read_tar(pieces, emit)


@contextmanager
def _read_tree(
    stream: Readable, emit: Emit, on_read: Callable[[int], None]
) -> Iterator[Iterator[tuple[Entry, Content]]]:
    with decompressed(stream, on_read) as pieces:
        yield read_tar(pieces, emit, exact_xattrs=True)


def _write_tar(items: Items, out: BinaryIO) -> None:
    with Compressed(out, "gzip") as compressed:
        write_tar(items, compressed.write)


def _write_tree(items: Items, out: BinaryIO) -> None:
    with Compressed(out, "zstd") as compressed:
        write_tar(items, compressed.write, xattrs=True)


PACKTYPES = {
    "tar": PackType(
        "tar",
        sound=False,
        read=_read_tar,
        write=_write_tar,
        order=archive_order,
        compression="gzip",
        media="application/x-tar+gzip",
    ),
    "tree": PackType(
        "tree",
        sound=True,
        read=_read_tree,
        write=_write_tree,
        order=archive_order,
        compression="zstd",
        media="application/x-tar+zstd",
    ),
}
