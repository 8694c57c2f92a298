"""`repeatr runs`: what ran on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from repeatr.cli.arguments import positive

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer
    from repeatr.model.record import RunRecord

SUMMARY = "List the runs of this machine, the newest first."

EXAMPLES = """\
  repeatr runs --limit=5
  repeatr runs --formula=FORMULAID --format=json"""

_COLUMNS = ("GUID", "TIME", "EXIT", "OUTPUTS", "FORMULA")


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `runs` takes."""
    parser.add_argument(
        "--limit", metavar="N", type=positive, default=20, help="at most so many (20)"
    )
    parser.add_argument("--formula", metavar="FORMULAID", help="only the runs of this formula")


def execute(args: Namespace, printer: Printer) -> int:
    """Run `runs`."""
    from repeatr.store.home import home_path
    from repeatr.store.records import Records

    with Records(home_path()) as records:
        found = records.list(args.limit, args.formula)
    printer.document([record.to_json() for record in found], _table(found) if found else "")
    return 0


def _table(records: list[RunRecord]) -> str:
    rows = [
        _COLUMNS,
        *(
            (
                record.guid,
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time)),
                str(record.exit_code),
                str(len(record.results)),
                record.formula_id,
            )
            for record in records
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)
