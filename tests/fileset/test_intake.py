from __future__ import annotations

import os
import random
from collections.abc import Iterator
from hashlib import sha384
from pathlib import Path

import pytest
from hypothesis import given, settings

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Content, Entry, HardLink
from repeatr.fileset.intake import Intake, take_in
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.names import clean_name, shown
from repeatr.fileset.place import Placer
from repeatr.fileset.scan import scan
from repeatr.model.events import Event, Level, Log
from repeatr.model.filters import FOLLOW_ALL, UNPACK_DEFAULTS, Filters
from trees import trees


def d(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, "d", mode, os.geteuid(), os.getegid(), 9)


def f(path: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, "f", mode, os.geteuid(), os.getegid(), 9)


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, "L", 0o777, os.geteuid(), os.getegid(), 9, link=target)


@given(trees())
@settings(max_examples=60, deadline=None)
def test_any_order_gives_the_same_manifest(tree: list[tuple[Entry, bytes | None]]) -> None:
    wanted = Manifest(entry for entry, _ in tree)
    shuffled: list[tuple[Entry, Content]] = [
        (entry._replace(digest=None, size=0), content) for entry, content in tree
    ]
    random.Random(len(tree)).shuffle(shuffled)
    assert take_in(shuffled) == Intake(wanted, wanted)


@given(trees())
@settings(max_examples=30, deadline=None)
def test_pieces_are_the_same_as_the_whole(tree: list[tuple[Entry, bytes | None]]) -> None:
    def pieces(content: bytes) -> Iterator[bytes]:
        cut = len(content) // 3 + 1
        for at in range(0, len(content), cut):
            yield content[at : at + cut]

    streamed: list[tuple[Entry, Content]] = [
        (entry._replace(digest=None), None if content is None else pieces(content))
        for entry, content in tree
    ]
    assert take_in(streamed).manifest == Manifest(entry for entry, _ in tree)


def test_missing_parents_are_inferred_and_told() -> None:
    events: list[Event] = []
    manifest = take_in([(f(b"x/y/z"), b"")], emit=events.append).manifest
    for path in (b"", b"x", b"x/y"):
        assert manifest.get(path) == Entry(path, "d", 0o755, 0, 0, 1262304000)
    assert [e.msg for e in events if isinstance(e, Log) and e.level is Level.DEBUG] == [
        'unpacking: inferring dir "." for parent of path "./x/y/z"',
        'unpacking: inferring dir "./x" for parent of path "./x/y/z"',
        'unpacking: inferring dir "./x/y" for parent of path "./x/y/z"',
    ]


def test_nothing_at_all_is_an_empty_root() -> None:
    assert take_in([]).manifest == Manifest([Entry(b"", "d", 0o755, 0, 0, 1262304000)])


def test_a_later_directory_replaces(tmp_path: Path) -> None:
    with Placer(tmp_path / "it", faithful=os.geteuid() == 0) as placer:
        stream: list[tuple[Entry, Content]] = [
            (f(b"x/y"), b""),
            (d(b"x", 0o700), None),
            (d(b"x", 0o711), None),
            (d(b"", 0o750), None),
        ]
        manifest = take_in(stream, placer=placer).manifest
    assert manifest.get(b"x") == d(b"x", 0o711)
    assert manifest.root == d(b"", 0o750)
    modes = {e.path: e.mode for e in scan(tmp_path / "it")}
    assert modes == {b"": 0o750, b"x": 0o711, b"x/y": 0o644}


