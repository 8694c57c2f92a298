"""`repeatr pack`: a directory becomes a ware."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = """\
Pack a directory (or a file) into a ware, and print its WareID. With --target the ware is
saved to that warehouse; without, only its WareID is computed. A PATH that does not exist
has the WareID PACKTYPE:- and is a warning."""

EXAMPLES = """\
  repeatr pack tree ./project
  repeatr pack tar ./project --target=ca+file:///srv/wares
  repeatr pack tar ./project --target=file://project.tgz --filters=uid=0,gid=0,mtime=keep"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `pack` takes."""
    parser.add_argument("packtype", metavar="PACKTYPE", help="tar or tree")
    parser.add_argument("path", metavar="PATH", help="the directory or file to pack")
    parser.add_argument("--target", metavar="URL", help="the warehouse to save to")
    parser.add_argument(
        "--filters",
        metavar="FILTERS",
        default="",
        help="which metadata to keep; by default uid=1000, gid=1000, mtime=@1262304000, "
        "sticky=keep, setid=reject, dev=reject, xattr=ignore",
    )


def execute(args: Namespace, printer: Printer) -> int:
    """Run `pack`."""
    from repeatr import api

    ware = api.pack(
        args.packtype, args.path, filters=args.filters, target=args.target, emit=printer.emit
    )
    printer.result(ware)
    return 0
