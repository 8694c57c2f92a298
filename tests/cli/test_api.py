"""The public API: what `import repeatr` offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import repeatr
from callers import Caller
from made_wares import saved, tar_bytes
from repeatr.errors import Category
from repeatr.model.events import Event, Log
from repeatr.model.filters import Filters


def test_importing_it_costs_nothing(myself: Caller) -> None:
    watched = (
        "import sys\nbefore = set(sys.modules)\nimport repeatr\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = myself.call(sys.executable, "-S", "-c", watched)
    assert {name for name in done.out.split() if name.startswith("repeatr")} == {
        "repeatr",
        "repeatr.version",
    }


def test_everything_it_names_is_there() -> None:
    for name in repeatr.__all__:
        assert getattr(repeatr, name) is not None
    assert dir(repeatr) == sorted(repeatr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = repeatr.frobnicate  # type: ignore[attr-defined]


def test_pack_unpack_scan_and_mirror(tmp_path: Path, home: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "file").write_text("x")
    target = f"file://{tmp_path}/made.tree"
    ware = repeatr.pack("tree", made, target=target)
    assert ware == repeatr.pack("tree", str(made)) == repeatr.scan("tree", tmp_path / "made.tree")
    with open(tmp_path / "made.tree", "rb") as stream:
        assert repeatr.scan("tree", stream) == ware
    (tmp_path / "wares").mkdir()
    wares = f"ca+file://{tmp_path}/wares"
    assert repeatr.mirror(ware, wares, sources=[target]) == ware
    after = repeatr.unpack(str(ware), tmp_path / "out", sources=[wares])
    assert (tmp_path / "out" / "file").read_text() == "x"
    kept = Filters(uid="keep", gid="keep", mtime="keep")
    assert repeatr.pack("tree", tmp_path / "out", filters=kept) == after


def test_errors_are_raised_with_their_category(tmp_path: Path, home: Path) -> None:
    ware, url = saved(tmp_path)
    _, other = saved(tmp_path, tar_bytes({"other": b""}))
    with pytest.raises(repeatr.RepeatrError) as caught:
        repeatr.unpack(ware, tmp_path / "out", sources=[other])
    assert caught.value.category is Category.HASH_MISMATCH
    assert not (tmp_path / "out").exists()
    with pytest.raises(TypeError, match="sources are several"):
        repeatr.unpack(ware, tmp_path / "out", sources=url)


def test_events_go_where_they_are_asked_to(tmp_path: Path, home: Path) -> None:
    events: list[Event] = []
    assert repeatr.pack("tar", tmp_path / "absent", emit=events.append).is_nothing
    assert [type(event) for event in events] == [Log]


def test_run_is_the_function_whatever_is_imported_first(myself: Caller) -> None:
    code = "import repeatr.run, repeatr; assert callable(repeatr.run), repeatr.run"
    done = subprocess.run(
        [sys.executable, "-c", code], env=myself.environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
