"""Filesets in the store: unpacked once, whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from http_server import serving
from made_wares import FILES, id_of, saved, tar_bytes
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Level, Log
from repeatr.model.filters import UNPACK_DEFAULTS, Filters
from repeatr.model.wareid import WareID
from repeatr.store.filesets import Store
from repeatr.store.settling import mark_unsettled
from repeatr.warehouses import http

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _left_over(home: Path) -> list[str]:
    """All that is in the store but the directories that are always there."""
    return sorted(
        str(path.relative_to(home))
        for path in home.rglob("*")
        if not path.is_dir() or path.parent.name in ("staging", "runs")
    )


def _warnings(events: list[Event]) -> list[str]:
    return [event.msg for event in events if isinstance(event, Log) and event.level >= Level.WARN]


def test_a_ware_is_unpacked_beside_its_manifest(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path)
    fileset = Store(home, "root").ensure(ware, [url])
    for name, data in FILES.items():
        assert (fileset.root / name).read_bytes() == data
    assert [entry.path for entry in fileset.manifest if entry.kind == "f"] == sorted(
        name.encode() for name in FILES
    )
    again = Store(home, "root").find(ware)
    assert again is not None and again.root == fileset.root
    assert again.manifest == fileset.manifest
    assert again.key == fileset.key


def test_then_no_warehouse_is_asked(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path)
    first = Store(home, "root").ensure(ware, [url])
    inode = first.root.stat().st_ino
    assert Store(home, "root").ensure(ware).root.stat().st_ino == inode


def test_being_used_is_noted(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path)
    directory = Store(home, "root").ensure(ware, [url]).root.parent
    os.utime(directory, (1, 1))
    Store(home, "root").ensure(ware)
    assert time.time() - directory.stat().st_mtime < 60
    assert (directory / "root").stat().st_mtime == 0


def test_id_maps_and_filters_are_part_of_the_key(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path, tar_bytes(uid=1234))
    filesets = [
        Store(home, idmap).ensure(ware, [url], filters)
        for idmap in ("root", "single-1000.1-1000.1")
        for filters in (Filters(), Filters(uid=7), Filters(uid=7, gid=7), UNPACK_DEFAULTS)
    ]
    assert len({fileset.root for fileset in filesets}) == len(filesets)
    assert [fileset.manifest.root.uid for fileset in filesets[:4]] == [1234, 7, 7, os.getuid()]
    assert Store(home, "root").ensure(ware, [], Filters(uid="follow")).key == filesets[0].key


def test_a_root_that_is_a_file(home: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(".")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"alone"))
    ware, url = saved(tmp_path, out.getvalue())
    fileset = Store(home, "root").ensure(ware, [url])
    assert fileset.root.read_bytes() == b"alone"
    assert fileset.manifest.root.kind == "f"


def test_a_hash_mismatch_leaves_nothing(home: Path, tmp_path: Path) -> None:
    ware, _ = saved(tmp_path)
    _, other = saved(tmp_path, tar_bytes({"x": b"y"}))
    store = Store(home, "root")
    with pytest.raises(RepeatrError) as caught:
        store.ensure(ware, [other])
    assert caught.value.category is Category.HASH_MISMATCH
    assert _left_over(home) == []
    assert store.find(ware) is None


def test_a_truncated_ware_leaves_nothing(home: Path, tmp_path: Path) -> None:
    ware = id_of(tar_bytes())
    (tmp_path / "short").write_bytes(tar_bytes()[:200_000])
    with pytest.raises(RepeatrError) as caught:
        Store(home, "root").ensure(ware, [f"file://{tmp_path}/short"])
    assert caught.value.category is Category.WARE_CORRUPT
    assert _left_over(home) == []


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_download_that_breaks_off_goes_on_with_the_next(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    quick = http.Patience(pause=0.01)
    monkeypatch.setattr(http, "Patience", lambda: quick)
    files = {**FILES, "random": os.urandom(1_000_000)}
    ware, url = saved(tmp_path, compress(tar_bytes(files)))
    with serving(tmp_path) as (server, behaviour):
        behaviour.cuts = [600_000] + [0] * 50
        bad = f"{server}/{url.rpartition('/')[2]}"
        events: list[Event] = []
        fileset = Store(home, "root").ensure(ware, [bad, url], emit=events.append)
        assert (fileset.root / "bin/big").read_bytes() == FILES["bin/big"]
        assert any("trying the next warehouse" in text for text in _warnings(events))

        behaviour.cuts = [600_000] + [0] * 50
        with pytest.raises(RepeatrError) as caught:
            Store(tmp_path / "other", "root").ensure(ware, [bad])
        assert caught.value.category is Category.WAREHOUSE_UNAVAILABLE
    assert _left_over(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("ware", "category"),
    [
        (WareID("tar", "abc"), Category.WAREHOUSE_UNAVAILABLE),
        (WareID("tar", "-"), Category.WARE_NOT_FOUND),
        (WareID("nonsense", "abc"), Category.USAGE),
        (WareID("mount", "ro:/etc"), Category.USAGE),
        (WareID("tar", "../../../x"), Category.USAGE),
    ],
)
def test_what_cannot_be_had(home: Path, ware: WareID, category: Category) -> None:
    with pytest.raises(RepeatrError) as caught:
        Store(home, "root").ensure(ware)
    assert caught.value.category is category
    assert _left_over(home) == []


def test_a_damaged_manifest_says_what_to_remove(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path)
    fileset = Store(home, "root").ensure(ware, [url])
    (fileset.root.parent / "manifest").write_bytes(b"nonsense")
    found = Store(home, "root").ensure(ware)
    with pytest.raises(RepeatrError) as caught:
        _ = found.manifest
    assert caught.value.category is Category.STORE
    assert str(fileset.root.parent) in caught.value.message


class TestAfterAPowerCut:
    """What the disk had not yet been given is found out, once."""

    @pytest.fixture
    def stored(self, home: Path, tmp_path: Path) -> tuple[WareID, str, Path]:
        ware, url = saved(tmp_path)
        directory = Store(home, "root").ensure(ware, [url]).root.parent
        mark_unsettled(directory, boot="of another day")
        return ware, url, directory

    def test_all_there(self, home: Path, stored: tuple[WareID, str, Path]) -> None:
        ware, _, directory = stored
        assert Store(home, "root").ensure(ware).root.parent == directory
        assert sorted(os.listdir(directory)) == ["manifest", "root"]

    @pytest.mark.parametrize("loss", ["content", "name", "manifest"])
    def test_something_lost(self, home: Path, stored: tuple[WareID, str, Path], loss: str) -> None:
        ware, url, directory = stored
        if loss == "content":
            os.truncate(directory / "root/etc/motd", 0)
        elif loss == "name":
            os.unlink(directory / "root/etc/motd")
        else:
            os.truncate(directory / "manifest", 10)
        assert Store(home, "root").find(ware) is None
        events: list[Event] = []
        fileset = Store(home, "root").ensure(ware, [url], emit=events.append)
        assert fileset.root.parent == directory
        assert (directory / "root/etc/motd").read_bytes() == FILES["etc/motd"]
        assert "damaged" in _warnings(events)[0]
        assert os.listdir(home / "staging") == []

    def test_the_mark_goes_with_time(self, home: Path, tmp_path: Path) -> None:
        ware, url = saved(tmp_path)
        directory = Store(home, "root").ensure(ware, [url]).root.parent
        assert "unsettled" in os.listdir(directory)
        old = time.time() - 10_000
        os.utime(directory / "unsettled", (old, old))
        assert Store(home, "root").find(ware) is not None
        assert "unsettled" not in os.listdir(directory)


ENSURE = """
import sys
from pathlib import Path
from repeatr.model.wareid import WareID
from repeatr.store.filesets import Store
home, ware, url = sys.argv[1:4]
tell = lambda event: print(getattr(event, "msg", ""), file=sys.stderr)
fileset = Store(Path(home), "root", tell).ensure(WareID.parse(ware), [url])
print(fileset.root.stat().st_ino, len(fileset.manifest))
"""


def _ensure_in_process(home: Path, ware: WareID, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, str(home), str(ware), url],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_many_processes_unpack_once(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path)
    with serving(tmp_path) as (server, behaviour):
        behaviour.stall = 1.0
        source = f"{server}/{url.rpartition('/')[2]}"
        processes = [_ensure_in_process(home, ware, source) for _ in range(4)]
        answers = [process.communicate(timeout=60) for process in processes]
        assert len(behaviour.requests) == 1
    assert [process.returncode for process in processes] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1
    waited = [errors for _, errors in answers if "waiting for another process" in errors]
    assert len(waited) == 3
    assert all(errors.count("waiting") == 1 for errors in waited)
    assert os.listdir(home / "locks") == os.listdir(home / "staging") == []


def test_death_in_the_middle_of_unpacking(home: Path, tmp_path: Path) -> None:
    ware, url = saved(tmp_path, tar_bytes({"dir/a": b"a", "z": bytes(3_000_000)}))
    name = url.rpartition("/")[2]
    with serving(tmp_path) as (server, behaviour):
        behaviour.cuts = [1_500_000]
        process = _ensure_in_process(home, ware, f"{server}/{name}")
        deadline = time.monotonic() + 20
        while not list(home.glob("staging/*/fileset/root/z")):
            assert time.monotonic() < deadline and process.poll() is None
            if behaviour.requests:  # from then on, keep it waiting for the rest
                behaviour.statuses, behaviour.retry_after = [503], "20"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(os.listdir(home / "staging")) == 2
    assert len(os.listdir(home / "locks")) == 1
    fileset = Store(home, "root").ensure(ware, [url])
    assert (fileset.root / "dir/a").read_bytes() == b"a"
    assert os.listdir(home / "staging") == os.listdir(home / "locks") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and gives files away")
def test_what_root_unpacks_is_as_it_says(home: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, mode in (
            ("./", tarfile.DIRTYPE, 0o500),
            ("./null", tarfile.CHRTYPE, 0o666),
            ("./su", tarfile.REGTYPE, 0o4755),
            ("./link", tarfile.SYMTYPE, 0o777),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = kind, mode, 12, 34
            info.devmajor, info.devminor, info.linkname = 1, 3, "/etc"
            if kind != tarfile.SYMTYPE:
                info.linkname = ""
            archive.addfile(info)
    ware, url = saved(tmp_path, out.getvalue())
    root = Store(home, "root").ensure(ware, [url]).root
    status = (root / "null").lstat()
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((root / "su").lstat().st_mode) == 0o4755
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in (root, *root.iterdir())} == {(12, 34)}
    assert stat.S_IMODE(root.stat().st_mode) == 0o500


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A directory that other users reach."""
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/") and parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    yield tmp_path


