"""Pieces of bytes as a parser wants them: so many bytes, exactly, or an error."""

from __future__ import annotations

from collections.abc import Iterator

from repeatr.fileset.names import corrupt


class ByteSource:
    """Reads an iterator of pieces. `what` names the format in messages.

    A content may be handed on as a stream that its consumer leaves half read; what is left
    of it is skipped before anything else is read. No length that an archive claims is ever
    allocated: memory holds what has really arrived.
    """

    __slots__ = ("_before", "_buffer", "_pieces", "_position", "_unread", "_what")

    def __init__(self, pieces: Iterator[bytes], what: str) -> None:
        self._pieces = pieces
        self._what = what
        self._buffer = b""
        self._position = 0
        # Bytes of the stream before the buffer.
        self._before = 0
        # What is left of the content that was last handed on, and its padding.
        self._unread = 0

    @property
    def offset(self) -> int:
        """How many bytes of the stream were read, for messages."""
        return self._before + self._position

    def block(self, size: int) -> bytes | None:
        """The next `size` bytes; None where the stream has ended just here.

        Raises RepeatrError WARE_CORRUPT where it ends on the way.
        """
        if self._unread:
            self._skip()
        position = self._position
        if len(self._buffer) - position >= size:
            self._position = position + size
            return self._buffer[position : position + size]
        if position == len(self._buffer) and not self._refill():
            return None
        return self.take(size)

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises WARE_CORRUPT where there are not as many."""
        position = self._position
        end = position + size
        if end <= len(self._buffer):
            self._position = end
            return self._buffer[position:end]
        parts = [self._buffer[position:]]
        missing = end - len(self._buffer)
        while True:
            if not self._refill():
                raise self._cut_off()
            if missing <= len(self._buffer):
                break
            parts.append(self._buffer)
            missing -= len(self._buffer)
        self._position = missing
        parts.append(self._buffer[:missing])
        return b"".join(parts)

    def expect(self, size: int) -> None:
        """Say that `size` bytes of content and padding follow, which `stream` may read."""
        self._unread = size

    def stream(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in pieces, out of those that were expected."""
        while size:
            position = self._position
            if position == len(self._buffer):
                if not self._refill():
                    raise self._cut_off()
                position = 0
            piece = self._buffer[position : position + size]
            self._position = position + len(piece)
            self._unread -= len(piece)
            size -= len(piece)
            yield piece

    def _skip(self) -> None:
        while self._unread:
            if self._position == len(self._buffer) and not self._refill():
                raise self._cut_off()
            step = min(self._unread, len(self._buffer) - self._position)
            self._position += step
            self._unread -= step

    def _refill(self) -> bool:
        self._before += len(self._buffer)
        self._position = 0
        self._buffer = b""
        for piece in self._pieces:
            if piece:
                self._buffer = piece
                return True
        return False

    def _cut_off(self) -> Exception:
        return corrupt(f"the {self._what} ends in the middle, after {self.offset} bytes")
