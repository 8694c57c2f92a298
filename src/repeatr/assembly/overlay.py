"""Overlays: a fileset of the store below, a writable directory of the run above."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure

#: Names in a layer's own directory. They show in the container's mount table, so they say
#: nothing about this machine.
_LOWER, _UPPER, _WORK = "0", "up", "wk"


class Unsupported(Exception):
    """This place can hold no upper layer: its filesystem lacks what overlayfs needs."""


def xattr_prefix(enclosure: Enclosure) -> str:
    """Where overlayfs keeps its notes: a user namespace may not write `trusted.*`."""
    return "user.overlay." if enclosure.own_user_namespace else "trusted.overlay."


def prepare(place: Path, lower: Path, enclosure: Enclosure) -> Path:
    """Make the upper and work directories in the new directory `place`; returns the upper.

    Raises Unsupported where the filesystem of `place` cannot hold them.
    """
    place.mkdir(mode=0o700)
    for name in (_UPPER, _WORK):
        (place / name).mkdir(mode=0o700)
    (place / _LOWER).symlink_to(lower)
    upper = place / _UPPER
    probe = xattr_prefix(enclosure) + "repeatr"
    try:
        # Without these attributes mounting succeeds, and removing a directory fails later.
        os.setxattr(upper, probe, b"y")
        os.removexattr(upper, probe)
    except OSError as problem:
        raise Unsupported(str(problem)) from None
    return upper


def mount(place: Path, target: Path, enclosure: Enclosure) -> None:
    """Mount the overlay of `place` on `target`. Raises Unsupported where the kernel refuses."""
    common = f"lowerdir={_LOWER},upperdir={_UPPER},workdir={_WORK},redirect_dir=off,metacopy=off"
    if enclosure.own_user_namespace:
        common = f"lowerdir={_LOWER},upperdir={_UPPER},workdir={_WORK},userxattr"
    # Volatile: nothing here outlives the run, so nothing need reach the disk. Older
    # kernels (before 5.10) know no such option.
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    target = target.absolute()
    try:
        # Relative names: the container sees the options in its mount table.
        os.chdir(place)
        try:
            calls.mount("overlay", target, "overlay", data=common + ",volatile")
        except OSError:
            try:
                calls.mount("overlay", target, "overlay", data=common)
            except OSError as problem:
                raise Unsupported(str(problem)) from None
    finally:
        os.fchdir(here)
        os.close(here)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry of an upper directory says that the one below is deleted."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
