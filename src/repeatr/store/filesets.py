"""Unpacked filesets: each unpacked once, kept beside its manifest, used by many runs.

A fileset is found by what was unpacked (the ware), how (the filters) and for whom (the id
map: it decides who owns the files on disk). It appears by one rename, whole, and is never
written to again; so finding one needs no lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Emit, Level, Log, ignore
from repeatr.model.filters import FOLLOW_ALL, Filters
from repeatr.model.wareid import WareID
from repeatr.store.home import FILESETS, LOCKS, RUNS, STAGING, VARIABLE, open_for_writing
from repeatr.store.locks import Lock, sweep_locks
from repeatr.store.scratch import Scratch, make_private, sweep
from repeatr.store.settling import is_whole, mark_unsettled

if TYPE_CHECKING:
    from repeatr.fileset.manifest import Manifest

_MANIFEST, _ROOT = "manifest", "root"


class StoredFileset:
    """An unpacked fileset in the store. Not to be changed on disk.

    `root` is the directory (or, for the ware of one file, the file) that the fileset was
    projected onto, as faithfully as the id map allows; `manifest` is what it truly is.
    `key` is its place in the store, relative and unique: what is derived from this fileset
    may be kept under the same name.
    """

    __slots__ = ("_manifest", "_path", "key", "ware")

    def __init__(
        self, path: Path, key: str, ware: WareID, manifest: Manifest | None = None
    ) -> None:
        self._path = path
        self.key = key
        self.ware = ware
        self._manifest = manifest

    @property
    def root(self) -> Path:
        """Where it is on disk."""
        return self._path / _ROOT

    @property
    def manifest(self) -> Manifest:
        """Its entries, loaded on first use. Raises STORE where the file is damaged."""
        if self._manifest is None:
            from repeatr.fileset.manifest_file import read_manifest

            path = self._path / _MANIFEST
            try:
                with open(path, "rb") as file:
                    self._manifest = read_manifest(file)
            except OSError as error:
                raise RepeatrError(
                    Category.STORE,
                    f"the manifest {path} cannot be read: {error.strerror}",
                    remedy=f"remove {self._path}; the ware is then unpacked anew",
                ) from error
        return self._manifest

    def __repr__(self) -> str:
        return f"<StoredFileset {self.ware} at {self._path}>"


class Store:
    """The store at `home`, as seen by one user with one id map.

    `idmap_key` names that id map (`root`, `single`, `range-...`). Nothing is made or swept
    before something has to be written, so that a store that may only be read can be used.
    """

    def __init__(self, home: Path, idmap_key: str, emit: Emit = ignore) -> None:
        self.home = home
        self._idmap_key = _safe(idmap_key)
        self._emit = emit
        self._opened = False

    def ensure(
        self,
        ware: WareID,
        sources: Sequence[str] = (),
        filters: Filters = FOLLOW_ALL,
        emit: Emit | None = None,
    ) -> StoredFileset:
        """The unpacked fileset of a ware, through filters; fetched and unpacked if need be.

        `sources` are the URLs of warehouses, in the order to try. Where another process is
        at it already, waits for that one. Raises LOCAL_CACHE where the store's disk is
        full or read-only, STORE where it cannot be used at all, and what fetching and
        unpacking raise; then nothing of the ware is left in the store.
        """
        tell = emit or self._emit
        key = self._key(ware, filters)
        found = self._find(key, ware)
        if found is not None:
            return found
        _check_packtype(ware)
        self.open_for_writing(tell)
        lock = Lock(
            self.home / LOCKS / key.replace("/", "_"),
            waiting=f"waiting for another process to unpack {ware}",
            emit=tell,
        )
        try:
            with lock:
                return self._find(key, ware) or self._unpack(key, ware, sources, filters, tell)
        except OSError as error:
            raise self._disk_problem(ware, error.strerror or str(error)) from error
        except RepeatrError as error:
            # Placing in the store fails for reasons of the store's disk only: what this
            # user may not make is left out there.
            if error.category in (Category.INOPERABLE_PATH, Category.STORE):
                raise self._disk_problem(ware, error.message) from error
            raise

    def find(self, ware: WareID, filters: Filters = FOLLOW_ALL) -> StoredFileset | None:
        """The unpacked fileset, if it is here already."""
        return self._find(self._key(ware, filters), ware)

    def run_directory(self, name: str, emit: Emit | None = None) -> Scratch:
        """A directory for one run, gone when it is left, or swept when its owner dies.

        `name` begins its name. Raises STORE on entering where it cannot be made.
        """
        tell = emit or self._emit
        self.open_for_writing(tell)
        return Scratch(self.home / RUNS, _safe(name), tell)

    def open_for_writing(self, emit: Emit | None = None) -> None:
        """Make what is missing of the store, and sweep away what the dead left behind. Once.

        Raises STORE where it cannot be made or written to.
        """
        if self._opened:
            return
        tell = emit or self._emit
        open_for_writing(self.home)
        for name in (STAGING, RUNS):
            sweep(self.home / name, tell)
        sweep_locks(self.home / LOCKS)
        self._opened = True

    def _key(self, ware: WareID, filters: Filters) -> str:
        digest, kind = _safe(ware.hash), _safe(ware.packtype)
        name = f"{kind}-{digest}"
        given = filters.completed(FOLLOW_ALL)
        if given != FOLLOW_ALL:
            name += "-" + _filters_key(given)
        return f"{self._idmap_key}/{_fan(digest[:2])}/{_fan(digest[2:4])}/{name}"

    def _find(self, key: str, ware: WareID) -> StoredFileset | None:
        path = self.home / FILESETS / key
        try:
            os.utime(path)  # when it was last used, for collecting garbage
        except OSError as error:
            # There, but not ours to touch: it can still be read.
            unwritable = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
            if not (unwritable and os.access(path / _MANIFEST, os.R_OK)):
                return None
        return StoredFileset(path, key, ware) if is_whole(path) else None

    def _unpack(
        self, key: str, ware: WareID, sources: Sequence[str], filters: Filters, emit: Emit
    ) -> StoredFileset:
        from repeatr.warehouses.fetch import fetch

        def consume(stream: BinaryIO) -> Manifest:
            # Anew for each source: what a broken stream left must not be there.
            with Scratch(self.home / STAGING, _safe(ware.packtype), emit) as scratch:
                whole = scratch.path / "fileset"
                make_private(whole)
                manifest = _project(ware, stream, whole, filters, emit)
                target = self.home / FILESETS / key
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # What is there was found wanting; it goes with the scratch directory.
                with contextlib.suppress(FileNotFoundError):
                    os.rename(target, scratch.path / "damaged")
                    emit(Log(Level.WARN, f"{ware} in the store was damaged; it is unpacked anew"))
                os.rename(whole, target)
                return manifest

        manifest = fetch(ware, sources, consume, emit)
        return StoredFileset(self.home / FILESETS / key, key, ware, manifest)

    def _disk_problem(self, ware: WareID, why: str) -> RepeatrError:
        return RepeatrError(
            Category.LOCAL_CACHE,
            f"cannot unpack {ware} into the store at {self.home}: {why}",
            remedy=f"make room or permission there, or set {VARIABLE} to another directory",
        )


def _project(
    ware: WareID, stream: BinaryIO, directory: Path, filters: Filters, emit: Emit
) -> Manifest:
    """Unpack into `directory`: the fileset at `root`, its entries in the file `manifest`."""
    from repeatr.fileset.manifest_file import write_manifest
    from repeatr.fileset.place import Placer
    from repeatr.wares.unpacking import unpack

    with Placer(directory / _ROOT, faithful=False) as placer:
        manifest = unpack(ware, stream, placer, filters, emit=emit).placed
    with open(directory / _MANIFEST, "xb") as file:
        write_manifest(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    mark_unsettled(directory)
    return manifest


def _check_packtype(ware: WareID) -> None:
    """Refuse what nobody can unpack before anything is fetched. Raises USAGE."""
    from repeatr.wares.packtypes import packtype

    packtype(ware.packtype)


def _filters_key(filters: Filters) -> str:
    """A name for filters; "mine" is who that is now."""
    from hashlib import sha256

    text = str(filters)
    text = text.replace("uid=mine", f"uid={os.getuid()}").replace("gid=mine", f"gid={os.getgid()}")
    return sha256(text.encode()).hexdigest()[:16]


def _safe(text: str) -> str:
    """The text as (a part of) one file name; itself where it can be."""
    plain = text.replace("-", "").replace(".", "").isalnum() and text.isascii()
    if plain and text[0].isalnum() and len(text) <= 160:
        return text
    from hashlib import sha256

    return "x" + sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _fan(part: str) -> str:
    return part if part.isalnum() else "x"
