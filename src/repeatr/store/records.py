"""The run records of this machine, in an SQLite database."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.model.record import RunRecord
from repeatr.store.home import RECORDS, VARIABLE

if TYPE_CHECKING:
    import sqlite3

#: How long to wait for another process that writes, in seconds.
_BUSY = 30.0

#: What made each version of the schema from the one before; entries are only ever added.
#: `record` is the whole record as JSON, the other columns are there to be searched.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            guid TEXT PRIMARY KEY,
            time INTEGER NOT NULL,
            formula_id TEXT NOT NULL,
            exit_code INTEGER NOT NULL,
            record TEXT NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX runs_by_time ON runs (time, guid)",
        "CREATE INDEX runs_by_formula ON runs (formula_id, time, guid)",
    ),
)

# Inside the class, `list` is the method.
_RunRecords = list[RunRecord]


class Records:
    """The run records in a store. A context manager that owns the database connection.

    Reading from a store that has none, or that may only be read, works; all methods raise
    STORE where the database cannot be used.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / RECORDS
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def save(self, record: RunRecord) -> None:
        """Keep a record. Saving one again (by guid) replaces it."""
        import sqlite3

        text = json.dumps(record.to_json(), ensure_ascii=False, separators=(",", ":"))
        row = (record.guid, record.time, record.formula_id, record.exit_code, text)
        try:
            statement = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)"
            self._writable().execute(statement, row)
        except (sqlite3.Error, OSError) as error:
            self._fail("cannot be written", error)

    def list(self, limit: int, formula_id: str | None = None) -> _RunRecords:
        """The newest records first, at most `limit`; of one formula where that is given."""
        where, values = ("WHERE formula_id = ?", (formula_id,)) if formula_id else ("", ())
        return self._select(f"{where} ORDER BY time DESC, guid DESC LIMIT ?", (*values, limit))

    def get(self, guid: str) -> RunRecord:
        """The record with this guid, or with the only guid that begins with it.

        Raises USAGE where there is none or are several.
        """
        # Not LIKE: % and _ are no wildcards here. The end is past all that guids are made of.
        found = self._select(
            "WHERE guid >= ? AND guid < ? ORDER BY guid LIMIT 4", (guid, guid + "\x7f")
        )
        exact = [record for record in found if record.guid == guid]
        if len(found) == 1 or exact:
            return (exact or found)[0]
        if not found:
            raise RepeatrError(
                Category.USAGE,
                f"no run record {guid!r} in {self._path}",
                remedy="the guid is in the run record that `repeatr run` prints",
            )
        several = ", ".join(record.guid for record in found)
        raise RepeatrError(
            Category.USAGE,
            f"several run records begin with {guid!r}: {several}",
            remedy="write more of the guid",
        )

    def _select(self, rest: str, values: tuple[object, ...]) -> _RunRecords:
        import sqlite3

        try:
            database = self._readable()
            if database is None:
                return []
            rows = database.execute(f"SELECT record FROM runs {rest}", values).fetchall()
            return [RunRecord.from_json(json.loads(text)) for (text,) in rows]
        except (sqlite3.Error, OSError, ValueError) as error:
            self._fail("cannot be read", error)

    def _writable(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3

            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
            try:
                # Readers and one writer at once. On filesystems that cannot, it stays as it was.
                database.execute("PRAGMA journal_mode = WAL")
                # A power cut may take the last records, never the database.
                database.execute("PRAGMA synchronous = NORMAL")
                _migrate(database, self._path)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _readable(self) -> sqlite3.Connection | None:
        if not self._path.exists():
            return None
        import sqlite3
        from urllib.parse import quote

        try:
            return self._writable()
        except sqlite3.OperationalError:
            # A store that may only be read: then nobody writes to it either.
            uri = f"file:{quote(str(self._path))}?immutable=1"
            self._database = sqlite3.connect(uri, uri=True)
            return self._database

    def _fail(self, what: str, error: Exception) -> NoReturn:
        raise RepeatrError(
            Category.STORE,
            f"the run records in {self._path} {what}: {error}",
            remedy=f"check its permissions, move a broken file away, or set {VARIABLE} "
            "to another directory",
        ) from error


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to the newest version, once, whoever comes first."""
    if _version(database) == len(_MIGRATIONS):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute("CREATE TABLE IF NOT EXISTS schema (version INTEGER NOT NULL)")
        version = _version(database)
        if version > len(_MIGRATIONS):
            raise RepeatrError(
                Category.STORE,
                f"{path} was written by a newer repeatr (schema {version}, "
                f"this one knows {len(_MIGRATIONS)})",
                remedy="use that version, or set REPEATR_HOME to another directory",
            )
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                database.execute(statement)
        database.execute("DELETE FROM schema")
        database.execute("INSERT INTO schema VALUES (?)", (len(_MIGRATIONS),))
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema'").fetchone()
    if not known:
        return 0
    row = database.execute("SELECT version FROM schema").fetchone()
    return int(row[0]) if row else 0
