"""`repeatr scan` and `repeatr mirror`: the real program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from callers import Caller, Done
from http_server import serving
from made_wares import saved, tar_bytes


def fails(done: Done, code: int, message: str, remedy: str = "") -> None:
    assert done.code == code, done
    assert done.out == ""
    assert f"repeatr: {message}" in done.err
    assert "Traceback" not in done.err
    if remedy:
        assert f"  try: {remedy}" in done.err


def test_scan_takes_a_path_a_url_or_standard_input(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    path = url.removeprefix("file://")
    expected = (0, f"{ware}\n", "")
    assert myself.repeatr("scan", "tar", path) == expected
    assert myself.repeatr("scan", "tar", f"--source={path}") == expected
    assert myself.repeatr("scan", "tar", f"--source={url}") == expected
    with serving(myself.directory) as (server, _):
        assert myself.repeatr("scan", "tar", f"--source={server}/{Path(path).name}") == expected
    script = 'exec "$0" -m repeatr scan tar - < "$1"'
    assert myself.call("/bin/sh", "-c", script, sys.executable, path) == expected


def test_scan_says_what_an_id_does_not_cover(myself: Caller) -> None:
    (myself.directory / "made").mkdir()
    (myself.directory / "made" / "link").symlink_to("x")
    ids = {}
    for kind in ("tar", "tree"):
        ids[kind] = myself.repeatr("pack", kind, "made", f"--target=file://{kind}").out
    done = myself.repeatr("scan", "tar", "tar")
    assert (done.code, done.out) == (0, ids["tar"])
    assert done.err.startswith("log: lvl=warn msg=1 of 2 entries are not covered by the id")
    assert myself.repeatr("scan", "tree", "tree") == (0, ids["tree"], "")


def test_scan_errors(myself: Caller) -> None:
    here, scan = myself.directory, myself.repeatr
    (here / "text").write_text("no tar\n" * 100)
    (here / "empty").write_text("")
    (here / "directory").mkdir()
    fails(scan("scan", "tar"), 1, "scan: expected one archive, none is named", "repeatr scan PACK")
    fails(scan("scan", "tar", "a", "--source=b"), 1, "scan: expected one archive, two are named")
    fails(scan("scan", "rar", "text"), 1, "unknown packtype 'rar'")
    fails(scan("scan", "tar", "text", "--filters=dev=keep"), 1, "filter dev=keep: expected follow")
    fails(scan("scan", "tar", "text", "--filters=uid=0=1"), 1, "filter uid=0=1")
    fails(scan("scan", "tar", "ca+file://x"), 1, "'ca+file://x' is a warehouse of many wares")
    fails(scan("scan", "tar", "ftp://x/y"), 1, "'ftp://x/y' is not the address of a warehouse")
    fails(scan("scan", "tar", "gone"), 5, "there is nothing to scan at gone", "check the path")
    fails(scan("scan", "tar", "file://gone"), 5, "there is nothing to scan at file://gone")
    fails(
        scan("scan", "tar", "directory"),
        12,
        "'directory' is a directory, not an archive",
        "for the WareID of what is in it: repeatr pack tar directory",
    )
    fails(scan("scan", "tar", "text"), 6, "the ware is corrupt")
    fails(scan("scan", "tar", "empty"), 6, "the ware is corrupt")
    fails(scan("scan", "tar", "-"), 6, "the ware is corrupt")
    with serving(here) as (server, _):
        fails(
            scan("scan", "tar", f"{server}/gone"), 5, f"there is nothing to scan at {server}/gone"
        )
    (here / "made").mkdir()
    (here / "made" / "tool").write_text("")
    (here / "made" / "tool").chmod(0o2755)
    told = scan("pack", "tar", "made", "--filters=setid=keep", "--target=file://made.tgz")
    fails(scan("scan", "tar", "made.tgz"), 13, "the filters reject 'tool'")
    assert scan("scan", "tar", "made.tgz", "--filters=setid=ignore").out == told.out


def test_scan_as_json(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    done = myself.repeatr("scan", "tar", url, "--format=json")
    assert json.loads(done.out.splitlines()[-1]) == {"result": {"wareID": str(ware), "error": None}}


def test_mirror_copies_byte_for_byte_once(myself: Caller) -> None:
    # Also what comes after the archive's end, which reading it leaves.
    ware, url = saved(myself.directory, tar_bytes() + b"\0" * 100_000 + b"trailing")
    data = Path(url.removeprefix("file://")).read_bytes()
    (myself.directory / "wares").mkdir()
    words = ("mirror", str(ware), "--target=ca+file://wares", f"--source={url}")
    done = myself.repeatr(*words)
    assert (done.code, done.out) == (0, f"{ware}\n"), done.err
    assert done.err.endswith(f"log: lvl=info msg={ware} was copied to ca+file://wares\n")
    placed = myself.directory / "wares" / ware.hash[:3] / ware.hash[3:6] / ware.hash
    assert placed.read_bytes() == data
    again = myself.repeatr(*words[:3], "--source=file://gone")
    assert (again.code, again.out) == (0, f"{ware}\n")
    assert again.err == f"log: lvl=info msg={ware} is already in ca+file://wares\n"


@pytest.mark.parametrize("harm", [b"", b"nonsense" * 1000])
def test_mirror_mends_what_is_broken_at_the_target(myself: Caller, harm: bytes) -> None:
    ware, url = saved(myself.directory)
    target = myself.directory / "target.tar"
    target.write_bytes(harm)
    done = myself.repeatr("mirror", str(ware), f"--target=file://{target}", f"--source={url}")
    assert done.code == 0
    assert "log: lvl=warn msg=what is in " in done.err
    assert target.read_bytes() == Path(url.removeprefix("file://")).read_bytes()


def test_mirror_from_http_and_through_a_missing_one(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    name = Path(url).name
    with serving(myself.directory) as (server, _):
        done = myself.repeatr(
            *("mirror", str(ware), "--target=file://copy.tar"),
            *(f"--source={server}/gone", f"--source={server}/{name}"),
        )
    assert done.code == 0, done.err
    assert "trying the next warehouse" in done.err
    assert (myself.directory / "copy.tar").read_bytes() == (myself.directory / name).read_bytes()


def test_mirror_does_not_filter(myself: Caller) -> None:
    (myself.directory / "made").mkdir()
    (myself.directory / "made" / "tool").write_text("")
    (myself.directory / "made" / "tool").chmod(0o4755)
    told = myself.repeatr("pack", "tar", "made", "--filters=setid=keep", "--target=file://made.tgz")
    ware = told.out.strip()
    done = myself.repeatr("mirror", ware, "--target=file://copy.tgz", "--source=file://made.tgz")
    assert (done.code, done.out) == (0, told.out), done.err


def test_mirror_errors(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    _, other = saved(myself.directory, tar_bytes({"other": b"x"}))
    before = sorted(myself.directory.iterdir())

    def mirror(*words: str) -> Done:
        done = myself.repeatr("mirror", str(ware), *words)
        assert sorted(myself.directory.iterdir()) == before
        return done

    fails(
        mirror(f"--source={url}"),
        1,
        "mirror: the following arguments are required: --target",
        "repeatr help mirror",
    )
    fails(mirror("--target=file://x"), 3, f"{ware} is not in the local store, and no warehouse")
    fails(mirror("--target=file://x", "--source=file://y"), 5, f"file://y has no {ware}")
    wrong = f"{other}: asked for {ware}, and what came"
    fails(mirror("--target=file://x", f"--source={other}"), 7, wrong)
    fails(mirror("--target=ca+file://x", f"--source={url}"), 3, "ca+file://x is not there")
    fails(mirror("--target=http://x/y", f"--source={url}"), 4, "http://x/y is read only")
    fails(mirror("--target=file:///dev/null", f"--source={url}"), 4, "file:///dev/null cannot ")
    fails(myself.repeatr("mirror", "x", "--target=file://y"), 1, "malformed WareID 'x'")
    fails(myself.repeatr("mirror", "rar:x", "--target=file://y"), 1, "unknown packtype 'rar'")
    fails(myself.repeatr("mirror", "tar:-", "--target=file://y"), 5, "tar:- names no ware")
