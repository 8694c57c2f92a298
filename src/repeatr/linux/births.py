"""When files were born: what statx(2) tells and Python's `os` does not."""

from __future__ import annotations

import ctypes
import os
import struct

_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800

# struct statx of linux/stat.h: its size, and in it stx_mask and stx_btime (seconds as a
# signed 64-bit number, then nanoseconds).
_SIZE = 256
_MASK = struct.Struct("=I")
_BIRTH, _BIRTH_AT = struct.Struct("=qI"), 80

_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def birth_of(parent_fd: int, name: str | bytes) -> int:
    """When `name` in the directory `parent_fd` came to be, in nanoseconds since 1970.

    0 where the filesystem or the C library can't tell, or nothing is there.
    """
    if _statx is None:
        return 0
    buffer = ctypes.create_string_buffer(_SIZE)
    done = _statx(parent_fd, os.fsencode(name), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer)
    if done != 0 or not _MASK.unpack_from(buffer)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(buffer, _BIRTH_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
