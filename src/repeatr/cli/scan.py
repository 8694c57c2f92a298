"""`repeatr scan`: what is the WareID of this archive?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from repeatr.errors import Category, RepeatrError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = """\
Tell the WareID of an archive, as it is: filters only reject here. SOURCE is a path, a URL, or
- for standard input. Says how many entries a tar's id does not cover."""

EXAMPLES = """\
  repeatr scan tar ./project.tgz
  repeatr scan tar --source=https://example.org/project.tar.xz
  curl -s https://example.org/project.tar.xz | repeatr scan tar -
  repeatr scan tar ./system.tgz --filters=setid=follow,dev=follow"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `scan` takes."""
    parser.add_argument("packtype", metavar="PACKTYPE", help="tar or tree")
    parser.add_argument("path", metavar="SOURCE", nargs="?", help="the archive")
    parser.add_argument("--source", metavar="URL", help="the archive: another way to name it")
    parser.add_argument(
        "--filters",
        metavar="FILTERS",
        default="",
        help="what to reject; by default setid=reject, dev=reject",
    )


def execute(args: Namespace, printer: Printer) -> int:
    """Run `scan`."""
    from repeatr import api

    named = [source for source in (args.path, args.source) if source is not None]
    if len(named) != 1:
        found = "two are named" if named else "none is named"
        raise RepeatrError(
            Category.USAGE,
            f"scan: expected one archive, {found}",
            remedy="repeatr scan PACKTYPE SOURCE, or --source=URL",
        )
    source = sys.stdin.buffer if named[0] == "-" else named[0]
    printer.result(api.scan(args.packtype, source, filters=args.filters, emit=printer.emit))
    return 0
