"""What every warehouse does, whatever it is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from http_server import serving
from repeatr.errors import Category, RepeatrError
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import warehouse_at

WARE = WareID("tar", "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6")
LAID_OUT = "6q7/G4h/" + WARE.hash
DATA = os.urandom(700_001)

#: From a directory to the URL of a warehouse in it, and the path that the ware has in it.
Place = Callable[[Path], tuple[str, Path]]


@contextmanager
def _file(home: Path) -> Iterator[tuple[str, Path]]:
    yield f"file://{home}/ware.tgz", home / "ware.tgz"


@contextmanager
def _ca_file(home: Path) -> Iterator[tuple[str, Path]]:
    yield f"ca+file://{home}", home / LAID_OUT


@contextmanager
def _http(home: Path) -> Iterator[tuple[str, Path]]:
    with serving(home) as (url, _):
        yield f"{url}/ware.tgz", home / "ware.tgz"


@contextmanager
def _ca_http(home: Path) -> Iterator[tuple[str, Path]]:
    with serving(home) as (url, _):
        yield f"ca+{url}", home / LAID_OUT


@pytest.fixture(params=[_file, _ca_file, _http, _ca_http])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    home = tmp_path / "house"
    home.mkdir()
    with request.param(home) as where:
        yield where


def test_hands_out_what_was_put_in(place: tuple[str, Path]) -> None:
    url, path = place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DATA)
    with warehouse_at(url).open(WARE) as stream:
        pieces = [stream.read(10), stream.read(300_000), stream.read()]
        assert stream.read(1) == b""
    assert [len(piece) for piece in pieces] == [10, 300_000, len(DATA) - 300_010]
    assert b"".join(pieces) == DATA


def test_an_empty_ware_is_a_ware(place: tuple[str, Path]) -> None:
    url, path = place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with warehouse_at(url).open(WARE) as stream:
        assert stream.read() == b""


def test_a_missing_ware_is_not_found(place: tuple[str, Path]) -> None:
    with pytest.raises(RepeatrError) as caught:
        warehouse_at(place[0]).open(WARE)
    assert caught.value.category is Category.WARE_NOT_FOUND
    assert str(WARE) in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["-", ""])
def test_the_ware_of_nothing_is_not_found(place: tuple[str, Path], name: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        warehouse_at(place[0]).open(WareID("tar", name))
    assert caught.value.category is Category.WARE_NOT_FOUND


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "/etc/passwd", "a\0b", "%2e%2e"])
def test_no_hash_leads_out(place: tuple[str, Path], name: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        warehouse_at(place[0]).open(WareID("tar", name))
    assert caught.value.category is Category.USAGE


@pytest.mark.parametrize("place", [_file, _ca_file], indirect=True)
class TestSaving:
    def test_what_is_saved_can_be_opened(self, place: tuple[str, Path]) -> None:
        house = warehouse_at(place[0])
        house.check_save()
        with house.save() as writer:
            writer.file.write(DATA[:5])
            writer.file.write(memoryview(DATA)[5:])
            writer.commit(WARE)
        with house.open(WARE) as stream:
            assert stream.read() == DATA
        assert place[1].read_bytes() == DATA
        assert place[1].stat().st_mode & 0o777 == 0o666 & ~_umask()

    def test_nothing_is_seen_before_the_commit(self, place: tuple[str, Path]) -> None:
        house = warehouse_at(place[0])
        with house.save() as writer:
            writer.file.write(DATA)
            with pytest.raises(RepeatrError):
                house.open(WARE)

    def test_leaving_without_commit_leaves_nothing(self, place: tuple[str, Path]) -> None:
        house = place[1].parent if place[0].startswith("file") else place[1].parents[2]
        with warehouse_at(place[0]).save() as writer:
            writer.file.write(DATA)
        assert list(house.iterdir()) == []
        with pytest.raises(KeyboardInterrupt), warehouse_at(place[0]).save() as writer:
            raise KeyboardInterrupt
        assert list(house.iterdir()) == []

    def test_saving_twice_replaces(self, place: tuple[str, Path]) -> None:
        for data in (b"one", b"two"):
            with warehouse_at(place[0]).save() as writer:
                writer.file.write(data)
                writer.commit(WARE)
        assert place[1].read_bytes() == b"two"
        assert len(list(place[1].parent.iterdir())) == 1


@pytest.mark.parametrize("place", [_http, _ca_http], indirect=True)
def test_http_is_read_only(place: tuple[str, Path]) -> None:
    house = warehouse_at(place[0])
    for ask in (house.save, house.check_save):
        with pytest.raises(RepeatrError, match="read only") as caught:
            ask()
        assert caught.value.category is Category.WAREHOUSE_UNWRITABLE


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
