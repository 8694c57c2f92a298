"""`repeatr base`: a first fileset to run formulas in, made of programs of this host."""

from __future__ import annotations

import argparse

from repeatr.cli.printing import Printer

SUMMARY = "make a ware of programs of this host, to run formulas in"

EXAMPLES = """\
  repeatr base sh ls cat
  repeatr base busybox ./my-tool --target=ca+file:///srv/wares
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "programs",
        nargs="+",
        metavar="PROGRAM",
        help="a name to be looked up in PATH, or a path. Its loader and libraries come with "
        "it, a script's interpreter, and the symlinks on the way. What a program loads while "
        "it runs (plug-ins, an interpreter's modules) does not",
    )
    parser.add_argument(
        "--target",
        metavar="URL",
        help="the warehouse to save the ware in (default: the store's own, which is asked for "
        "wares for which no other is named)",
    )
    parser.add_argument(
        "--packtype", default="tree", help="the pack format of the ware (default: tree)"
    )


def execute(args: argparse.Namespace, printer: Printer) -> int:
    """Make the base and tell its WareID."""
    from repeatr import base
    from repeatr.store.home import home_path
    from repeatr.store.own_warehouse import own_warehouse

    target = args.target or own_warehouse(home_path())
    printer.result(base.make(args.programs, target, packtype=args.packtype, emit=printer.emit))
    return 0
