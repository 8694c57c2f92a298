"""Events and results as text or JSON: the two ways in which every command answers.

Text follows the originals. What a command was asked for is alone on standard output and all
else goes to standard error: in the manner of Rio for the commands that answer with a
WareID (`log: lvl=info msg=...`), in the manner of Repeatr for the others. JSON is one event
a line on standard output, the result last.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from repeatr.cli.streams import Stream
from repeatr.errors import RepeatrError
from repeatr.model.events import Event, Level, Log, Output, Progress
from repeatr.model.record import RunRecord
from repeatr.model.wareid import WareID

#: The name of the result of commands that answer with a WareID; their text is as Rio's.
WARE_ID = "wareID"
#: The same of those that answer with a run record.
RUN_RECORD = "runRecord"

#: A line of the process's output longer than this many bytes is told in pieces.
_LONGEST_LINE = 64 * 1024

# The colours of the original: SGR codes.
_CYAN, _MAGENTA, _YELLOW, _GREY, _BLUE = "0;36", "0;35", "0;33", "1;30", "1;34"


class Printer(Protocol):
    """How a command answers. `emit` may be called from any thread."""

    @property
    def cut_off(self) -> bool:
        """Whether whoever read standard output has gone away."""
        ...

    def emit(self, event: Event) -> None:
        """Tell an event."""
        ...

    def result(self, value: RunRecord | WareID | None, error: RepeatrError | None = None) -> None:
        """Tell the result, which is the last thing told: a value, an error, or both."""
        ...

    def document(self, value: object, text: str, error: RepeatrError | None = None) -> None:
        """Tell a result of another kind: `value` as JSON, `text` (whole lines) as text; and
        an error, where one comes with it."""
        ...


def make(form: str, result_name: str, *, verbose: bool = False) -> Printer:
    """The printer for `--format=form`; `result_name` is what JSON calls the result.

    `verbose` shows debug lines in text too (JSON has all).
    """
    if form == "json":
        return JsonPrinter(result_name)
    if result_name == WARE_ID:
        return RioPrinter(verbose=verbose)
    return TextPrinter(verbose=verbose)


class JsonPrinter:
    """One JSON value a line on standard output; errors are told on standard error too."""

    def __init__(self, result_name: str) -> None:
        from repeatr.model import wire

        self._wire = wire
        self._name = result_name
        self._out = Stream(sys.stdout, "standard output", essential=True)
        self._lock = threading.Lock()

    @property
    def cut_off(self) -> bool:
        """See `Printer`."""
        return self._out.cut_off

    def emit(self, event: Event) -> None:
        """See `Printer`."""
        if not isinstance(event, Progress):
            self._line(self._wire.event_to_json(event))

    def result(self, value: RunRecord | WareID | None, error: RepeatrError | None = None) -> None:
        """See `Printer`."""
        if error is not None:
            _tell_error(Stream(sys.stderr, "standard error", essential=False), error)
        written = value.to_json() if isinstance(value, RunRecord) else _text_or_none(value)
        self._result(written, error)

    def document(self, value: object, text: str, error: RepeatrError | None = None) -> None:
        """See `Printer`."""
        if error is not None:
            _tell_error(Stream(sys.stderr, "standard error", essential=False), error)
        self._result(value, error)

    def _result(self, value: object, error: RepeatrError | None) -> None:
        result: dict[str, object] = {self._name: value} if self._name else {}
        result["error"] = None if error is None else self._wire.error_to_json(error)
        self._line({"result": result})

    def _line(self, value: Mapping[str, object]) -> None:
        line = self._wire.json_line(value).encode() + b"\n"
        with self._lock:
            self._out.write(line)


class TextPrinter:
    """Text as the original Repeatr's."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._lowest = Level.DEBUG if verbose else Level.INFO
        self._out = Stream(sys.stdout, "standard output", essential=True)
        self._err = Stream(sys.stderr, "standard error", essential=False)
        terminal = self._err.is_terminal and os.environ.get("TERM") != "dumb"
        self._colours = terminal and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._pending = b""
        self._bar = None
        if terminal:
            from repeatr.cli.progress import ProgressBar

            self._bar = ProgressBar()

    @property
    def cut_off(self) -> bool:
        """See `Printer`."""
        return self._out.cut_off

    def emit(self, event: Event) -> None:
        """See `Printer`."""
        with self._lock:
            if isinstance(event, Log):
                if event.level >= self._lowest:
                    self._tell(self._log_line(event))
            elif isinstance(event, Output):
                self._output(event)
            elif self._bar is not None:
                self._bar.update(event)

    def result(self, value: RunRecord | WareID | None, error: RepeatrError | None = None) -> None:
        """See `Printer`. A value goes out before an error that came with it is told."""
        with self._lock:
            self._finish()
            if isinstance(value, RunRecord):
                from repeatr.model.wire import pretty_json

                follows = self._coloured("runrecord follows:", _YELLOW)
                self._tell(f"{self._mark('∴⟩', _YELLOW)} {self._clock(time.time())} {follows}\n")
                self._out.write(pretty_json(value.to_json()).encode() + b"\n")
            elif value is not None:
                self._out.write(f"{value}\n".encode())
            if error is not None:
                _tell_error(self._err, error)

    def document(self, value: object, text: str, error: RepeatrError | None = None) -> None:
        """See `Printer`."""
        with self._lock:
            self._finish()
            self._out.write(text.encode(errors="backslashreplace"))
            if error is not None:
                _tell_error(self._err, error)

    def _log_line(self, event: Log) -> str:
        flare = self._mark("-⟩", _CYAN)
        level = self._coloured(f"{event.level.name.lower()}:", _CYAN)
        line = f"{flare} {self._clock(event.time)} {flare} {level} {plain(event.msg)}"
        if event.detail:
            line += " --- " + ", ".join(
                f"{self._coloured(plain(key) + ':', _BLUE)} {plain(value)}"
                for key, value in event.detail
            )
        return line + "\n"

    def _output(self, event: Output) -> None:
        """Tell the process's output, line by line; of a line without an end, when it ends."""
        data = self._pending + event.msg
        *lines, self._pending = data.split(b"\n")
        if len(self._pending) > _LONGEST_LINE:
            lines.append(self._pending)
            self._pending = b""
        if lines:
            self._output_lines(lines, event.time)

    def _output_lines(self, lines: list[bytes], when: float) -> None:
        flare = self._mark("≡⟩", _MAGENTA)
        start = f"{flare} {self._clock(when)} {flare} \t".encode()
        if self._bar is not None:
            self._bar.hide()
        # What the process writes passes as it is, escape sequences too, as in the original.
        self._err.write(b"".join(b"%b%b\n" % (start, line) for line in lines))

    def _finish(self) -> None:
        if self._pending:
            self._output_lines([self._pending], time.time())
            self._pending = b""
        if self._bar is not None:
            self._bar.close()

    def _tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar.hide()
        self._err.write(text.encode(errors="backslashreplace"))

    def _mark(self, flare: str, colour: str) -> str:
        return self._coloured(flare, colour)

    def _clock(self, when: float) -> str:
        clock = time.strftime("%m-%d %H:%M:%S", time.localtime(when))
        return f"[{self._coloured(clock, _GREY)}]"

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text


class RioPrinter(TextPrinter):
    """Text as Rio's."""

    def _log_line(self, event: Log) -> str:
        return f"log: lvl={event.level.name.lower()} msg={plain(event.msg)}\n"


def plain(text: str) -> str:
    """Text that cannot move a terminal's cursor: what is not printable is escaped.

    Tabs stay. Lines after the first are indented, so that a message cannot pass for another.
    """
    if text.isprintable():
        return text
    return "".join(
        "\n    " if char == "\n" else char if char == "\t" or char.isprintable() else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _tell_error(stream: Stream, error: RepeatrError) -> None:
    text = f"repeatr: {plain(error.message)}\n"
    if error.remedy:
        text += f"  try: {plain(error.remedy)}\n"
    stream.write(text.encode(errors="backslashreplace"))


def _text_or_none(value: WareID | None) -> str | None:
    return None if value is None else str(value)
