"""The printers: what each event and result looks like, byte for byte."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from repeatr.cli import printing
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Level, Log, Output, Progress
from repeatr.model.record import RunRecord
from repeatr.model.wareid import WareID

Capture = pytest.CaptureFixture[str]

WHEN = 1262304000
CLOCK = time.strftime("[%m-%d %H:%M:%S]", time.localtime(WHEN))
WARE = WareID("tar", "abc")
RECORD = RunRecord(
    "n84s48fd-0w1gta7e-of69fqvd", WHEN, "form", 3, {"/out": WARE}, "here", {"k": "v"}
)
ERROR = RepeatrError(Category.JOB_UNSUCCESSFUL, "it failed", remedy="mend it", details={"a": "b"})


def test_text_is_as_the_original(capfd: Capture) -> None:
    printer = printing.make("text", "runRecord")
    printer.emit(Log(Level.INFO, "unpacking", (("ware", "tar:x"), ("path", "/")), WHEN))
    printer.emit(Log(Level.WARN, "odd", (), WHEN))
    printer.emit(Log(Level.DEBUG, "small talk", (), WHEN))
    printer.emit(Progress("unpacking", 1, 2))
    printer.emit(Output(b"hello\nwor", WHEN))
    printer.emit(Output(b"ld\n", WHEN))
    printer.result(RECORD)
    out, err = capfd.readouterr()
    assert out == json.dumps(RECORD.to_json(), indent=4) + "\n"
    lines = err.splitlines()
    assert lines[:-1] == [
        f"-⟩ {CLOCK} -⟩ info: unpacking --- ware: tar:x, path: /",
        f"-⟩ {CLOCK} -⟩ warn: odd",
        f"≡⟩ {CLOCK} ≡⟩ \thello",
        f"≡⟩ {CLOCK} ≡⟩ \tworld",
    ]
    assert re.fullmatch(r"∴⟩ \[\d\d-\d\d \d\d:\d\d:\d\d\] runrecord follows:", lines[-1])


def test_debug_lines_are_for_those_who_ask(capfd: Capture) -> None:
    printing.make("text", "runRecord", verbose=True).emit(Log(Level.DEBUG, "small talk"))
    assert "debug: small talk" in capfd.readouterr().err


def test_a_last_line_without_an_end_is_told_at_the_end(capfd: Capture) -> None:
    printer = printing.make("text", "runRecord")
    printer.emit(Output(b"no end", WHEN))
    assert capfd.readouterr().err == ""
    printer.result(RECORD)
    assert "\tno end\n" in capfd.readouterr().err


def test_an_endless_line_is_told_in_pieces(capfd: Capture) -> None:
    printer = printing.make("text", "runRecord")
    for _ in range(100):
        printer.emit(Output(b"x" * 4096, WHEN))
    printer.result(None)
    err = capfd.readouterr().err
    assert err.count("x") == 100 * 4096
    assert 2 <= len(err.splitlines()) <= 10


def test_the_process_may_write_what_it_likes_but_messages_may_not(capfdbinary: object) -> None:
    printer = printing.make("text", "runRecord")
    printer.emit(Output(b"\033[31m\xff\r\n", WHEN))
    printer.emit(Log(Level.INFO, "a\033b\u202ec\x07\n-⟩ forged", (("k\033", "v\x9b"),), WHEN))
    printer.result(None, RepeatrError(Category.USAGE, "no \033[2J", remedy="\udcff\ttab"))
    err: bytes = capfdbinary.readouterr().err  # type: ignore[attr-defined]
    output, log, *error = err.split(b"\n", 1)[0], *err.split(b"\n")[1:]
    assert output.endswith(b"\t\033[31m\xff\r")
    assert log.decode().endswith(r"info: a\x1bb\u202ec\x07")
    assert error[0].decode() == r"    -⟩ forged --- k\x1b: v\x9b"
    assert error[1:3] == [rb"repeatr: no \x1b[2J", b"  try: \\udcff\ttab"]


def test_a_record_comes_before_its_error(capfd: Capture) -> None:
    printing.make("text", "runRecord").result(RECORD, ERROR)
    out, err = capfd.readouterr()
    assert json.loads(out)["exitCode"] == 3
    assert err.endswith("runrecord follows:\nrepeatr: it failed\n  try: mend it\n")


def test_rio_text(capfd: Capture) -> None:
    printer = printing.make("text", printing.WARE_ID)
    printer.emit(Log(Level.INFO, "unpacking", (("ware", "tar:x"),), WHEN))
    printer.emit(Log(Level.DEBUG, "small talk", (), WHEN))
    printer.result(WARE)
    assert capfd.readouterr() == ("tar:abc\n", "log: lvl=info msg=unpacking\n")


def test_json_is_one_event_a_line(capfd: Capture) -> None:
    printer = printing.make("json", "runRecord")
    printer.emit(Log(Level.DEBUG, "a\nb\033", (("k", "v"),), WHEN))
    printer.emit(Progress("unpacking", 1, 2))
    printer.emit(Output(b"\xffhi\n", WHEN))
    printer.result(RECORD, ERROR)
    out, err = capfd.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"log": {"t": WHEN, "lvl": 1, "msg": "a\nb\033", "detail": [["k", "v"]]}},
        {"txt": {"t": WHEN, "msg": "\ufffdhi\n"}},
        {
            "result": {
                "runRecord": RECORD.to_json(),
                "error": {
                    "category": "repeatr-job-unsuccessful",
                    "message": "it failed",
                    "details": {"a": "b", "remedy": "mend it"},
                },
            }
        },
    ]
    assert err == "repeatr: it failed\n  try: mend it\n"


def test_json_of_a_ware(capfd: Capture) -> None:
    printing.make("json", "wareID").result(WARE)
    assert capfd.readouterr() == ('{"result":{"wareID":"tar:abc","error":null}}\n', "")


def test_lines_of_many_threads_stay_whole(capfd: Capture) -> None:
    for form in ("text", "json"):
        printer = printing.make(form, "runRecord")

        def chatter(printer: printing.Printer = printer) -> None:
            for _ in range(100):
                printer.emit(Log(Level.INFO, "m" * 500))

        threads = [threading.Thread(target=chatter) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = "".join(capfd.readouterr()).splitlines()
        assert len(lines) == 400
        assert all(line.count("m" * 500) == 1 for line in lines)
