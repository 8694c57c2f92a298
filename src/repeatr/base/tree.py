"""Paths of the host as entries of a fileset: what they pass through comes along.

A path goes in with every directory and every symlink on its way, so that it means the same
in the fileset as on the host: /bin/sh comes with /bin -> usr/bin and sh -> dash. Owners,
times and permissions are made the same for all, so that a host's ids do not hang on when
something was installed.
"""

from __future__ import annotations

import errno
import os
import stat

from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, FILE, SYMLINK, Entry

# As the kernel: ELOOP above it.
_MOST_LINKS = 40

# Directories of the root that may be a symlink into /usr, after which programs ask by name.
_WELL_KNOWN = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Tree:
    """Entries of a fileset by their path, collected from this host."""

    def __init__(self) -> None:
        #: For each file the path on the host where its content is.
        self.sources: dict[bytes, str] = {}
        self._entries: dict[str, Entry] = {"": _entry("", DIRECTORY, 0o755)}

    def add(self, path: str) -> str:
        """Add the file or directory at an absolute path; returns its path without symlinks.

        Raises OSError as opening it would.
        """
        at = ""
        ahead = path.split("/")[::-1]
        links = 0
        while ahead:
            name = ahead.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0]
                continue
            here = f"{at}/{name}"
            status = os.lstat(here)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(here)
                self.add_link(here, target)
                if target.startswith("/"):
                    at = ""
                ahead.extend(target.split("/")[::-1])
                continue
            if stat.S_ISDIR(status.st_mode):
                self._add(here, _entry(here, DIRECTORY, 0o755))
            elif not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "neither a file nor a directory", path)
            elif any(ahead):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            else:
                mode = 0o755 if status.st_mode & 0o111 else 0o644
                self._add(here, _entry(here, FILE, mode)._replace(size=status.st_size))
                self.sources[os.fsencode(here[1:])] = here
            at = here
        return at or "/"

    def add_link(self, path: str, target: str) -> None:
        """Add a symlink, unless something is at `path` already."""
        self._add(path, _entry(path, SYMLINK, 0o777)._replace(link=os.fsencode(target)))

    def add_well_known(self) -> None:
        """Add /bin, /lib and their like where the host has them as symlinks into what is here.

        A program that was found as /usr/bin/sh is asked for as /bin/sh.
        """
        for name in _WELL_KNOWN:
            path = f"/{name}"
            if os.path.islink(path) and os.path.realpath(path) in self._entries:
                self.add(path)

    def add_tmp(self) -> None:
        """Add a /tmp that everybody may write to, as on every host."""
        held = self._entries.get("/tmp")
        if held is None or held.kind == DIRECTORY:
            self._entries["/tmp"] = _entry("/tmp", DIRECTORY, 0o1777)

    def entries(self) -> list[Entry]:
        """All entries, sorted by path."""
        return sorted(self._entries.values())

    def _add(self, path: str, entry: Entry) -> None:
        self._entries.setdefault(path, entry)


def _entry(path: str, kind: str, mode: int) -> Entry:
    return Entry(os.fsencode(path.lstrip("/")), kind, mode, 0, 0, DEFAULT_MTIME)
