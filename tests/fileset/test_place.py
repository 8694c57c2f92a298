from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.outlet import FilesOnDisk, digest_all
from repeatr.fileset.place import Placer, projected_mode, projected_owner
from repeatr.fileset.scan import scan
from trees import NOBODY, as_nobody, trees

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="makes devices and gives files away")


def d(path: bytes, mode: int = 0o755, **more: Any) -> Entry:
    return mine(Entry(path, "d", mode, 0, 0, 1262304000))._replace(**more)


def f(path: bytes, mode: int = 0o644, **more: Any) -> Entry:
    return mine(Entry(path, "f", mode, 0, 0, 1262304000))._replace(**more)


def mine(entry: Entry) -> Entry:
    return entry._replace(uid=os.geteuid(), gid=os.getegid())


def read_back(target: Path) -> Manifest:
    with FilesOnDisk(target) as open_file:
        return Manifest(digest_all(scan(target, xattrs=True), open_file))


@needs_root
@given(trees())
@settings(max_examples=60, deadline=None)
def test_what_was_placed_is_scanned_again(tree: list[tuple[Entry, bytes | None]]) -> None:
    where = Path(tempfile.mkdtemp())
    try:
        with Placer(where / "it", faithful=True) as placer:
            for entry, content in tree:
                placer.place(entry, content)
        assert read_back(where / "it") == Manifest(entry for entry, _ in tree)
        assert placer.shortfalls == {}
    finally:
        shutil.rmtree(where)


@given(trees(kinds="fdLp"))
@settings(max_examples=30, deadline=None)
def test_the_same_without_rights(tree: list[tuple[Entry, bytes | None]]) -> None:
    """Modes like 0000, of directories too, need no rights either."""
    where = Path(tempfile.mkdtemp())
    try:
        tree = [(e._replace(uid=NOBODY, gid=NOBODY), c) for e, c in tree]
        if not ROOT:
            tree = [(mine(e), c) for e, c in tree]
        if ROOT:
            os.chown(where, NOBODY, NOBODY)
        fd = os.open(where, os.O_RDONLY)

        def work() -> None:
            with Placer(fd, faithful=True) as placer:
                for entry, content in tree:
                    placer.place(entry, content)

        as_nobody(work)
        os.close(fd)
        if ROOT:
            assert read_back(where) == Manifest(entry for entry, _ in tree)
    finally:
        os.chmod(where, 0o700)
        for directory, below, _ in os.walk(where):
            for name in below:
                if not os.path.islink(os.path.join(directory, name)):
                    os.chmod(os.path.join(directory, name), 0o700)
        shutil.rmtree(where)


