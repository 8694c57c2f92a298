"""Warehouses behind HTTP: the layouts of `file`, read only.

What makes a download over a bad line succeed is here: time-outs, retries with growing
pauses, and going on from where a broken one stopped. Proxies and credentials come from where
`requests` finds them: the proxy variables of the environment and the netrc file.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.wareid import WareID
from repeatr.warehouses.base import Writer
from repeatr.warehouses.layout import absent, check_named, path_of
from repeatr.warehouses.redaction import redact

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from requests import Response, Session

_CHUNK = 256 * 1024

#: Answers that mean "not now": Request Timeout, Too Many Requests, and the server's troubles.
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class Patience(NamedTuple):
    """How long to wait for a server, in seconds, and how often to try again."""

    connect: float = 10.0
    #: The longest silence in an answer.
    read: float = 60.0
    #: Tries in a row that bring nothing before the warehouse counts as down.
    tries: int = 4
    #: Reconnections in one download, also when each brings a little.
    reconnections: int = 100
    #: The pause before the second try; it doubles with each further one.
    pause: float = 0.25
    #: The longest pause; a server that asks for more (Retry-After) counts as down.
    longest_pause: float = 30.0


class HttpWarehouse:
    """A ware at a URL (`http`, `https`), or many below one (`ca+http`, `ca+https`)."""

    def __init__(self, url: str, *, emit: Emit = ignore, patience: Patience | None = None) -> None:
        self.url = redact(url)
        self._by_hash = url.startswith("ca+")
        self._base = url.removeprefix("ca+")
        self._emit = emit
        self._patience = patience or Patience()

    def open(self, ware: WareID) -> BinaryIO:
        """See `Warehouse.open`. The answer is awaited, so that an absent ware is told here."""
        check_named(ware)
        download = _Download(self._address(ware), ware, self._emit, self._patience)
        try:
            download.start()
        except BaseException:
            download.close()
            raise
        # BufferedReader is a BinaryIO in all but the name that typeshed gives it.
        return io.BufferedReader(download, _CHUNK)

    def save(self) -> Writer:
        """Refused with WAREHOUSE_UNWRITABLE: HTTP warehouses are read only."""
        raise self._read_only()

    def check_save(self) -> None:
        """Refused like `save`."""
        raise self._read_only()

    def _read_only(self) -> RepeatrError:
        return RepeatrError(
            Category.WAREHOUSE_UNWRITABLE,
            f"{self.url} is read only: wares cannot be saved over HTTP",
            remedy="save to a file:// or ca+file:// warehouse, and let a web server serve it",
        )

    def _address(self, ware: WareID) -> str:
        if not self._by_hash:
            return self._base
        head, mark, query = self._base.partition("?")
        return f"{head.rstrip('/')}/{path_of(ware)}{mark}{query}"


class _Download(io.RawIOBase):
    """One ware's bytes, over as many requests as it takes."""

    def __init__(self, address: str, ware: WareID, emit: Emit, patience: Patience) -> None:
        self._address = address
        self._shown = redact(address)
        self._ware = ware
        self._emit = emit
        self._patience = patience
        self._session: Session | None = None
        self._response: Response | None = None
        self._position = 0
        self._total: int | None = None
        self._etag = ""
        self._modified = ""
        self._fruitless = 0
        self._reconnections = 0

    def start(self) -> None:
        """Ask for the whole ware, and keep what tells whether a later answer is of the same."""
        response = self._ask(resume=False)
        length = response.headers.get("Content-Length", "")
        self._total = int(length) if length.isascii() and length.isdigit() else None
        self._etag = response.headers.get("ETag", "")
        self._modified = response.headers.get("Last-Modified", "")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            data, cause = self._receive(len(view))
            if data:
                view[: len(data)] = data
                self._position += len(data)
                self._fruitless = 0
                return len(data)
            if not cause:
                return 0
            self._reconnections += 1
            if self._reconnections > self._patience.reconnections:
                raise self._down(f"broke off {self._reconnections} times, the last: {cause}")
            self._wait(cause, None)
            self._resume()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._session is not None:
            self._session.close()
        self._response = self._session = None
        super().close()

    def _receive(self, size: int) -> tuple[bytes, str]:
        """Bytes, or none and why; none and no reason is the end."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        if self._response is None:
            return b"", "the connection is closed"
        try:
            # Undecoded: what the server calls an encoding is how the ware is packed.
            data: bytes = self._response.raw.read(size, decode_content=False)
        except (HTTPError, HTTPException, OSError) as error:
            return b"", _reason(error, self._patience)
        if not data and self._total is not None and self._position < self._total:
            return b"", f"it ended after {self._position} of {self._total} bytes"
        return data, ""

    def _resume(self) -> None:
        """Make the next byte that arrives the one at `_position`, on a new connection."""
        response = self._ask(resume=True)
        if response.status_code == 206:
            start, total = _content_range(response.headers.get("Content-Range", ""))
            if start != self._position or total not in (self._total, None):
                raise self._down("the server answered with another range than was asked for")
            self._check_unchanged(response)
            return
        # The whole again: no ranges here, or (If-Range) it is not what it was.
        self._check_unchanged(response)
        length = response.headers.get("Content-Length", "")
        if self._total is not None and length.isdigit() and int(length) != self._total:
            raise self._changed()
        left = self._position
        while left:
            data, cause = self._receive(min(left, _CHUNK))
            if not data:
                # Back to readinto, which counts the failure and comes here again.
                self._drop()
                return
            left -= len(data)
            _ = cause

    def _check_unchanged(self, response: Response) -> None:
        etag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        if (self._etag and etag and etag != self._etag) or (
            not self._etag and self._modified and modified and modified != self._modified
        ):
            raise self._changed()

    def _changed(self) -> RepeatrError:
        return self._down("it was replaced while it was read")

    def _ask(self, *, resume: bool) -> Response:
        """An answer whose body is (a part of) the ware, after as many tries as are allowed."""
        import requests

        headers = {"Accept-Encoding": "identity", "User-Agent": "repeatr"}
        if resume and self._position:
            headers["Range"] = f"bytes={self._position}-"
            # A weak ETag must not be used here (RFC 9110, 13.1.5).
            strong = self._etag if not self._etag.startswith("W/") else ""
            if strong or self._modified:
                headers["If-Range"] = strong or self._modified
        while True:
            self._drop()
            if self._session is None:
                self._session = requests.Session()
            try:
                self._response = response = self._session.get(
                    self._address,
                    headers=headers,
                    stream=True,
                    timeout=(self._patience.connect, self._patience.read),
                )
            except (requests.ConnectionError, requests.Timeout) as error:
                if isinstance(error, requests.exceptions.SSLError):
                    raise self._down(_reason(error, self._patience)) from None
                self._wait(_reason(error, self._patience), None)
                continue
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
                raise self._down(f"that is no address: {type(error).__name__}") from None
            except requests.RequestException as error:
                raise self._down(_reason(error, self._patience)) from None
            if response.status_code == 200 or (resume and response.status_code == 206):
                return response
            if response.status_code not in _TRANSIENT:
                raise self._refused(response)
            self._wait(_status(response), response.headers.get("Retry-After"))

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _wait(self, cause: str, retry_after: str | None) -> None:
        """Pause before another try, or raise where there were enough."""
        self._drop()
        self._fruitless += 1
        if self._fruitless >= self._patience.tries:
            raise self._down(f"{cause} (tried {self._fruitless} times)")
        pause = min(self._patience.pause * 2 ** (self._fruitless - 1), self._patience.longest_pause)
        if retry_after:
            asked = _seconds(retry_after)
            if asked > self._patience.longest_pause:
                raise self._down(f"{cause}, and asks to come back in {asked:.0f} seconds")
            pause = max(pause, asked)
        level = Level.INFO if pause >= 1 else Level.DEBUG
        self._emit(Log(level, f"{self._shown}: {cause}; trying again in {pause:.1f} s"))
        time.sleep(pause)

    def _refused(self, response: Response) -> RepeatrError:
        status = _status(response)
        if response.status_code in (404, 410):
            return absent(self._ware, self._shown, status)
        remedy = "check the address"
        if response.status_code in (401, 403):
            from urllib.parse import urlsplit

            # Of the last redirect: that is who asked.
            host = urlsplit(response.url).hostname or "HOST"
            remedy = (
                "give credentials in ~/.netrc, or in the file that NETRC names: "
                f"machine {host} login USER password PASSWORD"
            )
        return self._down(status, remedy)

    def _down(self, cause: str, remedy: str = "check the address and the network") -> RepeatrError:
        return RepeatrError(
            Category.WAREHOUSE_UNAVAILABLE, f"{self._shown} is unavailable: {cause}", remedy=remedy
        )


def _status(response: Response) -> str:
    # The reason is the server's text: one line of it, and not much.
    reason = "".join(c for c in (response.reason or "")[:60] if c.isprintable())
    return f"the server answers {response.status_code} {reason}".rstrip()


def _content_range(value: str) -> tuple[int | None, int | None]:
    """First byte and total of `bytes FIRST-LAST/TOTAL`; None for what is not told."""
    unit, _, spec = value.partition(" ")
    span, _, total = spec.partition("/")
    first = span.partition("-")[0]
    return (
        int(first) if unit == "bytes" and first.isascii() and first.isdigit() else None,
        int(total) if total.isascii() and total.isdigit() else None,
    )


def _seconds(retry_after: str) -> float:
    """Retry-After as seconds from now: a number or an HTTP date; 0 where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(error: BaseException, patience: Patience) -> str:
    """What went wrong, in words and without the address: it may hold secrets."""
    import requests

    found: BaseException | None = error
    for _ in range(10):
        if isinstance(found, requests.exceptions.ConnectTimeout):
            return f"no connection within {patience.connect:.0f} s"
        if isinstance(found, requests.exceptions.ReadTimeout | TimeoutError):
            return f"nothing came for {patience.read:.0f} s"
        if type(found).__name__ == "ReadTimeoutError":
            return f"nothing came for {patience.read:.0f} s"
        verify = getattr(found, "verify_message", "")
        if verify:
            return f"its certificate is not trusted: {verify}"
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        if isinstance(found, requests.exceptions.TooManyRedirects):
            return "it redirects without end"
        following = found.__cause__ or found.__context__ if found else None
        inner = [each for each in getattr(found, "args", ()) if isinstance(each, BaseException)]
        reason = getattr(found, "reason", None)
        if isinstance(reason, BaseException):
            inner.append(reason)
        following = inner[0] if inner else following
        if following is None:
            break
        found = following
    return f"the connection broke ({type(found).__name__})"
