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

_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `completion` takes."""
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=", ".join(_SHELLS))


def execute(args: Namespace, printer: Printer) -> int:
    """Run `completion`."""
    import shtab

    from repeatr.cli.main import whole_parser

    script = str(shtab.complete(whole_parser(), args.shell)).rstrip("\n") + "\n"
    printer.document(script, script)
    return 0