def _as_nobody(home: Path, ware: WareID, url: str) -> subprocess.CompletedProcess[str]:
    code = ENSURE.replace(
        "import sys\n", "import sys\nfrom repeatr.errors import RepeatrError\n", 1
    )
    body = "try:\n" + "".join(f"    {line}\n" for line in code.splitlines()[6:])
    code = "\n".join(code.splitlines()[:6]) + "\n" + body
    code += (
        "except RepeatrError as error:\n    print(error.exit_code, error.message, error.remedy)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(home), str(ware), url],
        env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_store_that_may_only_be_read(home: Path, public: Path) -> None:
    ware, url = saved(public)
    fileset = Store(home, "root").ensure(ware, [url])
    other, other_url = saved(public, tar_bytes({"other": b"1"}))
    done = _as_nobody(home, ware, url)
    assert done.stdout.startswith("41 "), done  # it is root's alone
    assert str(home) in done.stdout and "REPEATR_HOME" in done.stdout

    for path in (fileset.root.parent, *fileset.root.parent.parents):
        if path.is_relative_to(home):
            path.chmod(0o755)
    done = _as_nobody(home, ware, url)
    assert done.stdout.split() == [str(fileset.root.stat().st_ino), "6"], done
    done = _as_nobody(home, other, other_url)
    assert done.stdout.startswith("41 ") and "Permission denied" in done.stdout, done


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_takes_nothing(home: Path, tmp_path: Path, trouble: str) -> None:
    ware, url = saved(tmp_path)
    home.mkdir()
    code = f"""
import os, sys
from pathlib import Path
from repeatr.errors import RepeatrError
from repeatr.model.wareid import WareID
from repeatr.store.filesets import Store
home = Path({str(home)!r})
store = Store(home, "root")
store.open_for_writing()
if {trouble!r} == "read-only":
    assert os.system(f"mount -o remount,ro {{home}}") == 0
    try:
        Store(home, "root").open_for_writing()
    except RepeatrError as error:
        print(error.exit_code, error.message, file=sys.stderr)
try:
    store.ensure(WareID.parse({str(ware)!r}), [{url!r}])
except RepeatrError as error:
    print(error.exit_code, error.message, "|", error.remedy)
print([str(p) for p in home.rglob("*") if not p.is_dir() or p.parent.name == "staging"])
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=400k none "$0" && exec "$@"',
         str(home), sys.executable, "-c", code],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done
    if trouble == "full":
        assert lines[0].startswith("9 ") and "No space left" in lines[0], done
        assert "make room" in lines[0]
    else:
        assert lines[0].startswith("9 ") and "Read-only file system" in lines[0], done
        told = f"41 the store at {home} cannot be written to: Read-only file system"
        assert done.stderr.strip() == told
    assert str(home) in lines[0] and lines[1] == "[]", done
