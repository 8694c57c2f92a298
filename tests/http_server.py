"""A real HTTP server on the loopback that can be told to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """What the server does; tests change it while it runs."""

    root: Path
    ranges: bool = True
    etag: str = ""
    #: Statuses to answer with before the first good one.
    statuses: list[int] = field(default_factory=list)
    retry_after: str = ""
    #: Bytes of body after which the connection is cut, one for each answer to come.
    cuts: list[int] = field(default_factory=list)
    #: Whether bodies are sent in chunks, without a Content-Length.
    chunked: bool = False
    redirect_to: str = ""
    #: "user:password" in base64 that is required.
    authorization: str = ""
    stall: float = 0.0
    #: The headers of every request that came.
    requests: list[dict[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        it = self.behaviour
        it.requests.append({"path": self.path, **dict(self.headers.items())})
        if it.redirect_to:
            self._plain(302, {"Location": it.redirect_to + self.path})
            return
        if it.authorization and self.headers.get("Authorization") != f"Basic {it.authorization}":
            self._plain(401, {"WWW-Authenticate": 'Basic realm="wares"'})
            return
        if it.statuses:
            extra = {"Retry-After": it.retry_after} if it.retry_after else {}
            self._plain(it.statuses.pop(0), extra)
            return
        path = it.root / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self._plain(404, {})
            return
        self._body(path.read_bytes())

    def _body(self, data: bytes) -> None:
        it = self.behaviour
        total, start = len(data), 0
        wanted = self.headers.get("Range", "")
        fresh = self.headers.get("If-Range", it.etag) == it.etag
        if it.ranges and wanted and fresh:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if it.etag:
            self.send_header("ETag", it.etag)
        data = data[start:]
        if it.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if it.stall:
            time.sleep(it.stall)
        if it.cuts:
            self.wfile.write(data[: it.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(data)

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up early are part of the game."""


@contextmanager
def serving(root: Path, address: str = "127.0.0.1") -> Iterator[tuple[str, Behaviour]]:
    """A server of the files below `root`: its URL (without a path) and its behaviour."""
    behaviour = Behaviour(root)
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    server = _Server((address, 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_address[1]}", behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
