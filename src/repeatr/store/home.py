"""Where the store is: one directory, `REPEATR_HOME`, and what is where in it.

docs/store.md describes the layout for people.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from repeatr.errors import Category, RepeatrError

#: The environment variable that says where the store is.
VARIABLE = "REPEATR_HOME"

FILESETS, LOCKS, STAGING, RUNS, MEMOS = "filesets", "locks", "staging", "runs", "memos"
RECORDS = "records.sqlite"


def home_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The store's directory, absolute; it need not exist.

    `REPEATR_HOME`, or where the platform keeps a user's data: on Linux
    `$XDG_DATA_HOME/repeatr`, by default `~/.local/share/repeatr`.
    Raises STORE where neither can be told.
    """
    given = environment.get(VARIABLE, "")
    if given:
        return Path(os.path.abspath(given))
    path = _linux_path(environment) if sys.platform == "linux" else _platform_path()
    if not os.path.isabs(path):
        raise RepeatrError(
            Category.STORE,
            "there is no place for the store: this user has no home directory",
            remedy=f"set {VARIABLE} to a directory that you may write to",
        )
    return Path(path)


def _linux_path(environment: Mapping[str, str]) -> str:
    # The XDG base directory specification, 0.8; a relative XDG_DATA_HOME is to be ignored.
    # What platformdirs answers too, which takes longer to import than all of the store.
    data = environment.get("XDG_DATA_HOME", "").strip()
    if not os.path.isabs(data):
        home = environment.get("HOME", "")
        data = os.path.join(home or os.path.expanduser("~"), ".local/share")
    return os.path.join(data, "repeatr")


def _platform_path() -> str:
    from platformdirs import user_data_path

    return str(user_data_path("repeatr").expanduser())


def open_for_writing(home: Path) -> None:
    """Make the store's directory and those in it, where they are missing.

    They are the user's own (0700): what is unpacked there may have set-id bits.
    Raises STORE where this cannot be, or where it may not be written to.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (FILESETS, LOCKS, STAGING, RUNS, MEMOS):
            (home / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise store_problem(home, "cannot be made", error) from error
    if not os.access(home / STAGING, os.W_OK | os.X_OK):
        read_only = os.statvfs(home / STAGING).f_flag & os.ST_RDONLY
        cause = errno.EROFS if read_only else errno.EACCES
        raise store_problem(home, "cannot be written to", OSError(cause, os.strerror(cause)))


def store_problem(path: Path, what: str, error: OSError) -> RepeatrError:
    """A STORE error about a path in the store that names the cause and the way out."""
    return RepeatrError(
        Category.STORE,
        f"the store at {path} {what}: {error.strerror or type(error).__name__}",
        remedy=f"make room or permission there, or set {VARIABLE} to another directory",
    )