BROKEN: dict[str, list[tuple[Entry, Content]]] = {
    "file twice": [(f(b"a"), b""), (f(b"a"), b"")],
    "symlink twice": [(link(b"a", b"x"), None), (link(b"a", b"x"), None)],
    "file, then directory": [(f(b"a"), b""), (d(b"a"), None)],
    "directory, then file": [(d(b"a"), None), (f(b"a"), b"")],
    "inferred directory, then file": [(f(b"a/b"), b""), (f(b"a"), b"")],
    "below a file": [(f(b"a"), b""), (f(b"a/b"), b"")],
    "far below a file": [(f(b"a"), b""), (f(b"a/b/c/d"), b"")],
    "below a symlink inside": [(d(b"d"), None), (link(b"l", b"d"), None), (f(b"l/x"), b"")],
    "symlink over a directory": [(f(b"d/x"), b""), (link(b"d", b"/etc"), None)],
    "below a root that is a file": [(f(b""), b""), (f(b"a"), b"")],
    "root a file after all": [(f(b"a"), b""), (f(b""), b"")],
    "root twice a file": [(f(b""), b""), (f(b""), b"")],
    "absolute": [(f(b"/etc/passwd"), b"")],
    "parent": [(f(b"../x"), b"")],
    "parent within": [(f(b"a/../../x"), b"")],
    "dot": [(f(b"./x"), b"")],
    "slash at the end": [(d(b"x/"), None)],
    "two slashes": [(f(b"x//y"), b"")],
    "NUL in a name": [(f(b"a\0b"), b"")],
    "NUL in a target": [(link(b"a", b"b\0c"), None)],
    "endless name": [(f(b"a/" * 3000 + b"a"), b"")],
    "time that is none": [(f(b"a")._replace(mtime=2**63), b"")],
    "hard link to nothing": [(f(b"b"), HardLink(b"a"))],
    "hard link to something later": [(f(b"b"), HardLink(b"a")), (f(b"a"), b"")],
    "hard link to itself": [(f(b"b"), HardLink(b"b"))],
    "hard link to a directory": [(d(b"a"), None), (f(b"b"), HardLink(b"a"))],
    "hard link to a symlink": [(link(b"a", b"x"), None), (f(b"b"), HardLink(b"a"))],
    "hard link to outside": [(f(b"b"), HardLink(b"../a"))],
    "hard link over a file": [(f(b"a"), b""), (f(b"b"), b""), (f(b"b"), HardLink(b"a"))],
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_tree_is_corrupt(name: str, tmp_path: Path) -> None:
    (tmp_path / "around").mkdir()
    for placed in (False, True):
        with pytest.raises(RepeatrError) as caught:
            if placed:
                with Placer(tmp_path / "around" / "it", faithful=False) as placer:
                    take_in(BROKEN[name], placer=placer)
            else:
                take_in(BROKEN[name])
        assert caught.value.category is Category.WARE_CORRUPT
        assert "\n" not in caught.value.message and caught.value.message.isprintable()
    assert sorted(p.name for p in (tmp_path / "around").iterdir()) in ([], ["it"])
    assert [p.name for p in tmp_path.iterdir()] == ["around"]


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    for content in (b"small", b"x" * 200_000, iter([b"y" * 300_000] * 9)):
        where = tmp_path / str(id(content))
        stream: list[tuple[Entry, Content]] = [
            (d(b""), None),
            (f(b"a", 0o640)._replace(link=b"odd"), content),
            (f(b"b")._replace(uid=77, mtime=1), HardLink(b"a")),
            (f(b"sub/c"), HardLink(b"b")),
        ]
        with Placer(where, faithful=os.geteuid() == 0) as placer:
            manifest = take_in(stream, placer=placer).manifest
        a = manifest.get(b"a")
        assert a is not None and a.digest == sha384((where / "a").read_bytes()).digest()
        assert a.link == b"odd" and a.size == (where / "a").stat().st_size > 0
        for path in (b"b", b"sub/c"):
            assert manifest.get(path) == a._replace(path=path, link=b"")
            copy = where / path.decode()
            assert copy.read_bytes() == (where / "a").read_bytes()
            assert copy.stat().st_ino != (where / "a").stat().st_ino
            assert copy.stat().st_mode & 0o7777 == 0o640


def test_filters_change_what_is_placed_and_not_what_the_ware_is(tmp_path: Path) -> None:
    stream: list[tuple[Entry, Content]] = [
        (Entry(b"", "d", 0o1777, 7, 8, 9, 5), None),
        (Entry(b"s", "f", 0o6755, 7, 8, 9, 5, xattrs=((b"user.a", b"1"),)), b"x" * 100_000),
        (Entry(b"n", "c", 0o644, 0, 0, 0, major=1, minor=3), None),
        (Entry(b"t", "f", 0o644, 7, 8, 9), iter([b"abc"])),
    ]
    filters = Filters(
        uid="mine", gid="mine", mtime=5, sticky="ignore", setid="ignore", dev="ignore",
        xattr="ignore",
    )  # fmt: skip
    with Placer(tmp_path / "it", faithful=True) as placer:
        intake = take_in(stream, placer=placer, filters=filters)
    assert len(intake.manifest) == 4 and len(intake.placed) == 3
    assert intake.manifest.root == stream[0][0]
    device = intake.manifest.get(b"n")
    assert device == stream[2][0]
    uid, gid = os.geteuid(), os.getegid()
    s = intake.placed.get(b"s")
    assert s is not None and s.digest == sha384(b"x" * 100_000).digest()
    assert s[:7] == (b"s", "f", 0o755, uid, gid, 5, 0) and s.xattrs == ()
    t = intake.placed.get(b"t")
    assert t is not None and t.digest == sha384(b"abc").digest()
    assert Manifest(e._replace(digest=None) for e in intake.placed) == Manifest(
        scan(tmp_path / "it", xattrs=True)
    )


@pytest.mark.parametrize(
    ("entry", "let_through"),
    [
        (f(b"s", 0o4755), "setid=follow"),
        (d(b"s", 0o2755), "setid=follow"),
        (Entry(b"s", "D", 0o600, 0, 0, 0), "dev=follow"),
    ],
)
def test_a_rejection_names_the_path_and_the_way_out(entry: Entry, let_through: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        take_in([(entry, None)], filters=UNPACK_DEFAULTS)
    assert caught.value.exit_code == 13
    assert "'s'" in caught.value.message and let_through in caught.value.remedy


def test_follow_all_needs_no_second_manifest() -> None:
    intake = take_in([(f(b"a", 0o4755), b"")], filters=FOLLOW_ALL)
    assert intake.placed is intake.manifest


def test_an_error_within_a_stream_goes_through(tmp_path: Path) -> None:
    def cut_off() -> Iterator[bytes]:
        yield b"x" * 200_000
        raise RepeatrError(Category.WARE_CORRUPT, "cut off")

    with (
        pytest.raises(RepeatrError, match="cut off"),
        Placer(tmp_path / "it", faithful=True) as placer,
    ):
        take_in([(f(b"a"), cut_off())], placer=placer)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"),
        (b"./a", b"a"),
        (b".//a", b"a"),
        (b"a/", b"a"),
        (b"./", b""),
        (b".", b""),
        (b"a/.", b"a"),
        (b"a/../b", b"b"),
        (b"a/b/../../c", b"c"),
        (b"..foo", b"..foo"),
        (b"...", b"..."),
        (b"x/..foo/.bar", b"x/..foo/.bar"),
        (b"\xff\n", b"\xff\n"),
    ],
)
def test_clean_names(name: bytes, path: bytes) -> None:
    assert clean_name(name) == path
    take_in([(d(path), None)])


@pytest.mark.parametrize(
    "name", [b"", b"/", b"/a", b"..", b"../a", b"a/../..", b"a/../../a", b"\0"]
)
def test_names_that_are_refused(name: bytes) -> None:
    with pytest.raises(RepeatrError) as caught:
        clean_name(name)
    assert caught.value.exit_code == 6


def test_names_do_not_write_to_the_terminal() -> None:
    assert shown(b"") == "."
    assert shown("ü x".encode()) == "ü x"
    assert shown(b"\xff\x1b[31m\n") == "\\\\xff\\x1b[31m\\n"
