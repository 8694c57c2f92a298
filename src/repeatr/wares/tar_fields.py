"""The fields of tar headers: numbers, checksums, PAX records and times.

Sources: POSIX.1-2017 pax (ustar and the extended headers), the GNU tar manual (base-256
numbers), docs/formats/tar.md. What is malformed is WARE_CORRUPT.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from repeatr.fileset.names import corrupt, shown

#: Numbers of 64 bits with a sign are what the original can hold.
_LEAST, _MOST = -(2**63), 2**63 - 1

_OCTAL = re.compile(rb"[0-7]+")
_DECIMAL = re.compile(rb"-?[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")


@lru_cache(maxsize=8192)
def number(field: bytes) -> int:
    """A numeric header field: octal text, or base-256 where the first bit is set.

    Octal text is what stands before the first NUL, without spaces and NULs around it;
    nothing at all is 0.
    """
    first = field[0]
    if first & 0x80:
        # Two's complement of what is left once the marker bit is gone.
        width = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & (1 << width) - 1
        if first & 0x40:
            value -= 1 << width
        if not _LEAST <= value <= _MOST:
            raise corrupt("a number in a tar header is too big")
        return value
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    if not _OCTAL.fullmatch(text):
        raise corrupt(f"{shown(text)!r} in a tar header is not an octal number")
    return int(text, 8)


def checksum_holds(header: bytes) -> bool:
    """Whether the checksum of a header of 512 bytes is right, as unsigned or signed sum."""
    try:
        stated = number(header[148:156])
    except Exception:
        return False
    # The low half of an Adler-32 is one plus the sum of the bytes, modulo 65521: exact for
    # up to 256 bytes, and far faster than summing up in Python.
    field = header[148:156]
    unsigned = (
        (adler32(header[:256]) & 0xFFFF)
        + (adler32(header[256:]) & 0xFFFF)
        - (adler32(field) & 0xFFFF)
        - 1
        + 8 * 0x20
    )
    if stated == unsigned:
        return True
    high = sum(byte >> 7 for byte in header[:148] + header[156:])
    return stated == unsigned - 256 * high


def text(field: bytes) -> bytes:
    """A name field: what stands before the first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


class Records(NamedTuple):
    """What a PAX header says: `values` by key, the last one counts, empty ones too.

    `sparse` are the numbers of GNU.sparse.offset and GNU.sparse.numbytes records, which
    are the only ones that repeat.
    """

    values: dict[bytes, bytes]
    sparse: tuple[int, ...] = ()


_NO_NUL = (b"path", b"linkpath", b"uname", b"gname")


def parse_records(data: bytes) -> Records:
    """Read the records "LENGTH KEY=VALUE\\n" of a PAX header."""
    values: dict[bytes, bytes] = {}
    sparse: list[int] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise corrupt("a PAX record does not start with its length")
        end = position + int(digits)
        equals = data.find(b"=", space + 1, max(end - 1, 0))
        if end > len(data) or equals <= space + 1 or data[end - 1 : end] != b"\n":
            raise corrupt("a PAX record is malformed")
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if b"\0" in key or (key in _NO_NUL and b"\0" in value):
            raise corrupt("a PAX record holds a NUL byte where none may be")
        if key == b"GNU.sparse.offset" or key == b"GNU.sparse.numbytes":
            if (len(sparse) % 2 == 0) != (key == b"GNU.sparse.offset"):
                raise corrupt("the PAX records of a sparse file are out of order")
            sparse.append(decimal(value))
        else:
            values[key] = value
        position = end
    if len(sparse) % 2:
        raise corrupt("the PAX records of a sparse file are incomplete")
    return Records(values, tuple(sparse))


def decimal(value: bytes) -> int:
    """A decimal number of a PAX record, 64 bits with a sign."""
    if not _DECIMAL.fullmatch(value) or not _LEAST <= (found := int(value)) <= _MOST:
        raise corrupt(f"{shown(value)!r} in a PAX record is not a number")
    return found


def pax_time(value: bytes) -> tuple[int, int]:
    """A PAX time as (seconds, nanoseconds above them): -1.5 is (-2, 500000000).

    Digits past nine are cut.
    """
    match = _TIME.fullmatch(value)
    if not match:
        raise corrupt(f"{shown(value)!r} in a PAX record is not a time")
    sign, whole, fraction = match.groups()
    seconds = int(whole)
    nanoseconds = int((fraction or b"0")[:9].ljust(9, b"0"))
    if sign:
        seconds = -seconds
        if nanoseconds:
            seconds, nanoseconds = seconds - 1, 1_000_000_000 - nanoseconds
    if not _LEAST <= seconds <= _MOST:
        raise corrupt(f"{shown(value)!r} in a PAX record is too big a time")
    return seconds, nanoseconds


def text_of_time(seconds: int, nanoseconds: int) -> bytes:
    """The inverse of `pax_time`."""
    if not nanoseconds:
        return b"%d" % seconds
    sign = b""
    if seconds < 0:
        sign, seconds, nanoseconds = b"-", -seconds - 1, 1_000_000_000 - nanoseconds
    return b"%b%d.%09d" % (sign, seconds, nanoseconds)
