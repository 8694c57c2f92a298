from __future__ import annotations

import io
import random
import tracemalloc
from hashlib import sha384

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vector_filesets as vectors
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.manifest_file import MAGIC, read_manifest, write_manifest
from repeatr.fileset.treehash import tree_hash, uncovered
from trees import trees


def d(path: bytes) -> Entry:
    return Entry(path, "d", 0o755, 0, 0, 0)


def f(path: bytes) -> Entry:
    return Entry(path, "f", 0o644, 0, 0, 0, digest=bytes(48))


def test_a_directory_sorts_as_if_its_name_ended_in_a_slash() -> None:
    manifest = Manifest([f(b"a0"), d(b"a"), f(b"a-b"), f(b"a/z"), f(b"a.b"), d(b""), f(b"!")])
    assert [e.path for e in manifest] == [b"", b"!", b"a-b", b"a.b", b"a", b"a/z", b"a0"]


@given(trees())
@settings(max_examples=40, deadline=None)
def test_order_given_makes_no_difference(tree: list[tuple[Entry, bytes | None]]) -> None:
    entries = [entry for entry, _ in tree]
    shuffled = entries[:]
    random.Random(1).shuffle(shuffled)
    assert Manifest(entries) == Manifest(shuffled)
    assert tree_hash(Manifest(entries), True) == tree_hash(Manifest(shuffled), True)


def test_get_and_contains() -> None:
    manifest = Manifest([d(b""), f(b"x")])
    assert manifest.get(b"x") == f(b"x")
    assert manifest.get(b"y") is None
    assert b"x" in manifest and b"y" not in manifest
    assert manifest.root == d(b"")
    with pytest.raises(LookupError):
        _ = Manifest([f(b"x")]).root


def test_subtree_is_rooted_anew_and_takes_no_neighbours() -> None:
    manifest = Manifest([d(b""), d(b"a"), f(b"a/b"), d(b"a/c"), f(b"a/c/d"), f(b"a-"), f(b"a0")])
    below = manifest.subtree(b"a")
    assert [e.path for e in below] == [b"", b"b", b"c", b"c/d"]
    assert below == Manifest(below)
    assert [e.path for e in manifest.subtree(b"a/b")] == [b""]
    assert len(manifest.subtree(b"nothing")) == 0
    assert manifest.subtree(b"") is manifest


@given(trees())
@settings(max_examples=40, deadline=None)
def test_the_subtree_of_a_directory_has_the_hash_of_that_directory(
    tree: list[tuple[Entry, bytes | None]],
) -> None:
    manifest = Manifest(entry for entry, _ in tree)
    below = Manifest(e._replace(path=b"x/" + e.path if e.path else b"x") for e in manifest)
    moved = Manifest([d(b""), *below])
    assert moved.subtree(b"x") == manifest


@given(trees(), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_manifest_file_round_trip(tree: list[tuple[Entry, bytes | None]], xattrs: int) -> None:
    entries = [entry for entry, _ in tree]
    pairs = ((b"security.capability", b"\0\1\2"), (b"user.\xff", b""))[:xattrs]
    entries[-1] = entries[-1]._replace(xattrs=pairs)
    manifest = Manifest(entries)
    file = io.BytesIO()
    write_manifest(manifest, file)
    file.seek(0)
    read = read_manifest(file)
    assert read == manifest
    assert all(type(entry) is Entry for entry in read)


def test_manifest_file_of_extremes() -> None:
    top = 2**32 - 1
    manifest = Manifest(
        [
            Entry(b"", "d", 0o7777, top, top, -(2**63), 999_999_999),
            Entry(b"a\n\xff", "f", 0, 0, 0, 2**63 - 1, size=2**64 - 1, link=b"odd"),
            Entry(b"c", "c", 0, 0, 0, 0, major=top, minor=top),
        ]
    )
    file = io.BytesIO()
    write_manifest(manifest, file)
    file.seek(0)
    assert read_manifest(file) == manifest
    empty = io.BytesIO()
    write_manifest(Manifest(), empty)
    empty.seek(0)
    assert len(read_manifest(empty)) == 0


def test_a_damaged_manifest_file_is_refused() -> None:
    file = io.BytesIO()
    write_manifest(Manifest([d(b""), f(b"x"), f(b"y")]), file)
    good = file.getvalue()
    broken = [b"", b"text", MAGIC, good[:-1], good[:60], good + b"x", good[4:]]
    broken += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))]
    for data in broken:
        with pytest.raises(RepeatrError) as caught:
            read_manifest(io.BytesIO(data))
        assert caught.value.category is Category.STORE
        assert "\n" not in caught.value.message and caught.value.remedy


