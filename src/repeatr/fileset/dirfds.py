"""Directories below a root, by file descriptor.

Every way into a fileset on disk goes through here: directories are opened one component
at a time and never through a symlink, so no name and no swapped directory leads outside.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from repeatr.errors import Category, RepeatrError
from repeatr.fileset.names import shown

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Enough for the ancestors and a few cousins of where work goes on; far below the usual
# limit of 1024 descriptors a process.
_KEPT_OPEN = 64


class DirFds:
    """Descriptors of the directories below `root_fd`, the last used ones kept open.

    Owns the descriptors that it opens, not `root_fd`. A descriptor from `get` stays good
    until the next call of `get`. For one thread at a time.
    """

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd
        self._open: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor that was opened here."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def get(self, path: bytes) -> int:
        """The descriptor of the directory at `path` (b"" is the root).

        Raises OSError: ENOENT where it is missing, ENOTDIR or ELOOP where something on
        the way is not a directory (a symlink to one is none).
        """
        if not path:
            return self.root_fd
        known = self._open
        fd = known.pop(path, None)
        if fd is None:
            fd = self._walk(path)
        known[path] = fd  # at the end: the last used are the last to go
        return fd

    def _walk(self, path: bytes) -> int:
        known = self._open
        # From the nearest ancestor that is open ...
        start = path.rfind(b"/")
        while start > 0 and path[:start] not in known:
            start = path.rfind(b"/", 0, start)
        if start > 0:
            at = path[:start]
            fd = known.pop(at)
            known[at] = fd
        else:
            fd, start = self.root_fd, -1
        # ... one component at a time.
        while True:
            end = path.find(b"/", start + 1)
            last = end < 0
            name = path[start + 1 :] if last else path[start + 1 : end]
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
            if last:
                break
            known[path[:end]] = fd
            self._evict(path[:end])
            start = end
        self._evict(b"")
        return fd

    def _evict(self, keep: bytes) -> None:
        known = self._open
        while len(known) > _KEPT_OPEN:
            oldest = next(iter(known))
            if oldest == keep:
                break
            os.close(known.pop(oldest))


def inoperable(path: bytes, doing: str, error: OSError, where: str = "") -> RepeatrError:
    """The error for a path that the system does not let us work with.

    `doing` is what was tried ("read", "create the directory"), `where` names the root.
    """
    import errno

    remedies = {
        errno.EACCES: "run as a user who may, or change the permissions",
        errno.EPERM: "run as a user who may do this, or as root",
        errno.ENOSPC: "make space, or work on another file system",
        errno.EDQUOT: "make space within your quota, or work on another file system",
        errno.EROFS: "work on a file system that can be written to",
        errno.ENOENT: "check the path; if it was there a moment ago, something removed it",
        errno.EEXIST: "use a place where nothing is yet",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENAMETOOLONG: "work on a file system that takes longer names",
    }
    reason = error.strerror or type(error).__name__
    place = f" in {where}" if where else ""
    return RepeatrError(
        Category.INOPERABLE_PATH,
        f"can't {doing} {shown(path)!r}{place}: {reason}",
        remedy=remedies.get(error.errno or 0, ""),
        details={"path": shown(path), "reason": reason},
    )
