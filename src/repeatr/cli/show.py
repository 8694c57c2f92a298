"""`repeatr show`: one run record."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = "Show one run record of this machine, as JSON."

EXAMPLES = """\
  repeatr show n84s48fd-0w1gta7e-of69fqvd
  repeatr show n84s48fd"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `show` takes."""
    parser.add_argument(
        "guid", metavar="GUID", help="the run's guid, or a beginning that only it has"
    )


def execute(args: Namespace, printer: Printer) -> int:
    """Run `show`."""
    from repeatr.model.wire import pretty_json
    from repeatr.store.home import home_path
    from repeatr.store.records import Records

    with Records(home_path()) as records:
        record = records.get(args.guid).to_json()
    printer.document(record, pretty_json(record) + "\n")
    return 0
