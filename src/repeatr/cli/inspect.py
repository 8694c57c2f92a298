"""`repeatr inspect`: what a formula is and needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from repeatr.cli.printing import Printer

SUMMARY = """\
Tell what a formula is and needs, as JSON, without running it: its canonical form and bytes,
its hash as written (setupHash), its id with defaults filled in (formulaID, as in run
records), and the wares, mounts and engine traits it asks for. A formula that has a hash and
yet can't run fails, after that, with the error that a run gives."""

EXAMPLES = """\
  repeatr inspect hello.formula
  repeatr inspect - < hello.formula"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `inspect` takes."""
    parser.add_argument("formula", metavar="FORMULA", help="the formula file; - is standard input")


def execute(args: Namespace, printer: Printer) -> int:
    """Run `inspect`."""
    from repeatr.cli.documents import read_document
    from repeatr.errors import RepeatrError
    from repeatr.model.inspection import inspect_document
    from repeatr.model.runnable import check_runnable
    from repeatr.model.wire import pretty_json

    document = read_document(args.formula, printer.emit)
    inspection = inspect_document(document)
    error = None
    try:
        check_runnable(document.formula)
    except RepeatrError as problem:
        error = problem
    printer.document(inspection, pretty_json(inspection) + "\n", error)
    return error.exit_code if error is not None else 0
