"""Pieces of the host in a root: inputs that are mounts, and no filesets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from repeatr.errors import Category, RepeatrError
from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure


def is_directory(source: str, at: bytes, enclosure: Enclosure) -> bool:
    """Whether `source`, a path of the host wanted at `at`, is a directory.

    Raises RepeatrError (ASSEMBLY_INVALID) where it can't be mounted there.
    """
    if not at:
        raise RepeatrError(
            Category.ASSEMBLY_INVALID,
            'a piece of the host can\'t be the root ("/")',
            remedy="mount it at another path, beside a fileset at /",
        )
    if not enclosure.can_mount:
        raise RepeatrError(
            Category.ASSEMBLY_INVALID,
            f"{source}, wanted at /{os.fsdecode(at)}, can't be mounted: {enclosure.note}",
            remedy="run where mounts are allowed, or pack it and use its WareID",
        )
    try:
        return stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as problem:
        raise RepeatrError(
            Category.ASSEMBLY_INVALID,
            f"{source}, wanted at /{os.fsdecode(at)}, can't be mounted: {problem.strerror}",
            remedy="check the path in the formula's input",
        ) from None


def bind(source: str, target: Path, *, writable: bool) -> None:
    """Mount `source` with all that is mounted below it on `target`.

    Privately: what is mounted in either place later does not show in the other. Raises
    RepeatrError (ASSEMBLY_INVALID) where that can't be; then nothing is left mounted.
    """
    mounted = False
    try:
        calls.mount(source, target, flags=calls.MS_BIND | calls.MS_REC)
        mounted = True
        calls.mount(None, target, flags=calls.MS_REC | calls.MS_PRIVATE)
        if not writable:
            calls.make_read_only(target)
    except OSError as problem:
        if mounted:
            calls.unmount(target)
        raise RepeatrError(
            Category.ASSEMBLY_INVALID,
            f"{source} can't be mounted: {os.strerror(problem.errno or 0)}",
            remedy="mount a directory on a directory and a file on a file, that you may read",
        ) from None
