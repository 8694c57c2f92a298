"""Compressed streams: told apart, joined, and refused when damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zstandard

from repeatr.errors import Category, RepeatrError
from repeatr.wares.compress import Compressed
from repeatr.wares.decompress import READ_SIZE, compression_of, decompressed
from repeatr.wares.pipes import ReadAhead, WriteBehind

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
}
NOISE = random.Random(7).randbytes(3 * READ_SIZE)


def read(data: bytes) -> bytes:
    with decompressed(io.BytesIO(data)) as pieces:
        return b"".join(pieces)


class Dribble(io.RawIOBase):
    """A stream that answers a few bytes at a time, as a socket may."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._size))


@pytest.mark.parametrize("data", [b"x", b"hello " * 1000, NOISE, bytes(9_000_000)])
@pytest.mark.parametrize("method", COMPRESS)
def test_reads_what_others_compressed(method: str, data: bytes) -> None:
    packed = COMPRESS[method](data)
    assert compression_of(packed[:10]) == method
    assert read(packed) == data
    with decompressed(Dribble(packed, 1000)) as pieces:
        assert b"".join(pieces) == data


@pytest.mark.parametrize("method", COMPRESS)
def test_several_streams_are_one(method: str) -> None:
    compress = COMPRESS[method]
    empty = compress(b"")
    assert read(compress(NOISE) + empty + compress(b"and this") + empty) == NOISE + b"and this"


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz"])
def test_zero_padding_is_no_stream(method: str) -> None:
    packed = COMPRESS[method](b"data")
    assert read(packed + bytes(512) + packed + bytes(300_000)) == b"datadata"


@pytest.mark.parametrize("method", COMPRESS)
def test_junk_after_a_stream_is_refused(method: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        read(COMPRESS[method](b"data") + b"junk that is no stream")
    assert caught.value.category is Category.WARE_CORRUPT


@pytest.mark.parametrize("method", COMPRESS)
def test_a_stream_that_is_cut_off_is_refused(method: str) -> None:
    packed = COMPRESS[method](b"some words, some words, and others " * 50 + NOISE[:2000])
    for cut in [*range(10, 60), *range(60, len(packed), 97), len(packed) - 1]:
        with pytest.raises(RepeatrError, match=f"corrupt {method} stream") as caught:
            read(packed[:cut])
        assert caught.value.category is Category.WARE_CORRUPT


@pytest.mark.parametrize("method", COMPRESS)
def test_a_stream_that_is_cut_off_late_is_refused(method: str) -> None:
    packed = COMPRESS[method](NOISE)
    for cut in (READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, len(packed) - 1):
        with pytest.raises(RepeatrError, match=f"corrupt {method} stream"):
            read(packed[:cut])


@pytest.mark.parametrize("method", COMPRESS)
def test_damage_is_refused(method: str) -> None:
    packed = bytearray(COMPRESS[method](NOISE))
    packed[len(packed) // 2] ^= 0x10
    with pytest.raises(RepeatrError) as caught:
        read(bytes(packed))
    assert caught.value.category is Category.WARE_CORRUPT


@pytest.mark.parametrize("method", COMPRESS)
def test_random_damage_ends(method: str) -> None:
    rng = random.Random(method)
    packed = COMPRESS[method](NOISE[:40_000] + b"words " * 5000)
    for _ in range(150):
        broken = bytearray(packed)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            read(bytes(broken))
        except RepeatrError as error:
            assert error.category is Category.WARE_CORRUPT


def test_skippable_zstd_frames() -> None:
    skippable = b"\x53\x2a\x4d\x18" + (70_000).to_bytes(4, "little") + bytes(70_000)
    packed = COMPRESS["zstd"](b"data")
    assert read(skippable + packed + skippable) == b"data"
    with pytest.raises(RepeatrError):
        read(packed + skippable[:-1])


def test_a_tar_whose_first_name_is_like_a_magic_is_plain() -> None:
    assert compression_of(b"BZhello\0\0\0") == "plain"
    assert read(b"") == b""


def test_errors_of_the_stream_are_told() -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(RepeatrError, match="Input/output") as caught:
        decompressed(Broken())
    assert caught.value.category is Category.WAREHOUSE_UNAVAILABLE


@pytest.mark.parametrize("method", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("size", [1, 1000, 131072, 700_001])
def test_written_streams_are_read(method: str, size: int) -> None:
    out = io.BytesIO()
    with Compressed(out, method) as compressed:
        for start in range(0, len(NOISE), size if size > 1 else len(NOISE)):
            compressed.write(NOISE[start : start + (size if size > 1 else len(NOISE))])
    assert read(out.getvalue()) == NOISE
    if method == "gzip":
        assert gzip.decompress(out.getvalue()) == NOISE


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_bytes_do_not_depend_on_how_they_are_handed_over(method: str) -> None:
    def pack(size: int) -> bytes:
        out = io.BytesIO()
        data = b"some words " * 60_000
        with Compressed(out, method) as compressed:
            for start in range(0, len(data), size):
                compressed.write(data[start : start + size])
        return out.getvalue()

    assert pack(512) == pack(300_001) == pack(1_000_000)


def test_a_gzip_header_holds_no_time_and_no_name() -> None:
    out = io.BytesIO()
    with Compressed(out, "gzip") as compressed:
        compressed.write(b"x")
    assert out.getvalue()[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


def test_a_full_disk_is_told() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with (
        pytest.raises(RepeatrError, match="No space left") as caught,
        Compressed(Full(), "plain") as compressed,
    ):
        for _ in range(100):
            compressed.write(NOISE)
    assert caught.value.category is Category.WAREHOUSE_UNWRITABLE


def test_an_abandoned_writer_leaves_no_thread() -> None:
    with pytest.raises(ZeroDivisionError), Compressed(io.BytesIO(), "gzip") as compressed:
        compressed.write(NOISE)
        raise ZeroDivisionError
    assert not any(thread.name == "write-behind" for thread in threading.enumerate())


def test_read_ahead_is_bounded_and_stops() -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x"

    with ReadAhead(pieces(), depth=4) as ahead:
        next(ahead)
        time.sleep(0.05)
        assert taken <= 7
    assert not any(thread.name == "read-ahead" for thread in threading.enumerate())


def test_write_behind_raises_what_went_wrong() -> None:
    def consume(piece: bytes) -> None:
        raise ValueError(piece)

    with pytest.raises(ValueError), WriteBehind(consume) as behind:
        behind.put(b"1")


def test_bombs_are_read_in_pieces() -> None:
    for method in COMPRESS:
        bomb = COMPRESS[method](bytes(100_000_000))
        with decompressed(io.BytesIO(bomb)) as pieces:
            assert max(len(piece) for piece in pieces) <= 1 << 20
