"""Downloads over lines and from servers that are not at their best."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from http_server import Behaviour, serving
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Log
from repeatr.model.wareid import WareID
from repeatr.warehouses.address import warehouse_at
from repeatr.warehouses.http import HttpWarehouse, Patience
from repeatr.warehouses.redaction import redact

WARE = WareID("tar", "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6")
DATA = os.urandom(1_500_000)
QUICK = Patience(connect=2, read=2, pause=0.01, longest_pause=0.5)

Served = tuple[str, Behaviour]


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "ware").write_bytes(DATA)
    with serving(root) as (url, behaviour):
        yield f"{url}/ware", behaviour


def _get(url: str, patience: Patience = QUICK) -> bytes:
    with HttpWarehouse(url, patience=patience).open(WARE) as stream:
        return stream.read()


def _fails(url: str, category: Category, match: str, patience: Patience = QUICK) -> RepeatrError:
    with pytest.raises(RepeatrError, match=match) as caught:
        _get(url, patience)
    assert caught.value.category is category
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("etag", ["", '"v1"', 'W/"v1"'])
@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_broke_off(served: Served, ranges: bool, etag: str) -> None:
    url, behaviour = served
    behaviour.ranges, behaviour.etag = ranges, etag
    behaviour.cuts = [600_000, 400_000 if ranges else 1_000_000, 7]
    assert _get(url) == DATA
    resumed = [request for request in behaviour.requests if "Range" in request]
    assert len(resumed) == len(behaviour.requests) - 1 >= 2
    assert [request.get("If-Range") for request in resumed] == [
        etag if etag.startswith('"') else None
    ] * len(resumed)
    if ranges:
        # No byte is asked for twice, but for the piece that was under way.
        assert resumed[0]["Range"] >= f"bytes={600_000 - 256 * 1024}-"


def test_a_stream_that_always_ends_short_is_unavailable(served: Served) -> None:
    url, behaviour = served
    behaviour.cuts = [1000] + [0] * 20
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, r"tried 4 times")
    assert len(behaviour.requests) == 4


def test_a_broken_stream_in_chunks_is_noticed_too(served: Served) -> None:
    url, behaviour = served
    behaviour.chunked = True
    assert _get(url) == DATA
    behaviour.cuts = [1000] + [0] * 20
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, r"tried \d times")


def test_a_ware_replaced_half_way_is_not_mixed(served: Served, tmp_path: Path) -> None:
    url, behaviour = served
    behaviour.etag, behaviour.cuts = '"v1"', [600_000]
    with HttpWarehouse(url, patience=QUICK).open(WARE) as stream:
        assert stream.read(1000) == DATA[:1000]
        behaviour.etag = '"v2"'
        (tmp_path / "root/ware").write_bytes(DATA[::-1])
        with pytest.raises(RepeatrError, match="replaced while it was read") as caught:
            stream.read()
    assert caught.value.category is Category.WAREHOUSE_UNAVAILABLE


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_not_now_is_asked_again(served: Served, status: int) -> None:
    url, behaviour = served
    behaviour.statuses = [status, status]
    events: list[Event] = []
    with HttpWarehouse(url, emit=events.append, patience=QUICK).open(WARE) as stream:
        assert stream.read() == DATA
    logs = [event for event in events if isinstance(event, Log)]
    assert len(logs) == 2 and str(status) in logs[0].msg


def test_but_not_for_ever(served: Served) -> None:
    url, behaviour = served
    behaviour.statuses = [503] * 50
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, "503 Service Unavailable")
    assert len(behaviour.requests) == QUICK.tries


def test_retry_after_is_honoured(served: Served) -> None:
    url, behaviour = served
    patience = QUICK._replace(longest_pause=5)
    behaviour.statuses, behaviour.retry_after = [429], "1"
    start = time.monotonic()
    assert _get(url, patience) == DATA
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_bounded(served: Served, form: str) -> None:
    url, behaviour = served
    after = "3600" if form == "seconds" else formatdate(time.time() + 4000, usegmt=True)
    behaviour.statuses, behaviour.retry_after = [503], after
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, "asks to come back in")
    assert len(behaviour.requests) == 1


def test_a_retry_after_that_is_nonsense_is_ignored(served: Served) -> None:
    url, behaviour = served
    behaviour.statuses, behaviour.retry_after = [503], "soon"
    assert _get(url) == DATA


@pytest.mark.parametrize("status", [404, 410])
def test_gone_is_not_found(served: Served, status: int) -> None:
    url, behaviour = served
    behaviour.statuses = [status]
    _fails(url, Category.WARE_NOT_FOUND, str(status))
    assert len(behaviour.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_tells_how_to_give_credentials(served: Served, status: int) -> None:
    url, behaviour = served
    behaviour.statuses = [status]
    error = _fails(url, Category.WAREHOUSE_UNAVAILABLE, str(status))
    assert "netrc" in error.remedy and "machine 127.0.0.1" in error.remedy


def test_credentials_come_from_netrc(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, behaviour = served
    behaviour.authorization = base64.b64encode(b"reader:s3cret").decode()
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, "401")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login reader password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert _get(url) == DATA


def test_credentials_in_the_address_work_and_are_never_shown(served: Served) -> None:
    url, behaviour = served
    behaviour.authorization = base64.b64encode(b"reader:s3cret").decode()
    secret = url.replace("http://", "http://reader:s3cret@") + "?token=t0ken"
    events: list[Event] = []
    behaviour.cuts = [1000]
    house = HttpWarehouse(secret, emit=events.append, patience=QUICK)
    with house.open(WARE) as stream:
        assert stream.read() == DATA
    behaviour.statuses = [503] * 50
    error = _fails(secret, Category.WAREHOUSE_UNAVAILABLE, "503")
    shown = f"{events} {house.url} {error.message} {error.remedy} {error.details}"
    assert events and "s3cret" not in shown and "reader" not in shown and "t0ken" not in shown
    assert behaviour.requests[-1]["path"] == "/ware?token=t0ken"


@pytest.mark.parametrize("where", ["http://u:pw@127.0.0.1:1/x?k=pw", "ca+http://u:pw@127.0.0.1:1"])
def test_nor_when_nobody_answers(where: str) -> None:
    error = _fails(where, Category.WAREHOUSE_UNAVAILABLE, "Connection refused")
    assert "pw" not in error.message + error.remedy


def test_an_unknown_host_is_unavailable() -> None:
    _fails("http://no-such-host.invalid/x", Category.WAREHOUSE_UNAVAILABLE, "unavailable: ")


def test_a_bad_address_is_told_without_retrying() -> None:
    start = time.monotonic()
    _fails("http://[::1/x", Category.WAREHOUSE_UNAVAILABLE, "address", Patience())
    assert time.monotonic() - start < 1


def test_proxies_come_from_the_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    url, behaviour = served
    monkeypatch.setenv("http_proxy", url.removesuffix("/ware"))
    _fails("http://wares.invalid/x", Category.WARE_NOT_FOUND, "404")
    assert behaviour.requests[0]["path"] == "http://wares.invalid/x"
    monkeypatch.setenv("no_proxy", "wares.invalid")
    _fails("http://wares.invalid/x", Category.WAREHOUSE_UNAVAILABLE, "unavailable")
    assert len(behaviour.requests) == 1


def test_redirects_are_followed_but_credentials_are_not(served: Served) -> None:
    url, behaviour = served
    host = url.removesuffix("/ware")
    with serving(behaviour.root, "127.0.0.2") as (first, front):
        front.redirect_to = host
        assert _get(first.replace("http://", "http://reader:s3cret@") + "/ware") == DATA
        assert "Authorization" in front.requests[0]
    assert "Authorization" not in behaviour.requests[0]


def test_redirects_without_end(served: Served) -> None:
    url, behaviour = served
    behaviour.redirect_to = url.removesuffix("/ware")
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, "redirects without end")


def test_silence_is_not_awaited_for_ever(served: Served) -> None:
    url, behaviour = served
    behaviour.stall = 1.5
    patience = QUICK._replace(read=0.2, tries=2)
    start = time.monotonic()
    _fails(url, Category.WAREHOUSE_UNAVAILABLE, "nothing came for", patience)
    assert time.monotonic() - start < 1.5


def test_laid_out_by_hash(served: Served) -> None:
    url, behaviour = served
    base = url.removesuffix("ware")
    target = behaviour.root / "deep/6q7/G4h" / WARE.hash
    target.parent.mkdir(parents=True)
    target.write_bytes(b"here")
    for address in (f"ca+{base}deep", f"ca+{base}deep/"):
        with warehouse_at(address).open(WARE) as stream:
            assert stream.read() == b"here"
    with warehouse_at(f"ca+{base}deep?key=1").open(WARE) as stream:
        assert stream.read() == b"here"
    assert behaviour.requests[-1]["path"] == f"/deep/6q7/G4h/{WARE.hash}?key=1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/a", "http://host/a"),
        ("ca+https://u:p@host:1/a@b", "ca+https://***@host:1/a@b"),
        ("http://u:p@w@host/a", "http://***@host/a"),
        ("http://u:p/w@host/a", "http://***@host/a"),
        ("http://u:p?w@host/a?b", "http://***@host/a?***"),
        ("http://u:p#w@host/a", "http://***@host/a"),
        ("http://host:80/a@b?c@d", "http://host:80/a@b?***"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://host?a=b", "http://host?***"),
        ("http://host/a?b=c#d", "http://host/a?***"),
        ("http://host/a#d?e", "http://host/a#***"),
        ("http://token@host/", "http://***@host/"),
        ("file:///a?b@c", "file:///a?b@c"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redact(url) == shown
