from __future__ import annotations

import os
from hashlib import sha384
from pathlib import Path

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.outlet import SMALL_FILE, FilesOnDisk, digest_all, read_out
from repeatr.fileset.scan import scan

SIZES = [0, 1, 4096, 65_535, 65_536, 65_537, SMALL_FILE, SMALL_FILE + 1, 3 * SMALL_FILE]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "it"
    root.mkdir()
    for n, size in enumerate(SIZES * 3):
        directory = root / f"d{n % 4}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{n:03}").write_bytes(bytes([n]) * size)
    (root / "link").symlink_to("d0")
    os.mkfifo(root / "pipe")
    return root


def expected(root: Path, entry: Entry) -> bytes | None:
    if entry.kind != "f":
        return None
    return sha384((root / os.fsdecode(entry.path)).read_bytes()).digest()


def test_everything_is_read_in_the_order_given(tree: Path) -> None:
    entries = list(Manifest(scan(tree)))[::-1]
    with FilesOnDisk(tree) as open_file:
        reading = read_out(entries, open_file)
        order = []
        for entry, content in reading:
            order.append(entry.path)
            whole = content if isinstance(content, bytes) else b"".join(content)
            assert isinstance(content, bytes) == (entry.size <= SMALL_FILE)
            if entry.kind == "f":
                assert sha384(whole).digest() == expected(tree, entry)
                assert len(whole) == entry.size
            else:
                assert whole == b""
    assert order == [entry.path for entry in entries]
    assert [e.path for e in reading.entries] == order
    assert all(e.digest == expected(tree, e) for e in reading.entries)


def test_a_stream_that_nobody_reads_is_hashed_all_the_same(tree: Path) -> None:
    with FilesOnDisk(tree) as open_file:
        reading = read_out(scan(tree), open_file)
        for _ in reading:
            pass
    assert all(e.digest == expected(tree, e) for e in reading.entries)


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_digest_all(tree: Path, workers: int | None) -> None:
    entries = scan(tree)
    with FilesOnDisk(tree) as open_file:
        done = digest_all(entries, open_file, workers=workers)
    assert [e.path for e in done] == [e.path for e in entries]
    assert all(e.digest == expected(tree, e) for e in done)


def test_digest_all_reads_nothing_twice(tree: Path) -> None:
    with FilesOnDisk(tree) as open_file:
        done = digest_all(scan(tree), open_file)

    def refuse(entry: Entry) -> int:
        raise AssertionError(entry)

    assert digest_all(done, refuse) == done


def test_a_known_digest_is_checked(tree: Path) -> None:
    with FilesOnDisk(tree) as open_file:
        done = digest_all(scan(tree), open_file)
        assert [e for e, _ in read_out(done, open_file)] == done
        for size in (1, 65_536, SMALL_FILE + 1):
            entry = next(e for e in done if e.size == size)
            (tree / os.fsdecode(entry.path)).write_bytes(b"!" * size)
            with pytest.raises(RepeatrError, match="changed since it was unpacked") as caught:
                list(read_out([entry], open_file))
            assert caught.value.category is Category.STORE


@pytest.mark.parametrize("size", [0, 10, 100_000, SMALL_FILE + 10])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_size_that_changes_is_told(tmp_path: Path, size: int, by: int) -> None:
    if size + by < 0:
        pytest.skip("no less than nothing")
    (tmp_path / "x").write_bytes(b"x" * size)
    entries = scan(tmp_path)
    (tmp_path / "x").write_bytes(b"x" * (size + by))
    with FilesOnDisk(tmp_path) as open_file:
        for run in (
            lambda: list(read_out(entries, open_file)),
            lambda: digest_all(entries, open_file),
        ):
            with pytest.raises(RepeatrError, match="'x' changed while it was packed") as caught:
                run()
            assert caught.value.category is Category.INOPERABLE_PATH


@pytest.mark.parametrize("size", [6, 100_000, SMALL_FILE + 10])
@pytest.mark.parametrize("swap", ["symlink", "fifo", "missing", "directory"])
def test_what_is_no_longer_a_file_is_not_read(tmp_path: Path, swap: str, size: int) -> None:
    (tmp_path / "secret").write_bytes(b"s" * size)
    root = tmp_path / "it"
    root.mkdir()
    (root / "x").write_bytes(b"p" * size)
    entries = [e for e in scan(root) if e.path]
    (root / "x").unlink()
    match swap:
        case "symlink":
            (root / "x").symlink_to("../secret")
        case "fifo":
            os.mkfifo(root / "x")
        case "directory":
            (root / "x").mkdir()
    with FilesOnDisk(root) as open_file:
        for run in (
            lambda: list(read_out(entries, open_file)),
            lambda: digest_all(entries, open_file),
        ):
            with pytest.raises(RepeatrError, match="'x'") as caught:
                run()
            assert caught.value.category is Category.INOPERABLE_PATH


def test_a_lone_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    entries = scan(tmp_path / "x")
    with FilesOnDisk(tmp_path / "x") as open_file:
        ((entry, content),) = read_out(entries, open_file)
        assert (entry.path, content) == (b"", b"hello")
        assert digest_all(entries, open_file) == [entry]


def test_no_descriptor_stays_open(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for stop in (1, 5, 20):
        with FilesOnDisk(tree) as open_file:
            for n, _ in enumerate(read_out(scan(tree), open_file)):
                if n == stop:
                    break
    import gc

    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