def test_a_later_version_is_named() -> None:
    file = io.BytesIO()
    write_manifest(Manifest([d(b"")]), file)
    data = bytearray(file.getvalue())
    data[7] = 9
    with pytest.raises(RepeatrError, match="version 9"):
        read_manifest(io.BytesIO(bytes(data)))


def test_memory_of_a_large_manifest() -> None:
    file = io.BytesIO()
    count = 50_000
    write_manifest(
        Manifest(
            [
                d(b""),
                *(
                    Entry(
                        b"usr/share/something/file-%07d" % n,
                        "f",
                        0o644,
                        n,
                        n,
                        n * 10**5,
                        size=n * 7,
                        digest=n.to_bytes(48, "big"),
                    )
                    for n in range(count)
                ),
            ]
        ),
        file,
    )
    file.seek(0)
    tracemalloc.start()
    manifest = read_manifest(file)
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == count + 1
    assert used / count < 800
    assert peak / count < 1536


def test_tree_hash_counts_what_the_hole_hides() -> None:
    link = Entry(b"l", "L", 0o777, 0, 0, 0, link=b"x")
    manifest = Manifest([d(b""), f(b"a"), link])
    other = Manifest([d(b""), f(b"a"), link._replace(link=b"y")])
    assert tree_hash(manifest, False) == tree_hash(other, False)
    assert tree_hash(manifest, True) != tree_hash(other, True)
    assert uncovered(manifest) == 1


@pytest.mark.parametrize("kind", "LpDcS")
def test_a_root_of_another_kind_has_no_hash(kind: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        tree_hash(Manifest([Entry(b"", kind, 0o777, 0, 0, 0, link=b"x")]), False)
    assert caught.value.category is Category.INOPERABLE_PATH


def test_a_broken_manifest_is_a_bug_not_a_hash() -> None:
    for entries in (
        [],
        [f(b"a")],
        [d(b""), f(b"x/a")],
        [d(b""), d(b"x"), f(b"y/a")],
        [d(b""), f(b"a")._replace(digest=None)],
    ):
        with pytest.raises(ValueError):
            tree_hash(Manifest(entries), True)


@pytest.mark.parametrize(
    ("change", "wareid"),
    [
        # From tar_streams.json: what only archives can say.
        (
            {"xattrs": ((b"user.b", b"2"), (b"user.a", b"1"))},
            "pax_xattr_two",
        ),
        ({"mtime": -2, "mtime_ns": 500_000_000}, "pax_subsec_neg"),
    ],
)
def test_tree_hash_of_what_only_archives_say(change: dict[str, object], wareid: str) -> None:
    streams = {case["name"]: case for case in vectors.load("tar_streams.json")["cases"]}
    digest = sha384(b"hello\n").digest()
    entry = Entry(b"a", "f", 0o644, 0, 0, 1262304000, digest=digest)
    root = Entry(b"", "d", 0o755, 0, 0, 1262304000)
    manifest = Manifest([root, Entry(*{**entry._asdict(), **change}.values())])
    assert "tar:" + tree_hash(manifest, False) == streams[wareid]["scan_lossless"]["wareid"]
