"""What is particular to warehouses in the filesystem."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import SCHEMES, warehouse_at

WARE = WareID("tar", "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6")


def _save(url: str, data: bytes = b"bytes") -> None:
    with warehouse_at(url).save() as writer:
        writer.file.write(data)
        writer.commit(WARE)


@pytest.mark.parametrize("url", ["", "x", "./x", "/x", "s3://bucket/x", "FILE:///x", "file:/x"])
def test_an_unknown_scheme_names_the_known(url: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        warehouse_at(url)
    assert caught.value.category is Category.USAGE
    assert all(f"{scheme}://" in caught.value.remedy for scheme in SCHEMES)


@pytest.mark.parametrize("url", ["file://", "ca+file://", "http://", "file://a\0b"])
def test_an_address_of_nothing(url: str) -> None:
    with pytest.raises(RepeatrError, match="names no place") as caught:
        warehouse_at(url)
    assert caught.value.category is Category.USAGE


@pytest.mark.parametrize("url", ["file://{}/gone/ware", "ca+file://{}/gone", "ca+file://{}/file"])
def test_a_place_that_is_not_there_is_unavailable(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    house = warehouse_at(url.format(tmp_path))
    for ask in (lambda: house.open(WARE), house.check_save, lambda: _save(url.format(tmp_path))):
        with pytest.raises(RepeatrError) as caught:
            ask()
        assert caught.value.category is Category.WAREHOUSE_UNAVAILABLE
        assert str(tmp_path) in caught.value.message
    assert os.listdir(tmp_path) == ["file"]


def test_relative_paths_are_of_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _save("file://./a")
    _save("file://b")
    os.mkdir("c")
    _save("ca+file://./c")
    assert sorted(os.listdir()) == ["a", "b", "c"]
    assert (tmp_path / "c/6q7/G4h" / WARE.hash).read_bytes() == b"bytes"


def test_percent_signs_are_read_as_the_original_does(tmp_path: Path) -> None:
    _save(f"file://{tmp_path}/a%20b")
    assert (tmp_path / "a b").exists()


def test_the_message_for_a_directory_offers_ca(tmp_path: Path) -> None:
    for ask in (
        lambda: warehouse_at(f"file://{tmp_path}").open(WARE),
        lambda: _save(f"file://{tmp_path}"),
    ):
        with pytest.raises(RepeatrError) as caught:
            ask()
        assert f"ca+file://{tmp_path}" in caught.value.remedy


def test_a_device_or_a_fifo_is_not_renamed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RepeatrError, match="not a regular file") as caught:
        _save(f"file://{tmp_path}/fifo")
    assert caught.value.category is Category.WAREHOUSE_UNWRITABLE
    assert os.listdir(tmp_path) == ["fifo"]
    os.symlink("/dev/null", tmp_path / "link")
    with pytest.raises(RepeatrError, match="not a regular file"):
        _save(f"file://{tmp_path}/link")


def test_saving_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    os.symlink("there/ware", tmp_path / "link")
    _save(f"file://{tmp_path}/link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/ware").read_bytes() == b"bytes"


def _as_nobody(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code without privileges, also when we have them."""
    user = 65534 if os.geteuid() == 0 else None
    return subprocess.run(
        [sys.executable, "-c", code],
        user=user,
        group=user,
        extra_groups=[] if user else None,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


CODE = """
import sys
from repeatr.errors import RepeatrError
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import warehouse_at
house = warehouse_at({url!r})
try:
    {what}
except RepeatrError as error:
    print(error.category.exit_code, error.message)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that an unprivileged user reaches, but may not write to."""
    place = tmp_path / "shared"
    place.mkdir(mode=0o755)
    if os.geteuid() == 0:
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o055)
    else:
        place.chmod(0o555)
    return place


@pytest.mark.parametrize("url", ["file://{}/ware", "ca+file://{}"])
@pytest.mark.parametrize("what", ["house.check_save()", "house.save().__enter__()"])
def test_a_directory_that_may_not_be_written_to(shared: Path, url: str, what: str) -> None:
    done = _as_nobody(CODE.format(url=url.format(shared), what=what))
    assert done.stdout.startswith("4 "), done
    assert "Permission denied" in done.stdout


def test_a_ware_that_may_not_be_read(shared: Path) -> None:
    ware = shared / "ware"
    shared.chmod(0o755)
    ware.touch(mode=0o000)
    done = _as_nobody(CODE.format(url=f"file://{ware}", what="house.open(WareID('tar', 'abc'))"))
    assert done.stdout.startswith("3 "), done
    assert "Permission denied" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_a_full_disk_is_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full stands in for the temporary file: every write to it is ENOSPC."""
    house = warehouse_at(f"file://{tmp_path}/ware")
    with pytest.raises(RepeatrError, match="No space left") as caught, house.save() as writer:
        os.dup2(os.open("/dev/full", os.O_WRONLY), writer.file.fileno())
        writer.file.write(b"x" * 100)
    assert caught.value.category is Category.WAREHOUSE_UNWRITABLE
    assert "make room" in caught.value.remedy
    assert os.listdir(tmp_path) == []
