"""`repeatr unpack`: a ware becomes a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = """\
Unpack a ware to PATH, which must be absent or an empty directory. The ware is verified:
PATH is there when all of it is right, and not at all otherwise. Prints the WareID of what is
there, which is another than the ware's own where filters changed something. By default
files become yours, and set-id files and devices are refused."""

EXAMPLES = """\
  repeatr unpack tree:HASH ./out --source=ca+file:///srv/wares
  repeatr unpack tar:HASH ./out --source=https://example.org/project.tgz
  repeatr unpack tar:HASH --placer=none --source=ca+https://example.org/wares
  repeatr unpack tar:HASH ./out --filters=uid=follow,gid=follow,setid=follow,dev=follow"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `unpack` takes."""
    parser.add_argument("ware", metavar="WAREID", help="the ware; it may also come second")
    parser.add_argument(
        "path", metavar="PATH", nargs="?", default="", help="where to (not for --placer=none)"
    )
    parser.add_argument(
        "--source",
        metavar="URL",
        action="append",
        default=[],
        help="a warehouse that has it; may be given again, they are tried in that order "
        "(without: the store, and its own warehouse)",
    )
    parser.add_argument(
        "--placer",
        metavar="PLACER",
        default="direct",
        help="direct: straight to PATH (the default); copy: into the store, and from there to "
        "PATH; mount: into the store, and a writable overlay of it on PATH (needs root); "
        "none: into the store alone",
    )
    parser.add_argument(
        "--filters",
        metavar="FILTERS",
        default="",
        help="which metadata to follow; by default uid=mine, gid=mine, mtime=follow, "
        "sticky=follow, setid=reject, dev=reject, xattr=follow",
    )


def execute(args: Namespace, printer: Printer) -> int:
    """Run `unpack`."""
    from repeatr import api

    ware, path = told_apart(args.ware, args.path)
    after = api.unpack(
        ware,
        path,
        sources=args.source,
        filters=args.filters,
        placer=args.placer,
        emit=printer.emit,
    )
    printer.result(after)
    return 0


def told_apart(first: str, second: str) -> tuple[str, str]:
    """Which of two arguments is the WareID, and which the path: older scripts turn them round.

    One with a known packtype in front is the WareID, the first if both have one.
    """
    from repeatr.wares.packtypes import known_packtypes

    known = known_packtypes()
    if first.partition(":")[0] not in known and second.partition(":")[0] in known:
        return second, first
    return first, second
