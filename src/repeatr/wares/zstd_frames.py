"""Where zstd frames end, so that a stream that was cut off is told from one that ended.

The decompressor itself does not say. Only frame and block headers are looked at (RFC 8878,
sections 3.1.1 and 3.1.2); what is in the blocks is its business.
"""

from __future__ import annotations

MAGIC = b"\x28\xb5\x2f\xfd"

_DICTIONARY_ID_SIZES = (0, 1, 2, 4)
_CONTENT_SIZE_SIZES = (0, 2, 4, 8)
_FRAME, _BLOCK = 0, 1
_RLE_BLOCK = 1


def is_skippable(magic: bytes) -> bool:
    """Whether four bytes are the magic of a frame without content (0x184D2A50 to 5F)."""
    return len(magic) == 4 and magic[0] & 0xF0 == 0x50 and magic[1:] == b"\x2a\x4d\x18"


class FrameWatcher:
    """Follows compressed bytes on their way into the decompressor."""

    def __init__(self) -> None:
        self._expected = _FRAME
        self._skip = 0
        self._head = b""
        self._checksum = 0
        self._lost = False

    @property
    def between_frames(self) -> bool:
        """Whether a stream that ends here is whole."""
        return self._expected == _FRAME and not self._skip and not self._head

    def feed(self, data: bytes) -> None:
        """Look at the next compressed bytes."""
        if self._lost:
            return
        position = 0
        while True:
            step = min(self._skip, len(data) - position)
            position += step
            self._skip -= step
            if self._skip or position == len(data):
                return
            # A header is at most eight bytes; only one that lies across two pieces is kept.
            rest = self._head + data[position : position + 8]
            used = self._header(rest)
            if not used:
                self._head = rest
                return
            position += used - len(self._head)
            self._head = b""

    def _header(self, data: bytes) -> int:
        """Read the header at the start of `data`; 0 where it is not all there yet."""
        if self._expected == _BLOCK:
            if len(data) < 3:
                return 0
            header = int.from_bytes(data[:3], "little")
            self._skip = 1 if header >> 1 & 3 == _RLE_BLOCK else header >> 3
            if header & 1:
                self._skip += self._checksum
                self._expected = _FRAME
            return 3
        if is_skippable(data[:4]):
            if len(data) < 8:
                return 0
            self._skip = int.from_bytes(data[4:8], "little")
            return 8
        if len(data) < 5:
            return 0
        # A foreign magic is for the decompressor to refuse; there is nothing to follow then.
        self._lost = data[:4] != MAGIC
        descriptor = data[4]
        single_segment = descriptor >> 5 & 1
        self._skip = (
            (1 - single_segment)
            + _DICTIONARY_ID_SIZES[descriptor & 3]
            + (_CONTENT_SIZE_SIZES[descriptor >> 6] or single_segment)
        )
        self._checksum = 4 * (descriptor >> 2 & 1)
        self._expected = _BLOCK
        return 5
