"""The ways in which `unpack` puts a ware at a path.

`direct` goes straight from the warehouse to the path. `copy` goes through the store, so
that the next time no warehouse is needed. `mount` puts a writable overlay of the store's
fileset there. `none` leaves it in the store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from repeatr.assembly.landing import Landing
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log
from repeatr.model.filters import Filters
from repeatr.model.wareid import WareID

if TYPE_CHECKING:
    from repeatr.fileset.manifest import Manifest
    from repeatr.store.filesets import Store, StoredFileset

#: Puts a ware, from sources (URLs), through filters, at a path; gives its id after filters.
Place = Callable[[WareID, Sequence[str], Filters, str, Emit], WareID]

#: Where in the store the layers of overlays are that `mount` made.
_MOUNTS = "mounts"


def placer_called(name: str) -> Place:
    """The placer of that name. Raises RepeatrError USAGE where there is none."""
    found = PLACERS.get(name)
    if found is None:
        raise RepeatrError(
            Category.USAGE,
            f"unknown placer {name!r}",
            remedy=f"known placers are {', '.join(PLACERS)}",
        )
    return found


def _direct(
    ware: WareID, sources: Sequence[str], filters: Filters, path: str, emit: Emit
) -> WareID:
    from repeatr.fileset.place import Placer
    from repeatr.warehouses.fetch import fetch
    from repeatr.wares.unpacking import unpack

    def consume(stream: BinaryIO) -> WareID:
        with Landing(path) as landing:
            with Placer(landing.staging, faithful=True) as placer:
                unpacked = unpack(ware, stream, placer, filters, emit=emit)
            landing.commit()
        return unpacked.ware

    with Landing(path):
        pass  # what is wrong with the path is better said before anything is fetched
    if not sources:
        # Only the store may have it; and if not, it says so best.
        return _copy(ware, sources, filters, path, emit)
    return fetch(ware, sources, consume, emit)


def _copy(ware: WareID, sources: Sequence[str], filters: Filters, path: str, emit: Emit) -> WareID:
    from repeatr.fileset.outlet import FilesOnDisk, read_out
    from repeatr.fileset.place import Placer

    with Landing(path) as landing:
        stored, kept = _kept(ware, sources, filters, emit)
        with Placer(landing.staging, faithful=True) as placer, FilesOnDisk(stored.root) as files:
            for entry, content in read_out(kept, files):
                placer.place(entry, content)
        landing.commit()
    return _id_of(ware, kept)


def _none(ware: WareID, sources: Sequence[str], filters: Filters, path: str, emit: Emit) -> WareID:
    _, kept = _kept(ware, sources, filters, emit)
    return _id_of(ware, kept)


def _kept(
    ware: WareID, sources: Sequence[str], filters: Filters, emit: Emit
) -> tuple[StoredFileset, Manifest]:
    """A fileset in the store, and what of it the filters keep.

    It is in the store as it is, not filtered: as runs want it, and for any other filters.
    """
    from repeatr.fileset.filtering import apply_filters
    from repeatr.fileset.manifest import Manifest

    stored = _store(emit).ensure(ware, sources)
    return stored, Manifest(apply_filters(stored.manifest, filters, packing=False))


def _mount(ware: WareID, sources: Sequence[str], filters: Filters, path: str, emit: Emit) -> WareID:
    if os.geteuid() != 0:
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"cannot mount on {path!r}: the placer mount needs root, and you are uid "
            f"{os.geteuid()}",
            remedy="run as root, or use --placer=copy",
        )
    if not os.path.isdir(path):
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"cannot mount on {path!r}: it is not a directory that exists",
            remedy=f"mkdir -p {path}",
        )
    store = _store(emit)
    stored = store.ensure(ware, sources, filters)
    if not stored.root.is_dir():
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"cannot mount {ware}: it is a single file, not a directory",
            remedy="use --placer=copy",
        )
    layers = (
        store.home / _MOUNTS / f"{os.path.basename(os.path.realpath(path))}-{os.urandom(4).hex()}"
    )
    _mount_overlay(str(stored.root), str(layers), path)
    emit(
        Log(
            Level.INFO,
            f"mounted; changes are kept in {layers}. To undo: umount {path} && rm -r {layers}",
        )
    )
    return _id_of(ware, stored.manifest)


def _mount_overlay(lower: str, layers: str, path: str) -> None:
    from repeatr.linux.calls import mount

    upper, work = os.path.join(layers, "upper"), os.path.join(layers, "work")
    options = ",".join(
        f"{key}={_escaped(value)}"
        for key, value in (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
    )
    try:
        os.makedirs(work, mode=0o700)
        os.mkdir(upper)
        # The root of an overlay is its uppermost layer's, metadata and all.
        status = os.stat(lower)
        os.chown(upper, status.st_uid, status.st_gid)
        os.chmod(upper, status.st_mode & 0o7777)
        os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
        mount("overlay", path, "overlay", data=options)
    except OSError as error:
        for name in (upper, os.path.join(work, "work"), work, layers):
            if os.path.isdir(name):
                os.rmdir(name)
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"cannot mount on {path!r}: {error.strerror}",
            remedy="use --placer=copy, or a store (REPEATR_HOME) on a disk that overlays can "
            "be made of",
        ) from error


def _escaped(path: str) -> str:
    """A path in the options of an overlay mount: they are parted by commas and colons."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


#: Every placer by name; the first is the default.
PLACERS: dict[str, Place] = {"direct": _direct, "copy": _copy, "mount": _mount, "none": _none}


def _store(emit: Emit) -> Store:
    from repeatr.store.filesets import Store
    from repeatr.store.home import home_path

    uid = os.geteuid()
    return Store(home_path(), "root" if uid == 0 else f"caller-{uid}", emit)


def _id_of(ware: WareID, kept: Manifest) -> WareID:
    """The id of what the filters left of a ware."""
    from repeatr.fileset.treehash import tree_hash
    from repeatr.wares.packtypes import packtype

    return WareID(ware.packtype, tree_hash(kept, packtype(ware.packtype).sound))
