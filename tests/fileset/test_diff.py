from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from repeatr.fileset.diff import diff
from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest
from trees import trees

ROOT = Entry(b"", "d", 0o755, 0, 0, 0)
FILE = Entry(b"x", "f", 0o644, 0, 0, 5, size=3, digest=b"1" * 48)


@pytest.mark.parametrize(
    ("change", "fields", "text"),
    [
        ({"digest": b"2" * 48}, ("content",), "changed x: content"),
        (
            {"digest": b"2" * 48, "size": 4},
            ("content",),
            "changed x: content 3 bytes -> 4 bytes",
        ),
        ({"mode": 0o600}, ("mode",), "changed x: mode 0644 -> 0600"),
        ({"uid": 5, "gid": 6}, ("uid", "gid"), "changed x: uid 0 -> 5, gid 0 -> 6"),
        ({"mtime_ns": 500_000_000}, ("mtime",), "changed x: mtime @5 -> @5.5"),
        (
            {"kind": "L", "link": b"y", "digest": None, "size": 0},
            ("kind", "content", "link"),
            "changed x: kind a file -> a symlink, content 3 bytes -> 0 bytes, link none -> 'y'",
        ),
        ({"xattrs": ((b"user.a", b"1"),)}, ("xattrs",), "changed x: xattrs [] -> [user.a]"),
    ],
)
def test_what_changed(change: dict[str, Any], fields: tuple[str, ...], text: str) -> None:
    (found,) = diff(Manifest([ROOT, FILE]), Manifest([ROOT, FILE._replace(**change)]))
    assert (found.path, found.what, found.fields, str(found)) == (b"x", "changed", fields, text)


def test_devices() -> None:
    null = Entry(b"n", "c", 0o666, 0, 0, 0, major=1, minor=3)
    (found,) = diff(Manifest([ROOT, null]), Manifest([ROOT, null._replace(minor=5)]))
    assert str(found) == "changed n: device 1:3 -> 1:5"


def test_added_and_removed_in_order() -> None:
    one, two = FILE._replace(path=b"a"), FILE._replace(path=b"b", kind="d", digest=None)
    found = diff(Manifest([ROOT, one, FILE]), Manifest([ROOT, two, FILE]))
    assert [str(change) for change in found] == ["removed a: a file", "added b: a directory"]
    assert [change.what for change in found] == ["removed", "added"]


def test_an_unread_content_is_compared_by_size() -> None:
    unread = FILE._replace(digest=None)
    assert diff(Manifest([ROOT, FILE]), Manifest([ROOT, unread])) == []
    (found,) = diff(Manifest([ROOT, FILE]), Manifest([ROOT, unread._replace(size=9)]))
    assert found.fields == ("content",)


@given(trees(), trees())
@settings(max_examples=40, deadline=None)
def test_applying_a_diff_gives_the_other(
    a: list[tuple[Entry, bytes | None]], b: list[tuple[Entry, bytes | None]]
) -> None:
    before, after = Manifest(e for e, _ in a), Manifest(e for e, _ in b)
    entries = {e.path: e for e in before}
    for change in diff(before, after):
        if change.after is None:
            del entries[change.path]
        else:
            entries[change.path] = change.after
    assert Manifest(entries.values()) == after
    assert diff(after, after) == []
