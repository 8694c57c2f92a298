"""`repeatr pack` and `repeatr unpack`: the real program, as root and as ordinary users."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers import Caller, Done, Repeatr, need_root
from made_wares import saved, tar_bytes
from repeatr.cli.unpack import told_apart

HASH = "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6"


def tree(directory: Path, name: str = "made") -> Path:
    """A small tree of the caller's."""
    root = directory / name
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_text("hello\n")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("sub/file")
    return root


def everything_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def fails(done: Done, code: int, message: str, remedy: str = "") -> None:
    assert done.code == code, done
    assert done.out == ""
    # Errors come last; there may be log lines before.
    assert f"repeatr: {message}" in done.err
    assert "Traceback" not in done.err
    if remedy:
        assert f"  try: {remedy}" in done.err


# --- pack


def test_an_id_does_not_depend_on_who_packs(as_user: Caller) -> None:
    tree(as_user.directory)
    done = as_user.repeatr("pack", "tree", "made")
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.out == ("tree:8EFwrYHQ4V9UhxqKAWFsLvhDiuJtjDUZ288wwizvevJCidqWodWh15LXSG2cPQDYfo\n")


def test_pack_without_a_target_writes_nothing(myself: Caller) -> None:
    tree(myself.directory)
    before = everything_in(myself.directory)
    done = myself.repeatr("pack", "tar", "made")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("tar:")
    assert everything_in(myself.directory) == before


def test_packed_bytes_scan_to_the_id_that_was_told(myself: Caller) -> None:
    tree(myself.directory)
    (myself.directory / "wares").mkdir()
    for kind in ("tar", "tree"):
        told = myself.repeatr("pack", kind, "made").out
        assert myself.repeatr("pack", kind, "made", f"--target=file://one.{kind}").out == told
        assert myself.repeatr("scan", kind, f"one.{kind}").out == told
        assert myself.repeatr("pack", kind, "made", "--target=ca+file://wares").out == told
        digest = told.strip().partition(":")[2]
        assert (myself.directory / "wares" / digest[:3] / digest[3:6] / digest).is_file()
    assert not [name for name in everything_in(myself.directory) if "tmp" in name]


def test_filters_are_asked_for_as_text(myself: Caller) -> None:
    tree(myself.directory)
    plain = myself.repeatr("pack", "tar", "made").out
    flat = myself.repeatr("pack", "tar", "made", "--filters", "uid=1000, mtime=@1262304000").out
    other = myself.repeatr("pack", "tar", "made", "--filters=uid=0,mtime=2010-01-01T00:00:00Z").out
    assert plain == flat != other


