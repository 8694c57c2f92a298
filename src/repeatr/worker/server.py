"""The worker's side: enter the enclosure once, fork a child for each run.

`python -m repeatr.worker FD` serves the socket FD until its other end is closed; with it go
all runs that are still going on.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.linux import calls, enclosure
from repeatr.linux.enclosure import Enclosure
from repeatr.linux.interrupts import Interrupts
from repeatr.model.document import parse_document
from repeatr.model.events import Emit, Event, Level, Log
from repeatr.run import Options, Place, Ran, run
from repeatr.store import memos
from repeatr.store.filesets import Store
from repeatr.worker.protocol import Answer, Request, decode_request, encode_answer, encode_event

#: What a run imports when it needs it; here once, instead of in every child.
_WARM = (
    "sqlite3",
    "zstandard",
    "repeatr.engines.namespaces",
    "repeatr.fileset.manifest_file",
    "repeatr.warehouses.fetch",
    "repeatr.warehouses.file",
    "repeatr.wares.compress",
    "repeatr.wares.tar_reader",
    "repeatr.wares.tar_writer",
    "repeatr.wares.unpacking",
)


def serve(fd: int) -> None:
    """Serve the socket `fd` to its end."""
    # The terminal's Ctrl-C is for the program, which then says what becomes of its runs.
    os.setsid()
    here: Enclosure | RepeatrError
    try:
        here = enclosure.enter()
    except RepeatrError as refused:
        here = refused
    for module in _WARM:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    with socket.socket(fileno=fd) as control:
        while True:
            message, fds, _flags, _address = socket.recv_fds(control, 1, 1)
            if not message:
                return
            if os.fork() == 0:
                control.close()
                _child(fds[0], here)
            os.close(fds[0])


def _child(fd: int, here: Enclosure | RepeatrError) -> NoReturn:
    """Run what is asked for on the connection `fd`, answer on it, and end."""
    code = 1
    try:
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with socket.socket(fileno=fd) as connection, Interrupts() as interrupts:
            # Whoever knows the pid may ask to stop: from now on, that has to wait its turn.
            interrupts.hold()
            connection.sendall(b"%d\n" % os.getpid())
            with connection.makefile("rb") as lines:
                request = decode_request(lines.readline())

            def emit(event: Event) -> None:
                connection.sendall(encode_event(event))

            connection.sendall(encode_answer(_run(request, here, emit, interrupts)))
        code = 0
    except BrokenPipeError:
        pass  # whoever asked has gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _run(
    request: Request, here: Enclosure | RepeatrError, emit: Emit, interrupts: Interrupts
) -> Answer:
    if isinstance(here, RepeatrError):
        return Answer(None, here)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    os.umask(request.umask)
    try:
        interrupts.resume()
        ran = _run_here(request, here, emit, interrupts)
    except RepeatrError as error:
        return Answer(None, error)
    except Exception as error:
        kind = type(error).__name__
        return Answer(None, RepeatrError(Category.BUG, f"a bug in repeatr: {kind}: {error}"))
    finally:
        interrupts.hold()
    return Answer(ran.record, ran.error)


def _run_here(request: Request, here: Enclosure, emit: Emit, interrupts: Interrupts) -> Ran:
    parsed = parse_document(request.formula.encode(errors="surrogateescape"), request.name)
    for warning in parsed.warnings:
        emit(Log(Level.WARN, warning))
    home = Path(request.home)
    wanted = request.memo or bool(os.environ.get(memos.VARIABLE))
    options = Options(
        engine=request.engine,
        memos=memos.memos_of(home) if wanted else None,
        timeout=request.timeout,
        keep=home / "kept" if request.keep else None,
    )
    store = Store(home, here.idmap.key, emit)
    return run(parsed.document, Place(here, store, emit, interrupts), options)
