"""The argument parser of a command, and what every command takes."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from repeatr.errors import Category, RepeatrError

#: What `--format` takes.
FORMATS = ("text", "json")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are usage errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise RepeatrError USAGE."""
        raise RepeatrError(
            Category.USAGE,
            f"{self.prog.removeprefix('repeatr ')}: {message}",
            remedy=self.prog.replace("repeatr", "repeatr help", 1),
        )


def parser_for(name: str, summary: str, examples: str) -> Parser:
    """The parser of the command `name`, with what every command takes."""
    parser = Parser(
        prog=f"repeatr {name}",
        description=summary,
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    add_common(parser)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse makes one for every option, also where no help is
    asked for, and imports `shutil` to measure the terminal each time; so it is told.
    """

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, **{"width": _width() - 2, **more})


def _width() -> int:
    try:
        return int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(1).columns
    except (ValueError, OSError):
        return 80


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes."""
    common = parser.add_argument_group("for every command")
    common.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="text for people (the default), or one JSON event a line on standard output",
    )
    common.add_argument("-v", "--verbose", action="store_true", help="tell debug lines too")


def positive(text: str) -> int:
    """An argparse type: a whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return number
