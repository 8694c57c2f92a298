"""The program `repeatr` itself: finding commands, telling errors, whatever the streams are."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

import pytest

from callers import Caller, Repeatr
from made_wares import saved
from repeatr.cli.main import COMMANDS, load
from repeatr.version import __version__

HASH = "tar:" + "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6"


def test_version_is_told_and_imports_next_to_nothing(repeatr: Repeatr, myself: Caller) -> None:
    assert repeatr("--version") == (0, f"repeatr {__version__}\n", "")
    watched = (
        "import sys\nbefore = set(sys.modules)\nfrom repeatr.cli.main import main\n"
        "main(['--version'])\nprint(*sorted(set(sys.modules) - before))"
    )
    done = myself.call(sys.executable, "-S", "-c", watched)
    imported = done.out.split("\n")[1].split()
    assert [name for name in imported if name.startswith("repeatr")] == [
        *("repeatr", "repeatr.cli", "repeatr.cli.main", "repeatr.version"),
    ]
    assert not {"argparse", "dataclasses", "enum", "json", "re", "typing"} & set(imported)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",), ("--format=text", "-v")])
def test_without_a_command_all_are_listed(repeatr: Repeatr, words: tuple[str, ...]) -> None:
    done = repeatr(*words)
    assert done.code == 0
    for name, (summary, _) in COMMANDS.items():
        assert f"  {name:<12}{summary}\n" in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(repeatr: Repeatr, name: str) -> None:
    done = repeatr("help", name)
    assert (done.code, done.err) == (0, "")
    assert f"usage: repeatr {name} " in done.out
    assert "--format {text,json}" in done.out
    module = load(name)
    assert module.SUMMARY.split("\n")[0] in done.out
    for example in module.EXAMPLES.strip().splitlines():
        assert example in done.out
    assert repeatr(name, "--help") == done
    assert repeatr("--help", name) == done


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["pakc", "x"],
            "repeatr: there is no command 'pakc'; did you mean 'pack'?\n  try: repeatr help\n",
        ),
        (["zzz"], "repeatr: there is no command 'zzz'\n  try: repeatr help\n"),
        (["help", "zzz"], "repeatr: there is no command 'zzz'\n  try: repeatr help\n"),
        (["--frobnicate"], "repeatr: unknown option '--frobnicate'\n  try: repeatr help\n"),
        (
            ["--frmat=json", "pack"],
            "repeatr: unknown option '--frmat=json'\n  try: repeatr help\n",
        ),
        (
            ["pack", "tar"],
            "repeatr: pack: the following arguments are required: PATH\n  try: repeatr help pack\n",
        ),
        (
            ["pack", "tar", "x", "--targ=y"],
            "repeatr: pack: unrecognized arguments: --targ=y\n  try: repeatr help pack\n",
        ),
        (
            ["--format=xml", "pack", "tar", "x"],
            "repeatr: pack: argument --format: invalid choice: 'xml'",
        ),
        (["--format"], "repeatr: help: argument --format: expected one argument\n"),
        (
            ["runs", "--limit=0"],
            "repeatr: runs: argument --limit: expected a whole number from 1, found '0'\n"
            "  try: repeatr help runs\n",
        ),
        (
            ["\033[31mred"],
            "repeatr: there is no command '\\x1b[31mred'\n  try: repeatr help\n",
        ),
    ],
)
def test_usage_errors(repeatr: Repeatr, words: list[str], text: str) -> None:
    done = repeatr(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(text)
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["--format=json", "unpack", "tar", "out"],
        ["--format", "json", "unpack", "tar", "out"],
        ["unpack", "--format=json", "tar", "out"],
        ["unpack", "tar", "out", "--format", "json"],
    ],
)
def test_json_is_asked_for_before_or_after_the_command(repeatr: Repeatr, words: list[str]) -> None:
    done = repeatr(*words)
    assert done.code == 1
    result = json.loads(done.out)["result"]
    assert result["wareID"] is None
    assert result["error"]["category"] == "repeatr-usage-error"
    assert result["error"]["message"] == "malformed WareID 'tar': expected PACKTYPE:HASH"
    assert "a WareID looks like" in result["error"]["details"]["remedy"]
    assert done.err.startswith("repeatr: malformed WareID 'tar'")


def test_usage_errors_are_json_too(repeatr: Repeatr) -> None:
    for words in (["frob"], ["pack"], ["--nope"]):
        done = repeatr(*words, "--format=json")
        error = json.loads(done.out)["result"]["error"]
        assert (done.code, error["category"]) == (1, "repeatr-usage-error")


def test_a_bug_is_told_without_a_traceback(myself: Caller) -> None:
    broken = (
        "import sys, repeatr.api\ndef fail(*_, **__): raise ValueError('out of cheese')\n"
        "repeatr.api.pack = fail\nfrom repeatr.cli.main import main\n"
        "sys.exit(main(['pack', 'tar', 'x']))"
    )
    done = myself.call(sys.executable, "-c", broken, env={"TMPDIR": str(myself.directory)})
    assert (done.code, done.out) == (2, "")
    first, second = done.err.splitlines()
    assert first == "repeatr: this is a bug in repeatr: ValueError: out of cheese"
    file = Path(second.removeprefix("  try: report it with what you did and the file "))
    text = file.read_text()
    assert "Traceback" in text
    assert __version__ in text

    done = myself.call(sys.executable, "-c", broken, env={"REPEATR_DEBUG": "1"})
    assert done.code == 2
    assert done.err.startswith("Traceback")
    assert done.err.endswith(
        "repeatr: this is a bug in repeatr: ValueError: out of cheese\n"
        "  try: report it with what you did\n"
    )


def started(
    myself: Caller,
    *words: str | Path,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        myself.command([sys.executable, "-m", "repeatr", *words]),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=myself.environment(),
        cwd=myself.directory,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_unpack_leaves_nothing(myself: Caller, number: signal.Signals) -> None:
    # A fifo as the warehouse: unpacking waits in the middle for as long as it takes.
    ware, url = saved(myself.directory)
    data = Path(url.removeprefix("file://")).read_bytes()
    fifo = myself.directory / "fifo"
    os.mkfifo(fifo)
    process = started(myself, "unpack", str(ware), "out", f"--source=file://{fifo}")
    with open(fifo, "wb", buffering=0) as end:
        end.write(data[: -len(data) // 3])
        deadline = time.monotonic() + 30
        while not list(myself.directory.glob("out.repeatr-*/etc/motd")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 8
    assert err == b""
    assert not list(myself.directory.glob("out*"))


def test_a_reader_who_goes_away_is_not_told_off(myself: Caller) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = started(myself, "help", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (8, b"")


def test_an_output_that_is_full_is_an_error(myself: Caller) -> None:
    with open("/dev/full", "wb") as full:
        process = started(myself, "help", stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 12
    assert err.startswith(b"repeatr: cannot write to the standard output: No space left on device")


def test_closed_streams_are_not_mistaken_for_files(myself: Caller) -> None:
    (myself.directory / "made").mkdir()
    script = 'exec "$0" -m repeatr pack tar made --target=file://made.tgz 0<&- 1>&- 2>&-'
    done = myself.call("/bin/sh", "-c", script, sys.executable)
    assert done == (0, "", "")
    told = myself.repeatr("scan", "tar", "made.tgz")
    assert told.code == 0
    assert told.out.startswith("tar:")


def on_a_terminal(myself: Caller, *words: str | Path, **env: str) -> tuple[int, str, str]:
    """Run Python with standard error on a terminal: exit code, stdout, what the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=myself.directory,
        env=myself.environment({"TERM": "xterm", **env}),
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how a pty says that the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out.decode(), seen.decode()


