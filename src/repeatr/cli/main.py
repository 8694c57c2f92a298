"""The command `repeatr`: finds the command asked for, runs it, tells what went wrong.

Nothing is imported at the top that `repeatr --version` does not use.
"""

from __future__ import annotations

import os
import sys

# As `typing.TYPE_CHECKING`, without the price of importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from types import FrameType, ModuleType
    from typing import NoReturn

    from repeatr.cli.arguments import Parser
    from repeatr.cli.printing import Printer
    from repeatr.errors import RepeatrError

#: Every command: what it does in a line, and what JSON calls its result. The module of a
#: command is `repeatr.cli.NAME`.
COMMANDS = {
    "run": ("run a formula: filesets in, filesets out", "runRecord"),
    "pack": ("pack a directory into a ware", "wareID"),
    "unpack": ("unpack a ware into a directory", "wareID"),
    "scan": ("tell the WareID of an archive", "wareID"),
    "mirror": ("copy a ware from one warehouse to another", "wareID"),
    "base": ("make a ware of programs of this host, to run formulas in", "wareID"),
    "inspect": ("tell what a formula is and needs, without running it", "inspection"),
    "runs": ("list the runs of this machine", "runRecords"),
    "show": ("show one run record", "runRecord"),
    "completion": ("print a completion script for your shell", "script"),
    "help": ("explain a command", "help"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `repeatr` with these arguments (by default the process's); its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        return _tell_version()
    from repeatr.cli.streams import open_missing_streams

    open_missing_streams()
    from repeatr.cli import printing

    format_, verbose = _how_to_print(words)
    printer = printing.make(format_, "", verbose=verbose)
    try:
        name, words = _command(words)
        printer = printing.make(format_, COMMANDS[name][1], verbose=verbose)
        if argv is None:
            _stop_gently()
        code = _execute(name, words, printer)
    except Exception as error:
        code = _tell(printer, error)
    except KeyboardInterrupt:
        # Whoever interrupts a command knows; a program that reads JSON may not.
        printer.result(None, _interrupted() if format_ == "json" else None)
        code = 8
        if argv is None:
            # Not by way of the interpreter's end, which waits for files that threads read.
            os._exit(code)
    # Half an answer is none; the reader knows why, so nothing is said.
    return 8 if code == 0 and printer.cut_off else code


def _tell_version() -> int:
    from repeatr.version import __version__

    try:
        os.write(1, f"repeatr {__version__}\n".encode())
    except OSError:
        return 8
    return 0


def load(name: str) -> ModuleType:
    """The module of a command."""
    from importlib import import_module

    return import_module(f"repeatr.cli.{name}")


def parser_of(name: str) -> Parser:
    """The argument parser of a command."""
    from repeatr.cli.arguments import parser_for

    module = load(name)
    parser = parser_for(name, module.SUMMARY, getattr(module, "EXAMPLES", ""))
    module.add_arguments(parser)
    return parser


def whole_parser() -> tuple[ArgumentParser, list[ArgumentParser]]:
    """One parser with every command in it, as completion scripts are made from; and theirs."""
    from repeatr.cli.arguments import Parser, add_common

    parser = Parser(prog="repeatr")
    parser.add_argument("--version", action="store_true", help="tell the version")
    choice = parser.add_subparsers(metavar="COMMAND")
    commands = []
    for name, (summary, _) in COMMANDS.items():
        command = choice.add_parser(name, help=summary, description=summary)
        add_common(command)
        load(name).add_arguments(command)
        commands.append(command)
    return parser, list(commands)


def _execute(name: str, words: list[str], printer: Printer) -> int:
    try:
        args = parser_of(name).parse_args(words)
    except SystemExit as done:  # argparse, after --help
        return int(done.code or 0)
    code = load(name).execute(args, printer)
    assert isinstance(code, int)
    return code


def _command(words: list[str]) -> tuple[str, list[str]]:
    """The command asked for and its arguments; options in front of it become its own."""
    leading: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("-h", "--help"):
            return "help", leading + rest
        leading.append(word)
        if word == "--format" and rest:
            leading.append(rest.pop(0))
        elif word not in ("-v", "--verbose") and not word.startswith("--format"):
            _usage(f"unknown option {word!r}", "repeatr help")
    if not rest:
        return "help", leading
    return known(rest.pop(0)), leading + rest


def known(name: str) -> str:
    """The name of a command, itself. Raises RepeatrError USAGE where there is none."""
    if name not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        _usage(f"there is no command {name!r}{guess}", "repeatr help")
    return name


def _how_to_print(words: list[str]) -> tuple[str, bool]:
    """What `--format` and `--verbose` say, before anything else is known or right."""
    format_, verbose, previous = "text", False, ""
    for word in words:
        if word == "--":
            break
        if word in ("--format=json", "--format=text"):
            format_ = word.partition("=")[2]
        elif previous == "--format" and word in ("json", "text"):
            format_ = word
        verbose = verbose or word in ("-v", "--verbose")
        previous = word
    return format_, verbose


def _tell(printer: Printer, error: Exception) -> int:
    """Tell an error, and give its exit code."""
    from repeatr.errors import RepeatrError

    if isinstance(error, BrokenPipeError):
        error = _interrupted()
    if not isinstance(error, RepeatrError):
        error = _bug(error)
    try:
        printer.result(None, error)
    except RepeatrError:
        # Standard output takes nothing, which may be what there was to tell.
        from repeatr.cli.streams import Stream

        text = f"repeatr: {error.message}\n"
        Stream(sys.stderr, "standard error", essential=False).write(text.encode())
    return error.exit_code


def _interrupted() -> RepeatrError:
    from repeatr.errors import Category, RepeatrError

    return RepeatrError(Category.CANCELLED, "interrupted")


def _usage(message: str, remedy: str) -> NoReturn:
    from repeatr.errors import Category, RepeatrError

    raise RepeatrError(Category.USAGE, message, remedy=remedy)


def _bug(error: Exception) -> RepeatrError:
    """What to tell of an exception that no user can cause; the traceback goes to a file."""
    import tempfile
    import traceback

    from repeatr.errors import Category, RepeatrError
    from repeatr.version import __version__

    trace = "".join(traceback.format_exception(error))
    remedy = "report it with what you did"
    if os.environ.get("REPEATR_DEBUG") == "1":
        sys.stderr.write(trace)
    else:
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix="repeatr-bug-", suffix=".txt", delete=False, errors="backslashreplace"
            ) as file:
                file.write(f"repeatr {__version__}, Python {sys.version}\n{trace}")
            remedy += f" and the file {file.name}"
        except OSError:
            remedy += ", run again with REPEATR_DEBUG=1 in the environment"
    kind = type(error).__name__
    return RepeatrError(Category.BUG, f"this is a bug in repeatr: {kind}: {error}", remedy=remedy)


def _stop_gently() -> None:
    """Let SIGTERM and SIGHUP end this as Ctrl-C does: what is half done is taken back.

    A second signal does not wait for that.
    """
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in numbers:
        # Not what the parent has us ignore (nohup, a shell's background jobs).
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
