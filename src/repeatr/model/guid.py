"""Names for runs: three groups of eight of 0-9a-z, as in `n84s48fd-0w1gta7e-of69fqvd`.

The first group starts with the time, in base 36 of fixed width, so that guids sort by when
they were made; everything after it is random.
"""

from __future__ import annotations

import os
import time

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

#: Base-36 digits of the seconds since 1970: seven of them last until the year 4453.
_TIME_DIGITS = 7
_GROUP = 8
_LENGTH = 3 * _GROUP


def new_guid(now: float | None = None) -> str:
    """A new guid; `now` is in seconds since 1970 (default: the current time).

    87 random bits follow the time, so that no two runs of one second share a guid.
    """
    seconds = max(0, int(time.time() if now is None else now))
    random_digits = _LENGTH - _TIME_DIGITS
    noise = int.from_bytes(os.urandom(16), "big")
    text = _base36(seconds, _TIME_DIGITS) + _base36(noise, random_digits)
    return "-".join(text[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def _base36(number: int, width: int) -> str:
    """The lowest `width` digits, with zeros in front."""
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
