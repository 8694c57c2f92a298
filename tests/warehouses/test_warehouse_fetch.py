"""Several sources, of which some have the ware and some are down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from http_server import Behaviour, serving
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Level, Log
from repeatr.model.wareid import WareID
from repeatr.warehouses import http
from repeatr.warehouses.fetch import fetch

WARE = WareID("tar", "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6")
DATA = os.urandom(900_000)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = http.Patience(pause=0.01)
    monkeypatch.setattr(http, "Patience", lambda: quick)


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "good").write_bytes(DATA)
    return f"file://{tmp_path}/good"


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[tuple[str, Behaviour]]:
    """A server that always breaks off half-way."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "ware").write_bytes(DATA)
    with serving(root) as (url, behaviour):
        behaviour.cuts = [600_000] + [0] * 100
        yield f"{url}/ware", behaviour


def _read(stream: BinaryIO) -> bytes:
    return stream.read()


def test_the_next_source_is_tried(tmp_path: Path, good: str) -> None:
    events: list[Event] = []
    sources = [
        f"file://{tmp_path}/absent",
        f"ca+file://{tmp_path}/gone",
        "http://127.0.0.1:1/x",
        good,
    ]
    assert fetch(WARE, sources, _read, events.append) == DATA
    warnings = [e.msg for e in events if isinstance(e, Log) and e.level is Level.WARN]
    assert len(warnings) == 3
    assert "does not exist" in warnings[0] and "Connection refused" in warnings[2]


def test_later_sources_are_left_alone(tmp_path: Path, good: str) -> None:
    with serving(tmp_path) as (url, behaviour):
        assert fetch(WARE, [good, f"{url}/good"], _read) == DATA
        assert behaviour.requests == []


def test_a_stream_that_breaks_half_way_starts_anew(
    broken: tuple[str, Behaviour], good: str
) -> None:
    events: list[Event] = []
    starts: list[int] = []

    def consume(stream: BinaryIO) -> bytes:
        starts.append(1)
        return stream.read(10) + stream.read()

    assert fetch(WARE, [broken[0], good], consume, events.append) == DATA
    assert len(starts) == 2
    assert any(isinstance(e, Log) and e.level is Level.WARN for e in events)


def test_also_where_the_reader_took_it_for_a_corrupt_ware(
    broken: tuple[str, Behaviour], good: str
) -> None:
    def consume(stream: BinaryIO) -> bytes:
        try:
            return stream.read()
        except RepeatrError as error:
            raise RepeatrError(Category.WARE_CORRUPT, "it ends early") from error

    assert fetch(WARE, [broken[0], good], consume) == DATA


@pytest.mark.parametrize("category", [Category.HASH_MISMATCH, Category.WARE_CORRUPT])
def test_a_wrong_ware_is_fatal(tmp_path: Path, good: str, category: Category) -> None:
    calls: list[int] = []

    def consume(stream: BinaryIO) -> None:
        calls.append(1)
        raise RepeatrError(category, "not what it says")

    with pytest.raises(RepeatrError) as caught:
        fetch(WARE, [good, good + "2"], consume)
    assert caught.value.category is category
    assert len(calls) == 1
    # Where it came from is told, for people and for programs.
    assert caught.value.message == f"{WARE} in {good}: not what it says"
    assert caught.value.details == {"ware": str(WARE), "warehouse": good}


@pytest.mark.parametrize(
    ("sources", "category"),
    [
        (["file://{}/a", "file://{}/b"], Category.WARE_NOT_FOUND),
        (["file://{}/a", "ca+file://{}/gone"], Category.WARE_NOT_FOUND),
        (["ca+file://{}/gone", "file://{}/a"], Category.WARE_NOT_FOUND),
        (["ca+file://{}/gone", "http://127.0.0.1:1/"], Category.WAREHOUSE_UNAVAILABLE),
    ],
)
def test_when_all_fail_all_are_named(
    tmp_path: Path, sources: list[str], category: Category
) -> None:
    sources = [source.format(tmp_path) for source in sources]
    with pytest.raises(RepeatrError) as caught:
        fetch(WARE, sources, _read)
    assert caught.value.category is category
    assert all(source in caught.value.message for source in sources)
    assert str(WARE) in caught.value.message


def test_one_source_is_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(RepeatrError) as caught:
        fetch(WARE, [f"file://{tmp_path}/a"], _read, events.append)
    assert caught.value.category is Category.WARE_NOT_FOUND
    assert events == []


def test_no_source_at_all() -> None:
    with pytest.raises(RepeatrError, match="no warehouse") as caught:
        fetch(WARE, [], _read)
    assert caught.value.category is Category.WAREHOUSE_UNAVAILABLE
    assert "fetchUrls" in caught.value.remedy


def test_a_source_that_is_no_address_is_told_first(good: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        fetch(WARE, [good, "s3://x/y"], _read)
    assert caught.value.category is Category.USAGE


def test_an_impossible_id_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(RepeatrError, match="no tar ware can have this id"):
        fetch(WareID("tar", "abc"), [f"ca+file://{tmp_path}"], _read)
