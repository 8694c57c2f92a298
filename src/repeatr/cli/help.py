"""`repeatr help`: all commands, or one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = "Explain a command, or list all commands."

EXAMPLES = """\
  repeatr help pack"""

_INTRODUCTION = """\
usage: repeatr COMMAND ...

Run a process as a pure function of filesets.

commands:
"""

_CLOSING = """
`repeatr help COMMAND` explains a command, `repeatr --version` tells the version.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `help` takes."""
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="the command to explain")


def execute(args: Namespace, printer: Printer) -> int:
    """Run `help`."""
    from repeatr.cli.main import COMMANDS, known, parser_of

    if args.command is None:
        lines = (f"  {name:<12}{summary}\n" for name, (summary, _) in COMMANDS.items())
        text = _INTRODUCTION + "".join(lines) + _CLOSING
    else:
        text = parser_of(known(args.command)).format_help()
    printer.document(text, text)
    return 0
