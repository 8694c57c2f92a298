"""Archives of the vectors: read as the original does it, but where that is unsound."""

from __future__ import annotations

import io
import os
from base64 import b64decode
from pathlib import Path
from typing import Any
from zlib import decompress

import pytest

import vector_filesets as vectors
from repeatr.errors import RepeatrError
from repeatr.fileset.place import Placer
from repeatr.model.events import Event, Log
from repeatr.model.filters import FOLLOW_ALL, SCAN_DEFAULTS, Filters
from repeatr.model.wareid import WareID
from repeatr.wares.packing import pack_directory
from repeatr.wares.unpacking import scan, unpack

CASES = {case["name"]: case for case in vectors.load("tar_streams.json")["cases"]}
ROOT = os.geteuid() == 0

HARD_LINK = "tar:25eKTRL1VVyxsn7ZxyFEbFmQKEZxMwxN4wP3ixDEig4DrXXBaxHDDgn6qC59nmpUea"

# Where the original is not followed: (exit code, WareID), and why. docs/formats/tar.md.
DEVIATIONS: dict[str, tuple[int, str, str]] = {
    **dict.fromkeys(
        [
            "dup_file_same",
            "dup_file_diff",
            "dup_file_then_more",
            "dup_symlink",
            "dup_symlink_sorted_hole",
        ],
        (6, "", "a repeated name: the original's scan panics, its unpack says 12"),
    ),
    "file_then_dir_same_name": (6, "", "two kinds of one name: its scan takes it, unpack fails"),
    "file_as_parent": (6, "", "a file as a parent: its scan takes it, its unpack fails"),
    "symlink_rel_parent": (6, "", "a symlink as a parent: its scan takes it, its unpack fails"),
    "abs_name": (6, "", "an absolute name: it panics"),
    "slash_only_name": (6, "", "an absolute name: it panics"),
    "trunc_body": (6, "", "a content that is cut off is corrupt, not an inoperable path"),
    "hardlink": (0, HARD_LINK, "it refuses hard links"),
    "hardlink_with_size": (0, HARD_LINK, "it refuses hard links"),
    "hardlink_dangling": (6, "", "it refuses hard links; this one points nowhere"),
}


def archive(case: dict[str, Any]) -> bytes:
    data = decompress(b64decode(case["tar_zlib_b64"]))
    assert len(data) == case["tar_size"]
    return data


def expected(name: str, what: str) -> tuple[int, str]:
    if name in DEVIATIONS:
        return DEVIATIONS[name][:2]
    told = CASES[name][what]
    assert told["rc"] != 2, "a panic is to be answered as the formats say"
    return told["rc"], told.get("wareid", "")


def answer(data: bytes, filters: Filters, told: list[Event]) -> tuple[int, str]:
    try:
        return 0, str(scan("tar", io.BytesIO(data), filters=filters, emit=told.append).ware)
    except RepeatrError as error:
        return error.exit_code, ""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("what", "filters"), [("scan_lossless", FOLLOW_ALL), ("scan_default", SCAN_DEFAULTS)]
)
def test_scan(name: str, what: str, filters: Filters) -> None:
    told: list[Event] = []
    assert answer(archive(CASES[name]), filters, told) == expected(name, what)
    if name not in DEVIATIONS:
        # The log lines are the original's as well.
        lines = [
            f"log: lvl={event.level.name.lower()} msg={event.msg}"
            for event in told
            if isinstance(event, Log) and event.msg.startswith("unpacking: ")
        ]
        theirs = CASES[name][what]["stderr"].splitlines()
        assert lines == [line for line in theirs if line.startswith("log: ")]


def on_disk(root: Path) -> list[list[Any]]:
    """What the vectors say of a tree, without what only root can give."""
    rows = []
    paths = [root, *root.rglob("*")] if root.is_dir() else [root]
    for path in paths:
        status = path.lstat()
        rows.append(
            [
                str(path.relative_to(root)),
                oct(status.st_mode),
                *((status.st_uid, status.st_gid) if ROOT else ("", "")),
                round(status.st_mtime_ns / 1e9, 3),
                os.readlink(path) if path.is_symlink() else "",
            ]
        )
    return sorted(rows)


@pytest.mark.parametrize("name", CASES)
def test_unpack(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    code, text = expected(name, "unpack")
    filters = FOLLOW_ALL if ROOT else Filters(uid="mine", gid="mine").completed(FOLLOW_ALL)
    ware = WareID.parse(text or HARD_LINK)
    if name in ("chardev", "blockdev") and not ROOT:
        pytest.skip("only root makes device nodes")
    target = tmp_path / "out"

    def run() -> WareID:
        with Placer(target, faithful=True) as placer:
            return unpack(ware, io.BytesIO(archive(case)), placer, filters).ware

    if code:
        with pytest.raises(RepeatrError) as caught:
            run()
        assert caught.value.exit_code == code
        return
    after = run()
    if ROOT:
        assert after == ware
    if case["unpack"].get("tree"):
        theirs = [
            [
                path,
                mode,
                *((uid, gid) if ROOT else ("", "")),
                round(mtime, 3),
                last if isinstance(last, str) else "",
            ]
            for path, mode, uid, gid, mtime, last in case["unpack"]["tree"]
        ]
        assert on_disk(target) == sorted(theirs)
    if case["unpack"].get("repacked") and ROOT:
        keep = Filters("keep", "keep", "keep", "keep", "keep", "keep")
        assert str(pack_directory("tar", target, keep, None).ware) == case["unpack"]["repacked"]


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    data = archive(CASES["hardlink"])
    scanned = scan("tar", io.BytesIO(data))
    a, b = scanned.manifest.get(b"a"), scanned.manifest.get(b"b")
    assert a is not None
    assert b == a._replace(path=b"b")
    filters = Filters(uid="mine", gid="mine").completed(FOLLOW_ALL)
    with Placer(tmp_path / "out", faithful=True) as placer:
        unpack(scanned.ware, io.BytesIO(data), placer, filters)
    assert (tmp_path / "out/a").read_bytes() == (tmp_path / "out/b").read_bytes() != b""
    assert (tmp_path / "out/a").stat().st_nlink == 1
