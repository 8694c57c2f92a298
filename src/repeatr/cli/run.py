"""`repeatr run`: run a formula."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from repeatr.cli.printing import Printer

if TYPE_CHECKING:
    from pathlib import Path

    from repeatr.run import Options

SUMMARY = "run a formula: filesets in, filesets out"

EXAMPLES = """\
  repeatr run build.formula
  repeatr run build.formula --memo > record.json
  repeatr run - --engine=chroot --timeout=60 < build.formula
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("formula", metavar="FORMULA", help="a formula file; - is standard input")
    parser.add_argument(
        "--engine",
        "--executor",
        default="",
        metavar="NAME",
        help="the container engine (default: REPEATR_ENGINE, else the best that this host allows)",
    )
    parser.add_argument(
        "--memo",
        action="store_true",
        help="answer with the record of an earlier run of the same formula, where there is one,"
        " and remember this one if it succeeds (REPEATR_MEMODIR does the same)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="stop the process if it runs longer",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave a copy of the root after the run, and say where"
    )


def execute(args: argparse.Namespace, printer: Printer) -> int:
    """Run the formula and tell its record."""
    from repeatr.cli.documents import read_document
    from repeatr.errors import RepeatrError
    from repeatr.linux import enclosure
    from repeatr.linux.interrupts import Interrupts
    from repeatr.run import Place, run
    from repeatr.store.filesets import Store
    from repeatr.store.home import home_path

    with Interrupts() as interrupts:
        # All that depends on who the caller is comes before the enclosure.
        document = read_document(args.formula, printer.emit)
        home = home_path()
        options = _options(args, home)
        here = enclosure.enter()
        store = Store(home, here.idmap.key, printer.emit)
        record = error = None
        try:
            record, error = run(document, Place(here, store, printer.emit, interrupts), options)
        except RepeatrError as problem:
            error = interrupts.cause(problem)
        printer.result(record, error)
    return error.exit_code if error is not None else 0


def _options(args: argparse.Namespace, home: Path) -> Options:
    from repeatr.engines.choosing import VARIABLE
    from repeatr.run import Options
    from repeatr.store import memos

    return Options(
        engine=args.engine or os.environ.get(VARIABLE, ""),
        memos=memos.memos_of(home) if args.memo or os.environ.get(memos.VARIABLE) else None,
        timeout=args.timeout,
        keep=home / "kept" if args.keep else None,
    )


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, found {text!r}")
    return number
