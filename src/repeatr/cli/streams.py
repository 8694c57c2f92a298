"""Standard output and error as file descriptors: whole writes, nothing left in a buffer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from repeatr.errors import Category, RepeatrError

if TYPE_CHECKING:
    from typing import TextIO


class Stream:
    """One standard stream. Writes go out at once, and whole.

    A reader that has gone away is no error here: later writes are dropped and `cut_off` is
    true. `essential`: other failures to write raise RepeatrError INOPERABLE_PATH (once).
    """

    def __init__(self, stream: TextIO | None, name: str, *, essential: bool) -> None:
        self._fd = -1 if stream is None else stream.fileno()
        self._name = name
        self._essential = essential
        self.cut_off = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        return self._fd >= 0 and os.isatty(self._fd)

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        if self._fd < 0 or self.cut_off:
            return
        try:
            done = os.write(self._fd, data)
            while done < len(data):
                data = data[done:]
                done = os.write(self._fd, data)
        except BlockingIOError:
            self._wait()
            self.write(data)
        except BrokenPipeError:
            self.cut_off = True
        except OSError as error:
            self.cut_off = True
            if self._essential:
                raise RepeatrError(
                    Category.INOPERABLE_PATH,
                    f"cannot write to the {self._name}: {error.strerror}",
                    remedy="make room, or send the output elsewhere",
                ) from error

    def _wait(self) -> None:
        """Until a stream that somebody made non-blocking takes more."""
        import select

        select.select([], [self._fd], [])


def open_missing_streams() -> None:
    """Open /dev/null for standard streams that are closed.

    Otherwise the next file that is opened gets the number of one, and what is meant for
    people is written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
