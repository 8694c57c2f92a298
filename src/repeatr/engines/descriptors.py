"""The file descriptors between Repeatr and a container, and the closing of all others."""

from __future__ import annotations

import contextlib
import os

from repeatr.linux import calls


class Pipes:
    """The pipes between Repeatr and a container.

    output: what the process prints. report: how it ended. life: a first byte when the maps
    are written, and end of file when Repeatr is gone.
    """

    def __enter__(self) -> Pipes:
        self.output_read, self.output_write = os.pipe()
        self.report_read, self.report_write = os.pipe()
        self.life_read, self.life_write = os.pipe()
        self._open = {
            self.output_read, self.output_write, self.report_read, self.report_write,
            self.life_read, self.life_write,
        }  # fmt: skip
        return self

    def give_output_to(self, uid: int, gid: int) -> None:
        """Let the process open /dev/stdout, which is this pipe, by name."""
        with contextlib.suppress(OSError):  # an id that is not mapped here: single
            os.fchown(self.output_write, uid, gid)

    def close_inside_ends(self) -> None:
        """Close what only the container holds: from now on its death is an end of file."""
        for fd in (self.output_write, self.report_write, self.life_read):
            os.close(fd)
            self._open.discard(fd)

    def let_go(self) -> None:
        """Close the life pipe, as the end of Repeatr would. May be done twice."""
        if self.life_write in self._open:
            os.close(self.life_write)
            self._open.discard(self.life_write)

    def __exit__(self, *_error: object) -> None:
        for fd in self._open:
            os.close(fd)


def keep_only(*fds: int) -> tuple[int, ...]:
    """Close every descriptor but `fds`, which move to 3 and up; 0 to 2 become /dev/null."""
    high = [os.dup(fd) for fd in fds]  # above all that is wanted below, whatever the numbers
    null = os.open("/dev/null", os.O_RDWR)
    base = max(high) + 16
    moved = [os.dup2(fd, base + n, inheritable=False) for n, fd in enumerate(high)]
    for n in range(3):
        os.dup2(null, n)
    kept = tuple(os.dup2(fd, 3 + n, inheritable=False) for n, fd in enumerate(moved))
    calls.close_from(3 + len(fds))
    return kept