@needs_root
def test_without_rights_and_faithful_an_owner_is_an_error(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    fd = os.open(tmp_path, os.O_RDONLY)

    def work() -> tuple[Category, str, str]:
        try:
            with Placer(fd, faithful=True) as placer:
                placer.place(Entry(b"x", "f", 0o644, 0, 0, 0), b"")
        except RepeatrError as error:
            return error.category, error.message, error.remedy
        raise AssertionError("no error")

    category, message, remedy = as_nobody(work)
    assert category is Category.INOPERABLE_PATH
    assert message == "can't give 'x' to the user 0 and the group 0: Operation not permitted"
    assert "uid=mine,gid=mine" in remedy


@needs_root
def test_without_rights_and_faithful_a_device_is_an_error(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    fd = os.open(tmp_path, os.O_RDONLY)

    def work() -> tuple[str, str]:
        try:
            with Placer(fd, faithful=True) as placer:
                placer.place(Entry(b"null", "c", 0o644, NOBODY, NOBODY, 0, major=1, minor=3))
        except RepeatrError as error:
            return error.message, error.remedy
        raise AssertionError("no error")

    message, remedy = as_nobody(work)
    assert message == "can't make the device node 'null': Operation not permitted"
    assert "dev=ignore" in remedy


@needs_root
def test_without_rights_and_not_faithful_it_is_as_near_as_may_be(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    fd = os.open(tmp_path, os.O_RDONLY)
    entries = [
        Entry(b"", "d", 0o755, 0, 0, 1),
        Entry(b"su", "f", 0o4755, 0, 0, 2),
        Entry(b"own", "f", 0o4755, NOBODY, NOBODY, 2),
        Entry(b"null", "c", 0o644, 0, 0, 3, major=1, minor=3),
        Entry(b"l", "L", 0o777, 5, 5, 4, link=b"su"),
    ]

    def work() -> dict[str, int]:
        with Placer(fd, faithful=False) as placer:
            for entry in entries:
                placer.place(entry, b"" if entry.kind == "f" else None)
        return placer.shortfalls

    assert as_nobody(work) == {"device": 1, "owner": 3}
    found = Manifest(scan(tmp_path))
    assert [e.path for e in found] == [b"", b"l", b"own", b"su"]
    assert {(e.uid, e.gid) for e in found} == {(NOBODY, NOBODY)}
    # A set-id bit that would lend another user's rights than meant is not given.
    assert [e.mode for e in found] == [0o755, 0o777, 0o4755, 0o755]
    assert [e.mtime for e in found] == [1, 4, 2, 2]


@pytest.mark.parametrize("kind", "fdL")
def test_an_id_that_no_file_can_have(tmp_path: Path, kind: str) -> None:
    entry = Entry(b"x", kind, 0o777, 2**32 - 1, 2**32 - 1, 0, link=b"y")
    with (
        pytest.raises(RepeatrError, match="the user 4294967295") as caught,
        Placer(tmp_path / "a", faithful=True) as placer,
    ):
        placer.place(d(b""))
        placer.place(entry)
    assert caught.value.exit_code == 12
    with Placer(tmp_path / "b", faithful=False) as placer:
        placer.place(d(b""))
        placer.place(entry)
    assert placer.shortfalls == {"owner": 1}


@needs_root
def test_owners_are_mapped_as_the_caller_says(tmp_path: Path) -> None:
    def chown(uid: int, gid: int) -> tuple[int, int] | None:
        return (100_000 + uid, 100_000 + gid) if uid < 1000 else None

    low, high = Entry(b"a", "f", 0o4755, 1, 2, 0), Entry(b"b", "f", 0o4755, 5000, 2, 0)
    with Placer(tmp_path / "it", faithful=False, chown=chown) as placer:
        placer.place(Entry(b"", "d", 0o755, 0, 0, 0))
        placer.place(low, b"")
        placer.place(high, b"")
    found = read_back(tmp_path / "it")
    for entry, owner, mode in ((low, (100_001, 100_002), 0o4755), (high, None, 0o755)):
        at = found.get(entry.path)
        assert at is not None
        assert projected_owner(entry, chown) == owner
        assert projected_mode(entry, chown) == at.mode == mode
        assert (at.uid, at.gid) == (owner or (0, 0))


def test_a_root_that_is_a_file_becomes_the_target(tmp_path: Path) -> None:
    with Placer(tmp_path / "it", faithful=True) as placer:
        placer.place(f(b"", 0o640), b"hello")
    assert (tmp_path / "it").read_bytes() == b"hello"
    (entry,) = read_back(tmp_path / "it")
    assert (entry.mode, entry.mtime, entry.size) == (0o640, 1262304000, 5)
    # Where a directory is, no file is placed.
    (tmp_path / "dir").mkdir()
    with (
        pytest.raises(RepeatrError, match="File exists") as caught,
        Placer(tmp_path / "dir", faithful=True) as placer,
    ):
        placer.place(f(b""), b"hello")
    assert caught.value.category is Category.INOPERABLE_PATH


def test_content_in_pieces_and_copies(tmp_path: Path) -> None:
    big = [bytes([n]) * 100_000 for n in range(30)]

    def work() -> bool:
        with Placer(fd, faithful=True) as placer:
            placer.place(d(b"in")._replace(**who))
            placer.place(f(b"in/a", 0)._replace(**who), iter(big))
            # Not even the owner may read it, and yet it is copied.
            placer.copy(b"in/a", f(b"b", 0o600, mtime=7)._replace(**who))
        return True

    if ROOT:
        os.chown(tmp_path, NOBODY, NOBODY)
        who: dict[str, Any] = {"uid": NOBODY, "gid": NOBODY}
    else:
        who = {"uid": os.geteuid(), "gid": os.getegid()}
    fd = os.open(tmp_path, os.O_RDONLY)
    assert as_nobody(work)
    assert (tmp_path / "b").read_bytes() == b"".join(big)
    a, b = os.lstat(tmp_path / "in/a"), os.lstat(tmp_path / "b")
    assert (a.st_ino != b.st_ino, a.st_mode & 0o7777, b.st_mode & 0o7777) == (True, 0, 0o600)
    assert b.st_mtime == 7


def test_xattrs(tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "user.test", b"")
    except OSError:
        pytest.skip("no xattrs here")
    xattrs = ((b"user.a", b"1"), (b"user.b", b""))
    tree = [
        d(b"")._replace(xattrs=xattrs),
        f(b"x", 0o444)._replace(xattrs=xattrs[:1]),
    ]
    with Placer(tmp_path / "it", faithful=True) as placer:
        for entry in tree:
            placer.place(entry, b"" if entry.kind == "f" else None)
    assert [e.xattrs for e in read_back(tmp_path / "it")] == [xattrs, xattrs[:1]]
    assert [e.xattrs for e in Manifest(scan(tmp_path / "it"))] == [(), ()]


def test_nothing_is_a_note_to_overlayfs(tmp_path: Path) -> None:
    """As a lower layer it would hide files, and from users other ones than from root."""
    try:
        os.setxattr(tmp_path, "user.test", b"")
    except OSError:
        pytest.skip("no xattrs here")
    notes = tuple(
        (b"%b.overlay.%b" % (space, note), b"y")
        for space in (b"trusted", b"user")
        for note in (b"opaque", b"whiteout")
    )
    kept = ((b"user.overlays", b"1"),)
    with Placer(tmp_path / "it", faithful=True) as placer:
        placer.place(d(b"")._replace(xattrs=notes + kept), None)
        placer.place(f(b"x")._replace(xattrs=notes), b"")
    for path in ("it", "it/x"):
        names = set(os.listxattr(tmp_path / path)) - {"security.selinux"}
        assert names == ({"user.overlays"} if path == "it" else set())
    assert placer.shortfalls == {"xattr": 8}


def test_a_directory_that_comes_again_is_changed(tmp_path: Path) -> None:
    with Placer(tmp_path / "it", faithful=True) as placer:
        placer.place(d(b""))
        placer.place(d(b"a", 0o700))
        placer.place(f(b"a/x"), b"")
        placer.place(d(b"a", 0o751, mtime=3))
    found = read_back(tmp_path / "it").get(b"a")
    assert found is not None and (found.mode, found.mtime) == (0o751, 3)


@pytest.mark.parametrize("lure", ["symlink", "file"])
def test_no_swapped_parent_is_followed(tmp_path: Path, lure: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "it"
    with pytest.raises(RepeatrError) as caught, Placer(target, faithful=True) as placer:
        placer.place(d(b""))
        placer.place(d(b"a"))
        (target / "a").rmdir()
        if lure == "symlink":
            (target / "a").symlink_to(outside)
        else:
            (target / "a").write_text("")
        placer.place(f(b"a/x"), b"escaped")
    assert caught.value.category is Category.INOPERABLE_PATH
    assert "'a/x'" in caught.value.message and str(target) in caught.value.message
    assert list(outside.iterdir()) == []


def test_a_directory_swapped_before_the_end_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(0o700)
    target = tmp_path / "it"
    with pytest.raises(RepeatrError), Placer(target, faithful=True) as placer:
        placer.place(d(b""))
        placer.place(d(b"a", 0o777))
        (target / "a").rmdir()
        (target / "a").symlink_to(outside)
    assert outside.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", "fLp")
def test_what_is_there_is_neither_followed_nor_overwritten(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "it"
    with pytest.raises(RepeatrError, match="File exists"), Placer(target, faithful=True) as placer:
        placer.place(d(b""))
        (target / "x").symlink_to(victim)
        placer.place(f(b"x")._replace(kind=kind, link=b"y"), b"evil" if kind == "f" else None)
    assert victim.read_text() == "precious"


def test_a_target_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(RepeatrError), Placer(tmp_path / "link", faithful=True) as placer:
        placer.place(d(b""))
        placer.place(f(b"x"), b"")
    assert list((tmp_path / "real").iterdir()) == []


def test_a_missing_parent_of_the_target_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RepeatrError, match="No such file") as caught,
        Placer(tmp_path / "no" / "it", faithful=True) as placer,
    ):
        placer.place(d(b""))
    assert str(tmp_path / "no" / "it") in caught.value.message
    assert caught.value.exit_code == 12


@needs_root
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    import subprocess

    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        with (
            pytest.raises(RepeatrError, match="No space left") as caught,
            Placer(tmp_path / "it", faithful=False) as placer,
        ):
            placer.place(d(b""))
            placer.place(f(b"big"), bytes(10**6))
        assert caught.value.exit_code == 12
        assert "make space" in caught.value.remedy
        assert str(tmp_path) in caught.value.message
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_deeper_than_path_max(tmp_path: Path) -> None:
    name = b"d" * 200
    path = b""
    target = tmp_path / "it"
    try:
        with Placer(target, faithful=True) as placer:
            placer.place(d(b""))
            for _ in range(40):
                path = path + b"/" + name if path else name
                placer.place(d(path))
            placer.place(f(path + b"/x"), b"deep")
        assert len(path) > 4096
        found = read_back(target)
        assert len(found) == 42 and found.get(path + b"/x") is not None
    finally:
        shutil.rmtree(target)


def test_many_directories_need_few_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Placer(tmp_path / "it", faithful=True) as placer:
        placer.place(d(b""))
        for n in range(300):
            placer.place(d(b"%d" % n))
            placer.place(f(b"%d/x" % n), b"")
        assert len(os.listdir("/proc/self/fd")) < before + 100
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(scan(tmp_path / "it")) == 601
    assert len(os.listdir("/proc/self/fd")) == before
