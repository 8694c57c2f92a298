"""Memos: the run record of a formula, kept under its id, so that it need not run twice.

One JSON file a memo, the file's name is the formula id. That is the layout of the original's
REPEATR_MEMODIR, and the files of the original are read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from repeatr.errors import Category, RepeatrError
from repeatr.model.record import RunRecord
from repeatr.store.home import MEMOS, store_problem

#: The environment variable that names a directory of memos outside of the store.
VARIABLE = "REPEATR_MEMODIR"

#: A run record is a few lines; what is longer is something else.
_LIMIT = 16 * 1024 * 1024


class Memos:
    """The memos of one directory."""

    def __init__(self, directory: Path, *, make: bool = False) -> None:
        self._directory = directory
        self._make = make

    def load(self, formula_id: str) -> RunRecord | None:
        """The record kept for a formula, None where there is none.

        Raises STORE for a memo that cannot be read or is broken.
        """
        path = self._path(formula_id)
        try:
            with open(path, "rb") as file:
                data = file.read(_LIMIT)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_problem(path, "cannot be read", error) from error
        try:
            record = RunRecord.from_json(json.loads(data))
        except (ValueError, RecursionError, RepeatrError) as error:
            raise _broken(path, str(error)) from error
        if record.formula_id != formula_id:
            raise _broken(path, f"it is of the formula {record.formula_id!r}")
        return record

    def save(self, record: RunRecord) -> bool:
        """Keep a record, atomically, if its process succeeded; whether it was kept.

        Raises STORE where the directory cannot be written to.
        """
        if record.exit_code != 0:
            return False
        path = self._path(record.formula_id)
        temporary = path.with_name(f".{os.getpid()}-{os.urandom(5).hex()}.tmp")
        text = json.dumps(record.to_json(), indent=4, ensure_ascii=False) + "\n"
        try:
            if self._make:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise store_problem(path, "cannot be written", error) from error
        return True

    def _path(self, formula_id: str) -> Path:
        if not (formula_id.isascii() and formula_id.isalnum()):
            raise ValueError(f"not a formula id: {formula_id!r}")
        return self._directory / formula_id


def memos_of(home: Path, environment: Mapping[str, str] = os.environ) -> Memos:
    """The memos to use: of REPEATR_MEMODIR if it is set, otherwise the store's own.

    Raises STORE where REPEATR_MEMODIR is set and is no directory: a directory made by
    mistake would hide every memo that there is.
    """
    given = environment.get(VARIABLE, "")
    if not given:
        return Memos(home / MEMOS, make=True)
    directory = Path(os.path.abspath(given))
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise RepeatrError(
            Category.STORE,
            f"{VARIABLE} names {directory}, which {found}",
            remedy=f"make it (mkdir -p {directory}) or unset {VARIABLE}",
        )
    return Memos(directory)


def _broken(path: Path, why: str) -> RepeatrError:
    return RepeatrError(
        Category.STORE,
        f"the memo {path} is broken: {why.splitlines()[0] if why else 'it is not a run record'}",
        remedy=f"remove it (rm {path}); the formula then runs anew",
    )
