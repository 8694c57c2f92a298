"""`repeatr completion`: what makes the shell complete `repeatr`'s words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = "Print a completion script for your shell."

EXAMPLES = """\
  repeatr completion bash > ~/.local/share/bash-completion/completions/repeatr
  repeatr completion zsh > ~/.zfunc/_repeatr"""

#: The arguments (by metavar) that are files of this machine.
_FILES = ("PATH", "FORMULA", "SOURCE", "PROGRAM")

_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `completion` takes."""
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=", ".join(_SHELLS))


def execute(args: Namespace, printer: Printer) -> int:
    """Run `completion`."""
    import shtab

    from repeatr.cli.main import whole_parser

    parser, commands = whole_parser()
    for command in commands:
        for action in command._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    script = str(shtab.complete(parser, args.shell)).rstrip("\n") + "\n"
    printer.document(script, script)
    return 0