def test_what_is_not_there_packs_as_nothing(myself: Caller) -> None:
    done = myself.repeatr("pack", "tar", "absent", "--target=file://x.tgz")
    assert (done.code, done.out) == (0, "tar:-\n")
    assert done.err.startswith("log: lvl=warn msg=")
    assert everything_in(myself.directory) == []
    done = myself.repeatr("pack", "tree", "absent", "--format=json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[0]["log"]["lvl"] == 3
    assert lines[-1] == {"result": {"wareID": "tree:-", "error": None}}


def test_a_lone_file_packs(myself: Caller) -> None:
    (myself.directory / "file").write_text("x")
    told = myself.repeatr("pack", "tree", "file", "--target=file://file.tree")
    assert told.code == 0
    ware = told.out.strip()
    done = myself.repeatr("unpack", ware, "again", "--source=file://file.tree")
    assert done.code == 0, done.err
    assert (myself.directory / "again").read_text() == "x"


def test_pack_errors(myself: Caller) -> None:
    root = tree(myself.directory)
    pack, here = myself.repeatr, myself.directory
    fails(pack("pack", "rar", "made"), 1, "unknown packtype 'rar'", "known packtypes are tar, tree")
    fails(
        pack("pack", "tar", "made", "--filters=uid=me"),
        1,
        "filter uid=me: expected keep or a number from 0 to 4294967295",
    )
    fails(
        pack("pack", "tar", "made", "--filters=uid=0,"), 1, "filters 'uid=0,': expected KEY=VALUE"
    )
    fails(pack("pack", "tar", "made", "--filters=color=red"), 1, "filters 'color=red': 'color' is")
    fails(
        pack("pack", "tar", "made", "--target=s4://x"),
        1,
        "'s4://x' is not the address of a warehouse",
        "known are file://",
    )
    fails(pack("pack", "tar", "made", "--target=x.tgz"), 1, "'x.tgz' is not the address of a")
    fails(
        pack("pack", "tar", "made", "--target=ca+file://nowhere"),
        3,
        "ca+file://nowhere is not there: nowhere does not exist",
        "check the path, or make it: mkdir -p nowhere",
    )
    fails(pack("pack", "tar", "made", "--target=file://no/x"), 3, "file://no/x is not there: no")
    fails(pack("pack", "tar", "made", "--target=file://made"), 4, "file://made cannot take a ware")
    fails(
        pack("pack", "tar", "made", "--target=https://x.invalid/y"), 4, "https://x.invalid/y is r"
    )
    (root / "tool").chmod(0o4755)
    fails(
        pack("pack", "tar", "made", "--target=file://x.tgz"),
        13,
        "the filters reject 'tool': it has set-id bits (mode 4755)",
        "let it through with the filter setid=keep, or go without it with setid=ignore",
    )
    assert "x.tgz" not in everything_in(here)
    assert pack("pack", "tar", "made", "--filters=setid=ignore").code == 0
    fails(pack("pack", "tar", "made/link"), 12, "only a directory or a file can be packed")


def test_pack_of_what_may_not_be_read_or_written(as_user: Caller) -> None:
    if as_user.uid == 0:
        pytest.skip("root may read everything")
    root = tree(as_user.directory)
    (root / "tool").chmod(0)
    if os.geteuid() == 0:
        os.chown(root / "tool", 0, 0)
    fails(
        as_user.repeatr("pack", "tar", "made"), 12, "can't read 'tool': Permission denied", "run as"
    )
    fails(as_user.repeatr("pack", "tar", "/usr/bin/env", "--target=file:///env.tgz"), 4, "")
    assert not Path("/env.tgz").exists()


# --- unpack


def test_unpack_gives_back_what_was_packed(as_user: Caller) -> None:
    tree(as_user.directory)
    ware = as_user.repeatr("pack", "tree", "made", "--target=file://made.tree").out.strip()
    done = as_user.repeatr("unpack", ware, "out", "--source=file://made.tree")
    assert done.code == 0, done.err
    out = as_user.directory / "out"
    assert everything_in(out) == ["link", "sub", "sub/file", "tool"]
    assert (out / "sub" / "file").read_text() == "hello\n"
    status = (out / "tool").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (
        as_user.uid,
        as_user.gid,
        1262304000,
    )
    assert stat.S_IMODE(status.st_mode) == 0o755
    # The files are now the caller's, and that is another fileset: its id is what is told.
    assert (done.out.strip() == ware) == (as_user.uid == as_user.gid == 1000)
    flat = as_user.repeatr("pack", "tree", "out", "--filters=uid=keep,gid=keep,mtime=keep")
    assert flat.out == done.out
    assert as_user.repeatr("pack", "tree", "out").out.strip() == ware


@pytest.mark.parametrize("placer", ["direct", "copy"])
def test_following_owners_is_for_those_who_may(as_user: Caller, placer: str) -> None:
    tree(as_user.directory)
    ware = as_user.repeatr("pack", "tar", "made", "--target=file://made.tgz").out.strip()
    done = as_user.repeatr(
        *("unpack", ware, "out", "--source=file://made.tgz", f"--placer={placer}"),
        "--filters=uid=follow,gid=follow",
    )
    if as_user.uid in (0, 1000):
        assert (done.code, done.out) == (0, f"{ware}\n"), done.err
        assert (as_user.directory / "out" / "tool").stat().st_uid == 1000
    else:
        fails(done, 12, "can't give ", "run as root, or keep it yours with the filters uid=mine")
        assert not list(as_user.directory.glob("out*"))


def test_the_order_of_ware_and_path_is_free(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    first = myself.repeatr("unpack", ware_text(ware), "one", f"--source={url}")
    second = myself.repeatr("unpack", "two", ware_text(ware), f"--source={url}")
    assert first.code == second.code == 0
    assert first.out == second.out
    assert (myself.directory / "two" / "etc" / "motd").is_file()


def ware_text(ware: object) -> str:
    return str(ware)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("tar:abc", "out", ("tar:abc", "out")),
        ("out", "tar:abc", ("tar:abc", "out")),
        ("./tar:abc", "tar:abc", ("tar:abc", "./tar:abc")),
        ("tar:abc", "tree:def", ("tar:abc", "tree:def")),
        ("zap:abc", "out", ("zap:abc", "out")),
    ],
)
def test_told_apart(first: str, second: str, expected: tuple[str, str]) -> None:
    assert told_apart(first, second) == expected


