"""Overlays: a fileset of the store below, a writable directory of the run above."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from repeatr.linux import calls

#: Names in a layer's own directory. They show in the container's mount table, so they say
#: nothing about this machine.
_LOWER, _UPPER, _WORK = "0", "up", "wk"

#: Where overlayfs may keep its notes on entries. Only the initial user namespace's root
#: may write the first.
_NOTES = ("trusted.overlay.", "user.overlay.")


class Unsupported(Exception):
    """No overlay can be made here: the kernel, or the filesystem, lacks what it needs."""


def prepare(place: Path, lower: Path) -> tuple[Path, str]:
    """Make the upper and work directories of an overlay in the new directory `place`.

    Returns the upper directory, and what the names of the attributes begin with in which
    overlayfs will keep its notes. Raises Unsupported where the filesystem cannot hold them:
    without them mounting succeeds, and removing a directory fails later.
    """
    place.mkdir(mode=0o700)
    for name in (_UPPER, _WORK):
        (place / name).mkdir(mode=0o700)
    (place / _LOWER).symlink_to(lower)
    upper = place / _UPPER
    why = ""
    for notes in _NOTES:
        try:
            os.setxattr(upper, notes + "repeatr", b"y")
            os.removexattr(upper, notes + "repeatr")
        except OSError as problem:
            why = problem.strerror or str(problem)
            continue
        return upper, notes
    raise Unsupported(f"no extended attributes on the filesystem of {place.parent}: {why}")


def mount(place: Path, target: Path, notes: str) -> None:
    """Mount the overlay of `place` on `target`; `notes` as `prepare` said.

    Raises Unsupported where the kernel refuses.
    """
    options = f"lowerdir={_LOWER},upperdir={_UPPER},workdir={_WORK}"
    # A user namespace may keep its notes in user.* only, and then the other two are
    # neither needed nor allowed.
    options += ",userxattr" if notes.startswith("user.") else ",redirect_dir=off,metacopy=off"
    target = target.absolute()
    here = _here()
    try:
        # Relative names: the container sees the options in its mount table.
        os.chdir(place)
        try:
            # Volatile: nothing here outlives the run, so nothing need reach the disk.
            calls.mount("overlay", target, "overlay", data=options + ",volatile")
        except OSError:
            try:
                # Kernels before 5.10 know no such option.
                calls.mount("overlay", target, "overlay", data=options)
            except OSError as problem:
                raise Unsupported(os.strerror(problem.errno or 0)) from None
    finally:
        if here >= 0:
            os.fchdir(here)
            os.close(here)


def _here() -> int:
    """The current directory; -1 where the caller may not even name it any more."""
    try:
        return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry of an upper directory says that the one below is deleted."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
