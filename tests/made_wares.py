"""Small wares made with the standard library, for tests of what is done with wares."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from repeatr.model.filters import FOLLOW_ALL
from repeatr.model.wareid import WareID
from repeatr.wares.unpacking import scan

FILES = {"etc/motd": b"hello\n", "bin/big": bytes(range(256)) * 4096, "empty": b""}


def tar_bytes(files: Mapping[str, bytes] = FILES, uid: int = 0) -> bytes:
    """A tar of these files in directories of mode 0755, all owned by `uid`:`uid`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        directories = {""} | {
            str(parent) for name in files for parent in Path(name).parents if str(parent) != "."
        }
        for name in sorted(directories):
            info = tarfile.TarInfo("./" + name)
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o755, uid, uid
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo("./" + name)
            info.size, info.mode, info.uid, info.gid = len(data), 0o644, uid, uid
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def id_of(data: bytes) -> WareID:
    """The WareID of a tar."""
    return scan("tar", io.BytesIO(data), filters=FOLLOW_ALL).ware


def saved(directory: Path, data: bytes | None = None) -> tuple[WareID, str]:
    """A ware in a file in `directory`: its id and its warehouse's URL."""
    data = tar_bytes() if data is None else data
    ware = id_of(data)
    path = directory / f"{ware.hash[:12]}.tar"
    path.write_bytes(data)
    return ware, f"file://{path}"
