"""The filesets of tests/vectors: as manifests, as bytes, and built on disk."""

from __future__ import annotations

import json
import os
from hashlib import sha384
from pathlib import Path
from typing import Any

from repeatr.fileset.entry import Entry
from repeatr.fileset.manifest import Manifest

VECTORS = Path(__file__).parent / "vectors"

Case = dict[str, Any]

_KINDS = {
    "file": "f",
    "dir": "d",
    "symlink": "L",
    "fifo": "p",
    "blockdev": "D",
    "chardev": "c",
}
_DEVICES = {"blockdev": 0o060000, "chardev": 0o020000}


def load(name: str) -> Any:
    """One of the vector files, parsed."""
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def cases() -> list[Case]:
    """Every fileset of filesets.json."""
    found: list[Case] = load("filesets.json")["cases"]
    return found


def content_of(entry: dict[str, Any]) -> bytes:
    """The bytes of a vector's file entry."""
    content = entry["content"]
    match content["kind"]:
        case "text":
            return str(content["text"]).encode("utf-8", "surrogateescape")
        case "pattern":
            return bytes((i * 7 + 3) % 251 for i in range(content["size"]))
        case "zeros":
            return bytes(content["size"])
        case "hex":
            return bytes.fromhex(content["hex"])
    raise AssertionError(f"unknown content {content!r}")


def manifest_of(case: Case) -> Manifest:
    """The manifest of a vector's fileset, with digests, without touching a disk.

    xattrs are left out: no vector's id has them (packing does not read them by default).
    """
    return Manifest(entry for entry, _ in entries_of(case))


def contents_of(case: Case) -> dict[bytes, bytes]:
    """The content of every file of a vector's fileset, by path (the root is b"")."""
    return {e.path: content for e, content in entries_of(case) if content is not None}


def entries_of(case: Case) -> list[tuple[Entry, bytes | None]]:
    """Entries in the vector's order, files with their content."""
    by_path = {entry["path"]: entry for entry in case["entries"]}
    result = []
    for given in case["entries"]:
        source = by_path[given["linkname"]] if given["type"] == "hardlink" else given
        content = content_of(source) if source["type"] == "file" else None
        entry = Entry(
            path=_path(given["path"]),
            kind=_KINDS[source["type"]],
            mode=int(source["mode"], 8),
            uid=source["uid"],
            gid=source["gid"],
            mtime=source["mtime"],
            mtime_ns=source.get("mtime_nsec", 0),
            size=0 if content is None else len(content),
            link=os.fsencode(source["linkname"]) if source["type"] == "symlink" else b"",
            major=source.get("devmajor", 0),
            minor=source.get("devminor", 0),
            digest=None if content is None else sha384(content).digest(),
        )
        result.append((entry, content))
    return result


def build(case: Case, target: Path) -> None:
    """Make the fileset at `target`, which must not exist yet. As root all of it is made;
    others can only make what is theirs (see `buildable`)."""
    root = os.fsencode(target)
    for given in case["entries"]:
        path = _join(root, _path(given["path"]))
        match given["type"]:
            case "dir":
                os.mkdir(path, 0o700)
            case "file":
                with open(path, "xb") as file:
                    if given.get("sparse"):
                        file.truncate(given["content"]["size"])
                    else:
                        file.write(content_of(given))
            case "symlink":
                os.symlink(os.fsencode(given["linkname"]), path)
            case "fifo":
                os.mkfifo(path, 0o600)
            case "hardlink":
                os.link(_join(root, _path(given["linkname"])), path)
            case kind:
                device = os.makedev(given["devmajor"], given["devminor"])
                os.mknod(path, 0o600 | _DEVICES[kind], device)
    for given in reversed(case["entries"]):
        if given["type"] == "hardlink":
            continue
        path = _join(root, _path(given["path"]))
        if os.geteuid() == 0:
            os.lchown(path, given["uid"], given["gid"])
        if given["type"] != "symlink":
            os.chmod(path, int(given["mode"], 8))
        for key, value in given.get("xattrs", {}).items():
            os.setxattr(path, key, value.encode())
        nanoseconds = given["mtime"] * 10**9 + given.get("mtime_nsec", 0)
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)


def buildable(case: Case) -> bool:
    """Whether this user can make the fileset: root any, others what is owned by them."""
    if os.geteuid() == 0:
        return True
    return all(
        given["type"] not in _DEVICES
        and (given["type"] == "hardlink" or given["uid"] == os.geteuid())
        and not any(key.startswith("trusted.") for key in given.get("xattrs", {}))
        for given in case["entries"]
    )


def _path(text: str) -> bytes:
    return b"" if text == "." else text.encode("utf-8", "surrogateescape")


def _join(root: bytes, path: bytes) -> bytes:
    return root + b"/" + path if path else root
