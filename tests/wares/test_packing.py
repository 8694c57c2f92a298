"""Packing: ids, bytes that others can read, and back again."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
from collections.abc import Callable
from hashlib import sha384
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vector_filesets as vectors
from callers import need_program
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry
from repeatr.fileset.filtering import apply_filters
from repeatr.fileset.manifest import Manifest
from repeatr.fileset.place import Placer
from repeatr.model.events import Event, Level, Log, Progress
from repeatr.model.filters import FOLLOW_ALL, PACK_DEFAULTS, Filters, parse_filters
from repeatr.model.wareid import WareID
from repeatr.wares.packing import Packed, pack, pack_directory
from repeatr.wares.packtypes import known_packtypes, packtype
from repeatr.wares.unpacking import scan, unpack
from tar_archives import contents, entries, file, header, pax

ROOT = os.geteuid() == 0
CASES = {case["name"]: case for case in vectors.cases()}
KEEP = "uid=keep,gid=keep,mtime=keep,sticky=keep,setid=keep,dev=keep"
KEEP_ALL = Filters("keep", "keep", "keep", "keep", "keep", "keep", "keep")
FILTERS = {
    "tar_keep": KEEP,
    "tree_keep": KEEP,
    "tar_default": "",
    "tar_flatten": "setid=keep,dev=keep",
}
# Roots that are symlinks and fifos are refused here; the original says "tar:-".
REFUSED_ROOTS = ("root_is_symlink_to_dir", "root_is_symlink_to_file", "root_is_fifo")


def opener(files: dict[bytes, bytes]) -> Callable[[Entry], int]:
    """Opens contents that are in memory."""

    def open_file(entry: Entry) -> int:
        fd = os.memfd_create("content")
        os.write(fd, files[entry.path])
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    return open_file


def packed(kind: str, found: Manifest, files: dict[bytes, bytes]) -> tuple[Packed, bytes]:
    out = io.BytesIO()
    result = pack(kind, found, opener(files), out)
    assert pack(kind, found, opener(files), None) == result
    return result, out.getvalue()


def wanted(name: str, what: str) -> tuple[int, str]:
    """Exit code and id; "" where the vectors have none (the original panics)."""
    told = CASES[name][what]
    if name in REFUSED_ROOTS:
        return 12, ""
    if name == "root_missing":
        return 0, f"{what.partition('_')[0]}:-"
    if isinstance(told, str):
        return 0, told
    if told["rc"] == 2:
        return 0, ""
    return told["rc"], told.get("wareid", "")


@pytest.mark.parametrize("what", FILTERS)
@pytest.mark.parametrize("name", [n for n in CASES if n != "root_missing"])
def test_vectors_packed_and_scanned(name: str, what: str) -> None:
    case = CASES[name]
    kind = what.partition("_")[0]
    filters = parse_filters(FILTERS[what], "pack").completed(PACK_DEFAULTS)
    code, ware = wanted(name, what)

    def run() -> None:
        chosen = Manifest(apply_filters(vectors.manifest_of(case), filters, packing=True))
        result, data = packed(kind, chosen, vectors.contents_of(case))
        assert str(result.ware) == ware or not ware
        scanned = scan(kind, io.BytesIO(data), filters=FOLLOW_ALL)
        assert scanned.ware == result.ware
        assert scanned.manifest == result.manifest == chosen
        if kind == "tar":
            # Another packtype, the same bytes: only the id is made otherwise.
            assert scan("tree", io.BytesIO(data), filters=FOLLOW_ALL).manifest == chosen

    if code:
        with pytest.raises(RepeatrError) as caught:
            run()
        assert caught.value.exit_code == code
    else:
        run()


@pytest.mark.parametrize("what", FILTERS)
@pytest.mark.parametrize("name", CASES)
def test_vectors_packed_from_disk(name: str, what: str, tmp_path: Path) -> None:
    case = CASES[name]
    if not vectors.buildable(case):
        pytest.skip("only root can make this fileset")
    target = tmp_path / "fs"
    if case["entries"]:
        vectors.build(case, target)
        for entry, _ in vectors.entries_of(case):
            path = os.path.join(os.fsencode(target), entry.path).rstrip(b"/")
            if os.lstat(path).st_mtime_ns // 10**9 != entry.mtime:
                pytest.skip("this file system does not keep such a time")
    code, ware = wanted(name, what)
    kind = what.partition("_")[0]
    filters = parse_filters(FILTERS[what], "pack")
    out = io.BytesIO()
    if code:
        with pytest.raises(RepeatrError) as caught:
            pack_directory(kind, target, filters, out)
        assert caught.value.exit_code == code
        return
    result = pack_directory(kind, target, filters, out)
    assert str(result.ware) == ware or not ware
    assert pack_directory(kind, target, filters, None) == result
    if not case["entries"]:
        assert out.getvalue() == b""
        return
    scanned = scan(kind, io.BytesIO(out.getvalue()), filters=FOLLOW_ALL)
    assert scanned.ware == result.ware
    listed = subprocess.run(["tar", "-tvf", "-"], input=decompressed(out), capture_output=True)
    assert listed.returncode == 0
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == len(result.manifest)


def decompressed(out: io.BytesIO) -> bytes:
    from repeatr.wares.decompress import decompressed as reading

    with reading(io.BytesIO(out.getvalue())) as pieces:
        return b"".join(pieces)


FILTER_VECTORS = vectors.load("filters.json")
FILESETS = {case["name"]: case for case in FILTER_VECTORS["filesets"]}


@pytest.mark.skipif(not ROOT, reason="the vectors are of a root user")
@pytest.mark.parametrize("number", range(len(FILTER_VECTORS["unpack"])))
def test_unpack_filters(number: int, tmp_path: Path) -> None:
    case = FILTER_VECTORS["unpack"][number]
    fileset = FILESETS[case["fileset"]]
    made, data = packed("tar", vectors.manifest_of(fileset), vectors.contents_of(fileset))
    assert str(made.ware) == fileset["tar_keep"]["wareid"]
    code = case["rc"]
    text = case["filters"] or ""
    if code == 2 and text == "dev=ignore":
        # The original panics; here the device is left out, and set-id bits are still refused.
        code = 13 if case["fileset"] == "mixed_setid" else 0
    elif code == 2:
        code = 1  # mtime=now, which never worked

    def run() -> tuple[str, Path]:
        from repeatr.model.filters import UNPACK_DEFAULTS

        filters = parse_filters(text, "unpack").completed(UNPACK_DEFAULTS)
        with Placer(tmp_path / "out", faithful=True) as placer:
            result = unpack(made.ware, io.BytesIO(data), placer, filters)
        assert result.manifest == made.manifest
        return str(result.ware), tmp_path / "out"

    if code:
        with pytest.raises(RepeatrError) as caught:
            run()
        assert caught.value.exit_code == code
        return
    after, root = run()
    if case["rc"] == 2:
        assert not (root / "n").exists()
        return
    assert after == case["out"]
    rows = []
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        rows.append(
            [
                str(path.relative_to(root)),
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime,
            ]
        )
    assert sorted(rows) == sorted(case["tree"])


# What comes out is what went in


def names() -> st.SearchStrategy[bytes]:
    part = st.binary(min_size=1, max_size=12).map(
        lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"0")
    )
    long = st.integers(60, 250).map(lambda size: b"n" * size)
    return (part | long | st.sampled_from([b"..foo", b"...", b"a-b", b"a.b", b"a"])).filter(
        lambda name: name not in (b".", b"..")
    )


XATTRS = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b=c%", b"user.\xe9", b"security.capability"]),
    st.binary(max_size=20),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))
IDS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1000, 0o7777777, 0o7777777 + 1])
TIMES = st.integers(-(2**40), 2**40) | st.sampled_from([-1, 0, 1262304000, 8**11 - 1, 8**11])


@st.composite
def filesets(draw: st.DrawFn) -> tuple[Manifest, dict[bytes, bytes]]:
    found: dict[bytes, Entry] = {}
    files: dict[bytes, bytes] = {}
    directories = [b""]

    def add(path: bytes, kind: str) -> None:
        content = draw(st.binary(max_size=1500)) if kind == FILE else b""
        device = kind in (BLOCK, CHARACTER)
        found[path] = Entry(
            path,
            kind,
            draw(st.integers(0, 0o7777)),
            draw(IDS),
            draw(IDS),
            draw(TIMES),
            draw(st.sampled_from([0, 1, 500_000_000, 999_999_999])),
            len(content),
            draw(st.binary(min_size=1, max_size=300)).replace(b"\0", b"/")
            if kind == SYMLINK
            else b"",
            draw(st.integers(0, 4095)) if device else 0,
            draw(st.integers(0, 2**20 - 1)) if device else 0,
            draw(XATTRS) if kind in (FILE, DIRECTORY) else (),
            sha384(content).digest() if kind == FILE else None,
        )
        if kind == FILE:
            files[path] = content
        elif kind == DIRECTORY:
            directories.append(path)

    if draw(st.integers(0, 20)) == 0:
        add(b"", FILE)
        return Manifest(found.values()), files
    add(b"", DIRECTORY)
    kinds = st.sampled_from([FILE, FILE, DIRECTORY, DIRECTORY, SYMLINK, FIFO, BLOCK, CHARACTER])
    for _ in range(draw(st.integers(0, 8))):
        parent = draw(st.sampled_from(directories))
        path = (parent + b"/" if parent else b"") + draw(names())
        if path not in found:
            add(path, draw(kinds))
    return Manifest(found.values()), files


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(filesets(), st.sampled_from(["tar", "tree"]))
def test_packing_and_scanning_are_inverse(
    fileset: tuple[Manifest, dict[bytes, bytes]], kind: str
) -> None:
    manifest, files = fileset
    result, data = packed(kind, manifest, files)
    scanned = scan(kind, io.BytesIO(data), filters=FOLLOW_ALL)
    assert scanned.ware == result.ware
    assert scanned.manifest == result.manifest
    expected_ = manifest if kind == "tree" else Manifest(e._replace(xattrs=()) for e in manifest)
    assert scanned.manifest == expected_
    assert scanned.uncovered == (
        0 if kind == "tree" else sum(e.kind not in (FILE, DIRECTORY) for e in manifest)
    )


@settings(max_examples=60, deadline=None)
@given(filesets())
def test_other_programs_read_what_is_packed(fileset: tuple[Manifest, dict[bytes, bytes]]) -> None:
    import tarfile

    manifest, files = fileset
    _, data = packed("tar", manifest, files)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        members = archive.getmembers()
        assert len(members) == len(manifest)
        for member in members:
            path = os.fsencode(member.name)
            entry = manifest.get(b"" if path == b"." else path.removeprefix(b"./"))
            assert entry is not None
            assert (member.uid, member.gid) == (entry.uid, entry.gid)
            assert member.mode == entry.mode
            assert os.fsencode(member.linkname) == entry.link
            if entry.kind == FILE:
                content = archive.extractfile(member)
                assert content is not None
                assert content.read() == files[entry.path]


def test_an_archive_is_in_the_originals_order() -> None:
    def entry(path: bytes, kind: str = FILE) -> Entry:
        return Entry(path, kind, 0o644, 0, 0, 0)

    paths = [b"", b"a", b"a/z", b"a-b", b"a.b", b"a0", b"b"]
    kinds = {b"": DIRECTORY, b"a": DIRECTORY}
    found = Manifest(entry(path, kinds.get(path, FILE)) for path in paths)
    assert [e.path for e in found] != paths
    _, data = packed("tar", found, dict.fromkeys(paths, b""))
    plain = gzip.decompress(data)
    assert [e.path for e, _ in contents(data)] == paths
    assert plain[:100].rstrip(b"\0") == b"./"
    assert plain[512:612].rstrip(b"\0") == b"./a/"
    assert plain[1024:1124].rstrip(b"\0") == b"./a/z"
    assert plain[-1024:] == bytes(1024)
    assert plain[257:297].rstrip(b"\0") == b"ustar\x0000"


def test_a_root_file_is_one_entry_named_dot(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    for kind in ("tar", "tree"):
        out = io.BytesIO()
        made = pack_directory(kind, tmp_path / "file", Filters(), out)
        assert [e.path for e in made.manifest] == [b""]
        assert decompressed(out)[:100].rstrip(b"\0") == b"."
        target = tmp_path / f"out-{kind}"
        mine = Filters(uid="mine", gid="mine").completed(FOLLOW_ALL)
        with Placer(target, faithful=True) as placer:
            unpack(made.ware, io.BytesIO(out.getvalue()), placer, mine)
        assert target.read_bytes() == b"hello"


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").write_bytes(b"%d words " % number * 3000)
    for kind in ("tar", "tree"):
        outs = [io.BytesIO(), io.BytesIO()]
        for out in outs:
            pack_directory(kind, tmp_path, Filters(), out)
        assert outs[0].getvalue() == outs[1].getvalue()


def test_large_files_and_gnu_tar(tmp_path: Path) -> None:
    need_program("zstd")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "big").write_bytes(os.urandom(3_000_017))
    (tmp_path / "in" / ("d" * 200)).mkdir()
    (tmp_path / "in" / ("d" * 200) / "link").symlink_to("t" * 150)
    told: list[Event] = []
    for kind, option in (("tar", "--gzip"), ("tree", "--zstd")):
        with open(tmp_path / kind, "w+b") as out:
            made = pack_directory(kind, tmp_path / "in", Filters(), out, emit=told.append)
            out.seek(0)
            assert scan(kind, out, filters=FOLLOW_ALL).manifest == made.manifest
        target = tmp_path / f"out-{kind}"
        target.mkdir()
        subprocess.run(["tar", "-x", option, "-f", tmp_path / kind, "-C", target], check=True)
        assert (target / "big").read_bytes() == (tmp_path / "in" / "big").read_bytes()
        assert (target / ("d" * 200) / "link").readlink() == Path("t" * 150)
    assert all(isinstance(event, Progress | Log) for event in told)


def test_xattrs_are_of_tree_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    try:
        os.setxattr(tmp_path / "a", "user.k=v%", b"")
        os.setxattr(tmp_path / "a", "user.z", b"1\n\0")
    except OSError:
        pytest.skip("this file system keeps no xattrs")
    ids = {}
    for kind in ("tar", "tree"):
        for filters in (Filters(), Filters(xattr="keep")):
            out = io.BytesIO()
            made = pack_directory(kind, tmp_path, filters, out)
            scanned = scan(kind, io.BytesIO(out.getvalue()))
            assert scanned == (made.ware, made.manifest, 0)
            ids[kind, filters.xattr] = made.ware.hash
    assert ids["tar", None] == ids["tar", "keep"] == ids["tree", None] != ids["tree", "keep"]


def test_the_hole_is_told() -> None:
    def archive(target: bytes) -> io.BytesIO:
        return io.BytesIO(
            header(b"./", flag=b"5")
            + header(b"l", flag=b"2", link=target)
            + header(b"p", flag=b"6")
        )

    told: list[Event] = []
    scanned = scan("tar", archive(b"x"), emit=told.append)
    assert scanned.uncovered == 2
    assert scanned.ware == scan("tar", archive(b"y")).ware
    (event,) = told
    assert isinstance(event, Log)
    assert event.level is Level.WARN
    assert event.msg.startswith("2 of 3 entries are not covered by the id")
    assert scan("tree", archive(b"x")).uncovered == 0
    assert scan("tree", archive(b"x")).ware != scan("tree", archive(b"y")).ware


def test_a_link_on_a_file_is_kept_and_hashed() -> None:
    def archive(link: bytes) -> bytes:
        return file(b"a", b"x", link=link) + header(b"d", flag=b"5", link=link)

    for kind in ("tar", "tree"):
        scanned = scan(kind, io.BytesIO(archive(b"k" * 100)))
        assert scanned.ware != scan(kind, io.BytesIO(archive(b""))).ware
        result, again = packed(kind, scanned.manifest, {b"a": b"x"})
        assert result.ware == scanned.ware
        assert entries(again)[b"a"].link == entries(again)[b"d"].link == b"k" * 100


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    told: list[Event] = []
    out = io.BytesIO()
    made = pack_directory("tar", tmp_path / "nope", Filters(), out, emit=told.append)
    assert str(made.ware) == "tar:-"
    assert len(made.manifest) == 0
    assert out.getvalue() == b""
    assert isinstance(told[0], Log)
    assert told[0].level is Level.WARN
    with pytest.raises(RepeatrError) as caught:
        unpack(made.ware, io.BytesIO(b""), None, FOLLOW_ALL)
    assert caught.value.category is Category.WARE_NOT_FOUND


def test_roots_that_are_no_fileset(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    os.mkfifo(tmp_path / "fifo")
    for name, words in (("link", "a symlink"), ("fifo", "a fifo")):
        for out in (None, io.BytesIO()):
            with pytest.raises(RepeatrError, match=words) as caught:
                pack_directory("tree", tmp_path / name, Filters(), out)
            assert caught.value.category is Category.INOPERABLE_PATH


def test_sockets_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("d/s")
        told: list[Event] = []
        made = pack_directory("tree", tmp_path / "d", Filters(), io.BytesIO(), emit=told.append)
    assert [e.path for e in made.manifest] == [b""]
    assert isinstance(told[0], Log)
    assert "socket" in told[0].msg


def test_another_ware_is_a_mismatch_that_names_both(tmp_path: Path) -> None:
    data = file(b"a", b"x")
    ware = scan("tar", io.BytesIO(data)).ware
    assert unpack(ware, io.BytesIO(data), None, FOLLOW_ALL).ware == ware
    with pytest.raises(RepeatrError) as caught:
        unpack(ware, io.BytesIO(file(b"a", b"y")), None, FOLLOW_ALL)
    assert caught.value.category is Category.HASH_MISMATCH
    assert caught.value.details["expected"] == str(ware)
    assert caught.value.details["actual"] in caught.value.message
    assert str(ware) in caught.value.message


def test_filters_change_the_id_that_is_told_but_not_the_one_that_is_checked() -> None:
    def archive(uid: bytes) -> io.BytesIO:
        return io.BytesIO(header(b"./", flag=b"5", uid=uid) + file(b"a", b"x", uid=uid))

    ware = scan("tar", archive(b"0000005\0")).ware
    filters = Filters(uid=7).completed(FOLLOW_ALL)
    after = unpack(ware, archive(b"0000005\0"), None, filters)
    assert after.ware == scan("tar", archive(b"0000007\0")).ware
    assert {e.uid for e in after.placed} == {7}
    assert {e.uid for e in after.manifest} == {5}


def test_a_full_warehouse_is_told(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "a").write_bytes(os.urandom(3_000_000))
    with (
        open("/dev/full", "wb", buffering=0) as out,
        pytest.raises(RepeatrError, match="No space left") as caught,
    ):
        pack_directory("tar", tmp_path, Filters(), out)
    assert caught.value.category is Category.WAREHOUSE_UNWRITABLE


def test_packtypes() -> None:
    assert known_packtypes() == ("tar", "tree")
    assert packtype("tree").sound
    assert not packtype("tar").sound
    with pytest.raises(RepeatrError, match="unknown packtype 'rar'") as caught:
        packtype("rar")
    assert caught.value.category is Category.USAGE
    assert "tar, tree" in caught.value.remedy


@pytest.mark.parametrize("kind", ["tar", "tree"])
def test_random_changes_of_wares_only_ever_say_corrupt(kind: str) -> None:
    import random

    rng = random.Random(kind)
    base = (
        header(b"./", flag=b"5")
        + file(b"./a", b"x" * 700)
        + pax((b"path", b"./d/p"), (b"SCHILY.xattr.user.a", b"b"))
        + file(b"./b", b"y" * 512)
        + header(b"l", flag=b"2", link=b"a")
        + header(b"h", flag=b"1", link=b"a")
        + header(b"n", flag=b"3")
        + bytes(1024)
    )
    codes = set()
    for _ in range(1500):
        data = bytearray(base)
        block = rng.randrange(len(data) // 512) * 512
        data[block + rng.choice([rng.randrange(512), rng.randrange(10), 156])] = rng.choice(
            b"\0./ \x80\xff01234567xgLKSab"
        )
        head = data[block : block + 148] + b" " * 8 + data[block + 156 : block + 512]
        data[block + 148 : block + 156] = b"%06o\0 " % sum(head)
        try:
            scan(kind, io.BytesIO(bytes(data)))
            codes.add(0)
        except RepeatrError as error:
            codes.add(error.exit_code)
            assert error.exit_code in (6, 13), error
    assert {6, 13} <= codes


def test_no_thread_is_left_behind() -> None:
    import threading

    before = threading.active_count()
    data = file(b"a", os.urandom(2_000_000))
    for cut in (len(data), 1_000_000, 600_000):
        try:
            scan("tar", io.BytesIO(data[:cut]))
        except RepeatrError:
            assert cut < len(data)
    with pytest.raises(RepeatrError):
        scan("tar", io.BytesIO(file(b"../a", b"") + data))
    assert threading.active_count() == before


@pytest.mark.parametrize("flag", [b"2", b"3", b"4", b"6"])
def test_a_ware_whose_root_is_no_fileset_is_corrupt(flag: bytes) -> None:
    with pytest.raises(RepeatrError, match="root") as caught:
        scan("tree", io.BytesIO(header(b".", flag=flag, link=b"x")), filters=FOLLOW_ALL)
    assert caught.value.category is Category.WARE_CORRUPT


def test_wareids_of_another_packtype() -> None:
    with pytest.raises(RepeatrError):
        unpack(WareID("git", "a" * 40), io.BytesIO(b""), None, FOLLOW_ALL)