def test_long_work_shows_a_bar_on_a_terminal(myself: Caller) -> None:
    work = """
import time
from repeatr.cli.printing import make
from repeatr.model.events import Level, Log, Progress
from repeatr.model.wareid import WareID
printer = make("text", "wareID")
printer.emit(Progress("short work", 1, 10))
printer.emit(Progress("short work", 10, 10))
printer.emit(Progress("long work", 1, 10))
time.sleep(0.6)
printer.emit(Progress("long work", 5, 10))
printer.emit(Log(Level.INFO, "meanwhile"))
printer.emit(Progress("long work", 6, 10))
printer.result(WareID("tar", "x"))
"""
    code, out, seen = on_a_terminal(myself, "-c", work)
    assert (code, out) == (0, "tar:x\n")
    assert "long work:  50%" in seen
    assert "short work" not in seen
    # The bar gives way to lines, and is gone at the end.
    assert "\rlog: lvl=info msg=meanwhile\r\n" in seen
    assert seen.endswith("\r")
    assert seen.rpartition("\n")[2].split("\r")[-2].strip() == ""
    done = myself.call(sys.executable, "-c", work)
    assert (done.out, done.err) == (out, "log: lvl=info msg=meanwhile\n")


def test_colours_are_for_terminals(myself: Caller) -> None:
    (myself.directory / "odd.formula").write_text('{"action": {"exec": ["/x"]}} and more')
    code, out, seen = on_a_terminal(myself, "-m", "repeatr", "inspect", "odd.formula")
    assert code == 0
    assert json.loads(out)
    assert "\033" not in out
    assert "\033[0;36m-⟩\033[0m [\033[1;30m" in seen
    assert "\033[0;36mwarn:\033[0m odd.formula" in seen
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, _, seen = on_a_terminal(myself, "-m", "repeatr", "inspect", "odd.formula", **env)
        assert "warn: odd.formula" in seen
        assert "\033" not in seen
    done = myself.repeatr("inspect", "odd.formula")
    assert "warn: odd.formula" in done.err
    assert "\033" not in done.err


def test_rio_commands_tell_in_the_manner_of_rio(repeatr: Repeatr) -> None:
    done = repeatr("pack", "tar", "absent")
    assert (done.code, done.out) == (0, "tar:-\n")
    assert done.err == "log: lvl=warn msg='absent' does not exist: it packs as tar:-\n"


def test_names_of_files_cannot_write_to_the_terminal(myself: Caller) -> None:
    done = myself.repeatr("pack", "tar", "a\033[2Jb\nlog: lvl=info msg=forged")
    assert done.code == 0
    assert "\033" not in done.err
    assert len(done.err.splitlines()) == 1


def test_any_working_directory_will_do(myself: Caller) -> None:
    # An unreadable or removed directory is no reason for a traceback.
    gone = myself.directory / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD" && exec "$0" -m repeatr unpack "$1" out --source=file://x'
    done = myself.call("/bin/sh", "-c", script, sys.executable, HASH, cwd=gone)
    assert done.code in (3, 5, 12)
    assert "Traceback" not in done.err