def test_nothing_is_overwritten(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    here = myself.directory
    (here / "full").mkdir()
    (here / "full" / "mine").write_text("keep me")
    (here / "file").write_text("keep me")
    (here / "empty").mkdir()
    (here / "to-empty").symlink_to("empty")
    (here / "dangling").symlink_to("nowhere")
    for placer in ("direct", "copy"):
        words = [f"--source={url}", f"--placer={placer}"]
        unpack = myself.repeatr
        fails(
            unpack("unpack", str(ware), "full", *words),
            12,
            "cannot unpack to 'full': the directory is not empty",
            "name a path that does not exist, or empty it first",
        )
        fails(
            unpack("unpack", str(ware), "file", *words),
            12,
            "cannot unpack to 'file': something that is not a directory is there",
        )
        fails(
            unpack("unpack", str(ware), "no/such", *words),
            12,
            "cannot unpack to 'no/such': 'no' is not a directory that exists",
            "mkdir -p no",
        )
        fails(unpack("unpack", str(ware), "file/x", *words), 12, "cannot unpack to 'file/x'")
    assert (here / "full" / "mine").read_text() == (here / "file").read_text() == "keep me"
    done = unpack("unpack", str(ware), "to-empty/", *words)
    assert done.code == 0, done.err
    assert (here / "to-empty").is_symlink()
    assert (here / "empty" / "etc" / "motd").is_file()
    assert not [name for name in everything_in(here) if ".repeatr-" in name]


def test_where_and_what_can_go_wrong(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    here = myself.directory
    other, other_url = saved(here, tar_bytes({"other": b"x"}))
    bad = here / "bad.tar"
    bad.write_bytes(Path(url.removeprefix("file://")).read_bytes()[:5000])
    (here / "text.tar").write_text("this is no tar\n" * 100)
    (here / "warehouse").mkdir()

    def unpack(*words: str) -> Done:
        done = myself.repeatr("unpack", str(ware), "out", *words)
        assert not list(here.glob("out*"))
        return done

    fails(
        unpack(),
        3,
        f"{ware} is not in the local store, and no warehouse is named",
        "name one: ",
    )
    fails(unpack("--source=file://gone.tar"), 5, f"file://gone.tar has no {ware}: gone.tar does")
    fails(unpack("--source=ca+file://warehouse"), 5, f"ca+file://warehouse has no {ware}")
    fails(unpack("--source=ca+file://gone"), 3, "ca+file://gone is not there")
    fails(
        unpack("--source=ca+file://gone", "--source=file://gone.tar"),
        5,
        f"none of 2 warehouses gave {ware}",
    )
    fails(unpack("--source=ca+file://gone", "--source=ca+file://away"), 3, "none of 2 warehouses")
    fails(unpack("--source=gopher://x"), 1, "'gopher://x' is not the address of a warehouse")
    fails(unpack("--source=file://warehouse"), 3, "file://warehouse should be a ware in a file")
    corrupt = "{} in file://{}: the ware is corrupt: "
    fails(unpack(f"--source=file://{bad}"), 6, corrupt.format(ware, bad))
    fails(unpack("--source=file://text.tar"), 6, corrupt.format(ware, "text.tar"))
    wrong = f"{other_url}: asked for {ware}, and what came is {other}"
    fails(unpack(f"--source={other_url}"), 7, wrong)
    # A mismatch is fatal, though the next would be right; what is merely absent is not.
    fails(unpack(f"--source={other_url}", f"--source={url}"), 7, wrong)
    fails(
        unpack("--placer=teleport"), 1, "unknown placer 'teleport'", "known placers are direct, c"
    )
    fails(unpack("--filters=uid=keep"), 1, "filter uid=keep: expected follow, mine or a number")
    done = myself.repeatr("unpack", str(ware), "out", "--source=file://gone.tar", f"--source={url}")
    assert done.code == 0
    assert "log: lvl=warn msg=file://gone.tar has no" in done.err


def test_wares_that_no_command_line_can_mean(repeatr: Repeatr) -> None:
    for text, message in (
        ("tar", "malformed WareID 'tar': expected PACKTYPE:HASH"),
        ("tar:../../etc", "malformed WareID 'tar:../../etc'"),
        ("mount:ro:/x", "'mount:ro:/x' is not a ware"),
        ("rar:abc", "unknown packtype 'rar'"),
    ):
        fails(repeatr("unpack", text, "out", "--source=file://x"), 1, message)
    fails(repeatr("unpack", "tar:-", "out", "--source=file://x"), 5, "tar:- names no ware")
    fails(
        repeatr("unpack", f"tar:{HASH}", "--source=file://x"), 1, "the path to unpack to is empty"
    )


def test_rejected_things_are_named(myself: Caller) -> None:
    root = tree(myself.directory)
    (root / "tool").chmod(0o4755)
    ware = myself.repeatr(
        "pack", "tar", "made", "--target=file://made.tgz", "--filters=setid=keep"
    ).out.strip()
    for placer in ("direct", "copy", "none"):
        words = ("unpack", ware, "out", "--source=file://made.tgz", f"--placer={placer}")
        fails(myself.repeatr(*words), 13, "the filters reject 'tool'", "let it through with the")
        assert not list(myself.directory.glob("out*"))
    assert myself.repeatr(*words, "--filters=setid=ignore").code == 0


def test_what_is_in_the_store_needs_no_warehouse(as_user: Caller) -> None:
    ware, url = saved(as_user.directory)
    fetched = as_user.repeatr("unpack", str(ware), "--placer=none", f"--source={url}")
    assert fetched.code == 0, fetched.err
    Path(url.removeprefix("file://")).unlink()
    for placer in ("direct", "copy", "none"):
        out = as_user.directory / placer
        done = as_user.repeatr("unpack", str(ware), str(out), f"--placer={placer}")
        assert (done.code, done.out) == (0, fetched.out), done.err
        assert out.exists() == (placer != "none")
        if out.exists():
            assert (out / "etc" / "motd").read_text() == "hello\n"
            # A copy: what is done to it does not reach the store.
            (out / "etc" / "motd").write_text("changed")


def test_the_stores_own_warehouse_is_asked_without_being_named(myself: Caller) -> None:
    tree(myself.directory)
    own = myself.home / "warehouse"
    own.mkdir(parents=True)
    ware = myself.repeatr("pack", "tree", "made", f"--target=ca+file://{own}").out.strip()
    assert myself.repeatr("unpack", ware, "out").code == 0
    assert (myself.directory / "out" / "tool").is_file()


@pytest.fixture
def unmounted(myself: Caller) -> Iterator[Path]:
    need_root()
    path = myself.directory / "mounted"
    path.mkdir()
    yield path
    myself.call("umount", path)


def test_mount_is_writable_and_leaves_the_store_alone(myself: Caller, unmounted: Path) -> None:
    ware, url = saved(myself.directory)
    words = ("unpack", str(ware), str(unmounted), f"--source={url}", "--placer=mount")
    done = myself.repeatr(*words, "--filters=uid=1234,gid=follow")
    if "a disk that overlays can be made of" in done.err:
        pytest.skip("no overlay on this filesystem")
    assert done.code == 0, done.err
    assert "To undo: umount" in done.err
    assert os.path.ismount(unmounted)
    assert (unmounted / "etc" / "motd").stat().st_uid == unmounted.stat().st_uid == 1234
    (unmounted / "etc" / "motd").write_text("changed")
    myself.call("umount", unmounted)
    again = myself.repeatr(*words, "--filters=uid=1234,gid=follow")
    assert again.out == done.out
    assert (unmounted / "etc" / "motd").read_text() == "hello\n"


def test_mount_errors(as_user: Caller) -> None:
    ware, url = saved(as_user.directory)
    words = ("unpack", str(ware), "nowhere", f"--source={url}", "--placer=mount")
    if as_user.uid == 0:
        fails(as_user.repeatr(*words), 12, "cannot mount on 'nowhere': it is not", "mkdir -p nowh")
    else:
        fails(
            as_user.repeatr(*words),
            12,
            "cannot mount on 'nowhere': the placer mount needs root, and you are uid",
            "run as root, or use --placer=copy",
        )


def test_an_empty_mount_point_is_filled(myself: Caller, unmounted: Path) -> None:
    ware, url = saved(myself.directory)
    assert myself.call("mount", "-t", "tmpfs", "none", unmounted).code == 0
    broken = myself.directory / "broken.tar"
    broken.write_bytes(Path(url.removeprefix("file://")).read_bytes()[:-10000])
    words = ("unpack", str(ware), str(unmounted))
    source = f"file://{broken}"
    fails(
        myself.repeatr(*words, f"--source={source}"), 6, f"{ware} in {source}: the ware is corrupt"
    )
    assert list(unmounted.iterdir()) == []
    done = myself.repeatr(*words, f"--source={url}")
    assert done.code == 0, done.err
    assert (unmounted / "etc" / "motd").is_file()
    assert os.path.ismount(unmounted)


def test_a_full_disk_leaves_nothing(myself: Caller, unmounted: Path) -> None:
    ware, url = saved(myself.directory, tar_bytes({"big": bytes(3 << 20)}))
    assert myself.call("mount", "-t", "tmpfs", "-o", "size=1m", "none", unmounted).code == 0
    done = myself.repeatr("unpack", str(ware), str(unmounted / "out"), f"--source={url}")
    fails(done, 12, "can't create 'big' in ", "make space")
    assert list(unmounted.iterdir()) == []


def test_a_parent_that_may_not_be_written_to(as_user: Caller) -> None:
    if as_user.uid == 0:
        pytest.skip("root may write everywhere")
    ware, url = saved(as_user.directory)
    fails(
        as_user.repeatr("unpack", str(ware), "/usr/x", f"--source={url}"),
        12,
        "can't create '/usr/x': Permission denied",
    )
    # An empty directory of one's own will do, wherever it is.
    parent = as_user.directory / "parent"
    (parent / "mine").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(parent / "mine", as_user.uid, as_user.gid)
    parent.chmod(0o555)
    done = as_user.repeatr("unpack", str(ware), "parent/mine", f"--source={url}")
    parent.chmod(0o755)
    assert done.code == 0, done.err
    assert (parent / "mine" / "etc" / "motd").is_file()


def test_a_store_that_cannot_be_used(myself: Caller) -> None:
    ware, url = saved(myself.directory)
    (myself.directory / "file").write_text("")
    done = myself.repeatr(
        *("unpack", str(ware), "out", f"--source={url}", "--placer=copy"),
        env={"REPEATR_HOME": str(myself.directory / "file")},
    )
    fails(done, 41, "the store at ", "make room or permission there, or set REPEATR_HOME")
    assert not list(myself.directory.glob("out*"))
