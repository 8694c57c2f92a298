from __future__ import annotations

import pytest

from repeatr.engines.contract import ExecFailure, Exit
from repeatr.engines.supervise import _Text, interpret
from repeatr.errors import RepeatrError


@pytest.mark.parametrize(
    ("told", "stopped", "expected"),
    [
        (b"exit 0\n", "", Exit(0)),
        (b"exit 3\n", "signal", Exit(3, "signal")),
        (b"signal 9\n", "", Exit(137)),
        (b"", "deadline", Exit(137, "deadline")),
    ],
)
def test_reports(told: bytes, stopped: str, expected: Exit) -> None:
    assert interpret(told, 0, stopped) == expected  # type: ignore[arg-type]


def test_report_of_a_process_that_did_not_start() -> None:
    with pytest.raises(ExecFailure) as caught:
        interpret(b"exec cwd 2\nexit 127\n", 0, "")
    assert (caught.value.step, caught.value.errno) == ("cwd", 2)


def test_report_of_no_container() -> None:
    with pytest.raises(RepeatrError) as caught:
        interpret(b"fail mount: no\n", 0, "")
    assert caught.value.exit_code == 42
    assert caught.value.message == "the container could not be made: mount: no"
    assert "--engine" in caught.value.remedy


def test_no_report() -> None:
    with pytest.raises(RepeatrError) as caught:
        interpret(b"", 9, "")
    assert caught.value.exit_code == 42
    assert "(signal 9)" in caught.value.message
    assert "dmesg" in caught.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        "a\u00e9\u20ac\U0001f600z".encode(),
        b"\xff\xfe\x80\x80\x80\x80\xc3",
        b"\xf0\x9f\x98",
        b"\xe2\x82",
    ],
)
def test_text_is_cut_between_characters(data: bytes) -> None:
    text = _Text()
    pieces = [text.whole(bytes([byte])) for byte in data]
    assert b"".join(pieces) + text.rest() == data
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    for piece in pieces:
        piece.decode()


def test_text_holds_back_little() -> None:
    text = _Text()
    assert text.whole(b"\x80" * 100) == b"\x80" * 100
    assert text.whole(b"ab\xe2\x82") == b"ab"
    assert text.whole(b"\xac!") == b"\xe2\x82\xac!"
