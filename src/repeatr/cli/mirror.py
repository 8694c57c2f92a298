"""`repeatr mirror`: a ware goes from one warehouse to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = """\
Copy a ware to a warehouse, byte for byte, verifying it on the way: the target has it when all
of it is right. Where the target has it already, nothing is copied."""

EXAMPLES = """\
  repeatr mirror tar:HASH --target=ca+file:///srv/wares --source=https://example.org/x.tgz
  repeatr mirror tree:HASH --target=file://./x.tree --source=ca+file:///srv/wares"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `mirror` takes."""
    parser.add_argument("ware", metavar="WAREID", help="the ware")
    parser.add_argument("--target", metavar="URL", required=True, help="the warehouse to copy to")
    parser.add_argument(
        "--source",
        metavar="URL",
        action="append",
        default=[],
        help="a warehouse that has it; may be given again, they are tried in that order "
        "(without: the store's own warehouse)",
    )


def execute(args: Namespace, printer: Printer) -> int:
    """Run `mirror`."""
    from repeatr import api

    printer.result(api.mirror(args.ware, args.target, sources=args.source, emit=printer.emit))
    return 0
