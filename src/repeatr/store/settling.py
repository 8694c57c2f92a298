"""Whether what was unpacked before a power cut is all there.

A rename survives a power cut before the contents of the files do that it moved, and making
sure of the contents first (fsync of each) would take longer than unpacking does. So a new
fileset carries a marker with the id of this boot of the machine. Found again after another
boot, its files are measured once against the manifest: a file whose content was lost is
shorter than it was. Some time after unpacking the disk has everything, and the marker goes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from repeatr.errors import RepeatrError
from repeatr.fileset.entry import FILE

_MARKER = "unsettled"

#: Seconds after which the system has long written back what it held (30 on most, 600 on
#: machines set to save power).
_SETTLED = 900

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def mark_unsettled(directory: Path, boot: str | None = None) -> None:
    """Mark a fileset's directory, before it is renamed into place. Raises OSError."""
    (directory / _MARKER).write_text(_boot_id() if boot is None else boot)


def is_whole(directory: Path) -> bool:
    """Whether a fileset is as it was unpacked, as far as a power cut may have changed it."""
    marker = directory / _MARKER
    try:
        with open(marker, "rb") as file:
            since = file.read(100).decode("ascii", "replace")
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return True  # settled: what there is nearly always
    if since != _boot_id():
        if not _measure(directory):
            return False
    elif 0 <= age < _SETTLED:
        return True
    with contextlib.suppress(OSError):
        os.unlink(marker)
    return True


def _measure(directory: Path) -> bool:
    from repeatr.fileset.manifest_file import read_manifest

    try:
        with open(directory / "manifest", "rb") as file:
            manifest = read_manifest(file)
    except (OSError, RepeatrError):
        return False
    root = os.fsencode(directory / "root")
    for entry in manifest:
        if entry.kind != FILE:
            continue
        path = root + b"/" + entry.path if entry.path else root
        try:
            if os.lstat(path).st_size != entry.size:
                return False
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
                continue  # out of our sight, so nothing can be said
            return False
    return True


def _boot_id() -> str:
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return "unknown"  # not Linux: then every fileset is taken as it is
