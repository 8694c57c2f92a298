"""Where the store is, and what is said where it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from platformdirs import user_data_path

from repeatr.errors import Category, RepeatrError
from repeatr.store.home import home_path, open_for_writing


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_path({"REPEATR_HOME": "/a/b"}) == Path("/a/b")
    assert home_path({"REPEATR_HOME": "x/../y"}) == Path(os.getcwd()) / "y"


@pytest.mark.parametrize("data", ["", "{}", "relative"])
def test_otherwise_the_platform_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_DATA_HOME", data.format(tmp_path))
    monkeypatch.delenv("REPEATR_HOME", raising=False)
    assert home_path() == home_path({**os.environ, "REPEATR_HOME": ""})
    if data != "relative":  # which platformdirs takes, and the specification does not
        assert home_path() == user_data_path("repeatr")
    else:
        assert home_path() == tmp_path / "user/.local/share/repeatr"


def test_it_is_made_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "a/b"
    open_for_writing(home)
    open_for_writing(home)
    assert home.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(home)) == ["filesets", "locks", "memos", "runs", "staging"]


@pytest.mark.parametrize("home", ["/dev/null/x", "/proc/x", "{}/file"])
def test_where_it_cannot_be(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    home = home.format(tmp_path)
    with pytest.raises(RepeatrError) as caught:
        open_for_writing(Path(home))
    assert caught.value.category is Category.STORE
    assert home in caught.value.message and "REPEATR_HOME" in caught.value.remedy
