from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.scan import scan
from repeatr.model.events import Event, Level, Log
from trees import NOBODY, as_nobody


def test_a_socket_is_left_out_with_a_warning(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        previous = os.getcwd()
        os.chdir(tmp_path)  # names of sockets are short
        try:
            server.bind("sock")
        finally:
            os.chdir(previous)
        (tmp_path / "x").write_text("")
        events: list[Event] = []
        found = scan(tmp_path, emit=events.append)
    assert {e.path for e in found} == {b"", b"x"}
    (event,) = events
    assert isinstance(event, Log) and event.level is Level.WARN
    assert event.msg == "leaving out 'sock': a socket can't be packed"


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("")
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "l").symlink_to("../dir")
    assert [(e.path, e.kind, e.link) for e in scan(tmp_path / "it")] == [
        (b"", "d", b""),
        (b"l", "L", b"../dir"),
    ]
    (lone,) = scan(tmp_path / "it" / "l")
    assert (lone.path, lone.kind, lone.link) == (b"", "L", b"../dir")


def test_a_directory_by_its_descriptor(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("abc")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert scan(fd) == scan(tmp_path) == scan(os.fsencode(tmp_path))
    finally:
        os.close(fd)
    assert {e.path: e.size for e in scan(tmp_path)} == {b"": 0, b"x": 3}


def test_times_before_1970_are_floored(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(0, -1_500_000_000))
    (entry,) = scan(tmp_path)
    assert (entry.mtime, entry.mtime_ns) == (-2, 500_000_000)


@pytest.mark.parametrize("name", ["no", "x/no"])
def test_a_missing_path_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(RepeatrError) as caught:
        scan(tmp_path / name)
    assert caught.value.category is Category.INOPERABLE_PATH
    assert str(tmp_path / name) in caught.value.message


def test_an_unreadable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "locked").mkdir(parents=True)
    (tmp_path / "a" / "locked").chmod(0)
    if os.geteuid() == 0:
        os.chown(tmp_path / "a" / "locked", NOBODY, NOBODY)
        tmp_path.chmod(0o755)
    fd = os.open(tmp_path, os.O_RDONLY)

    def work() -> tuple[int, str, str]:
        try:
            scan(fd)
        except RepeatrError as error:
            return error.exit_code, error.message, error.remedy
        raise AssertionError("no error")

    code, message, remedy = as_nobody(work)
    assert (code, message) == (12, "can't read 'a/locked': Permission denied")
    assert remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="sets trusted attributes")
def test_only_xattrs_that_belong_to_the_content_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    try:
        os.setxattr(tmp_path / "x", "user.b", b"2")
    except OSError:
        pytest.skip("no xattrs here")
    os.setxattr(tmp_path / "x", "user.a", b"1")
    os.setxattr(tmp_path / "x", "trusted.c", b"3")
    found = Manifest(scan(tmp_path, xattrs=True)).get(b"x")
    assert found is not None and found.xattrs == ((b"user.a", b"1"), (b"user.b", b"2"))
    (lone,) = scan(tmp_path / "x", xattrs=True)
    assert lone.xattrs == found.xattrs
