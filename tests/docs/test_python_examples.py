"""The Python in the documentation runs; the blocks of a page are one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import callers
from repeatr.api import unpack
from repeatr.base import make
from repeatr.store.own_warehouse import own_warehouse

PAGES = sorted(
    path
    for path in (callers.CHECKOUT / "docs").rglob("*.md")
    if "```python\n" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_python_of(
    page: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ware = make(["sh"], own_warehouse(home))
    unpack(ware, tmp_path / "base")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), str(page), "exec"), {"BASE": str(tmp_path / "base")})


def test_there_is_python() -> None:
    assert "python-api" in {page.stem for page in PAGES}
