"""The file descriptors between Repeatr and a container, and the closing of all others."""

from __future__ import annotations

import os


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

    def close_inside_ends(self) -> None:
        """Close what only the container holds: from now on its death is an end of file."""
        for fd in (self.output_write, self.report_write, self.life_read):
            os.close(fd)
            self._open.discard(fd)

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
    os.closerange(3 + len(fds), 2**31 - 1)
    return kept
