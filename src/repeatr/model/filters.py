"""Filters: what of a fileset's metadata is kept, flattened or refused.

Written as `uid=keep,gid=1000,mtime=@1262304000`; in a formula's outputs as a map of the
same keys. Here they are only read and written; `fileset` applies them.

Numbers are strict. The original takes negative and wrapped ids, signs and leading zeros,
each with a meaning nobody asked for; all of these are errors here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from repeatr.errors import Category, RepeatrError

Usage = Literal["pack", "unpack"]

#: The time of everything that was given none: 2010-01-01T00:00:00Z.
FLAT_MTIME = 1262304000

#: Owner of packed files unless a filter says otherwise.
FLAT_ID = 1000

_MAX_ID = 2**32 - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
# Compiled where they are used: few formulas have times in them.
_SECONDS = r"@(0|-?[1-9][0-9]{0,18})"
_RFC3339 = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


class Filters(NamedTuple):
    """One value for each key; None where none was given.

    `keep` (packing) and `follow` (unpacking) both mean: leave it as it is. `mine` is the
    calling user. `mtime` is in whole seconds since 1970, and may be negative.
    """

    uid: int | Literal["keep", "follow", "mine"] | None = None
    gid: int | Literal["keep", "follow", "mine"] | None = None
    mtime: int | Literal["keep", "follow"] | None = None
    sticky: Literal["keep", "follow", "ignore"] | None = None
    setid: Literal["keep", "follow", "ignore", "reject"] | None = None
    dev: Literal["keep", "follow", "ignore", "reject"] | None = None
    xattr: Literal["keep", "follow", "ignore"] | None = None

    def completed(self, defaults: Filters) -> Filters:
        """These filters, with what is not given taken from `defaults`."""
        missing = {
            key: getattr(defaults, key) for key in self._fields if getattr(self, key) is None
        }
        return self._replace(**missing) if missing else self

    def canonical(self) -> dict[str, str]:
        """What is given, as text by key, keys sorted: the form that is hashed."""
        values: dict[str, str] = {}
        for key in KEYS:
            value = getattr(self, key)
            if value is not None:
                values[key] = (
                    f"@{value}" if key == "mtime" and isinstance(value, int) else str(value)
                )
        return values

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.canonical().items())


#: Every filter key, sorted: the canonical order.
KEYS = tuple(sorted(Filters._fields))

# The words that a key takes, by usage, in the order in which they are told.
_WORDS: dict[Usage, dict[str, tuple[str, ...]]] = {
    "pack": {
        "uid": ("keep",),
        "gid": ("keep",),
        "mtime": ("keep",),
        "sticky": ("keep", "ignore"),
        "setid": ("keep", "ignore", "reject"),
        "dev": ("keep", "ignore", "reject"),
        "xattr": ("keep", "ignore"),
    },
    "unpack": {
        "uid": ("follow", "mine"),
        "gid": ("follow", "mine"),
        "mtime": ("follow",),
        "sticky": ("follow", "ignore"),
        "setid": ("follow", "ignore", "reject"),
        "dev": ("follow", "ignore", "reject"),
        "xattr": ("follow", "ignore"),
    },
}

#: What `pack` does with keys that are not given.
PACK_DEFAULTS = Filters(
    uid=FLAT_ID,
    gid=FLAT_ID,
    mtime=FLAT_MTIME,
    sticky="keep",
    setid="reject",
    dev="reject",
    xattr="ignore",
)

#: The same for a formula's outputs.
OUTPUT_DEFAULTS = PACK_DEFAULTS._replace(setid="keep", dev="keep")

#: What `unpack` does with keys that are not given.
UNPACK_DEFAULTS = Filters(
    uid="mine",
    gid="mine",
    mtime="follow",
    sticky="follow",
    setid="reject",
    dev="reject",
    xattr="follow",
)

#: Leave everything as it is: how a formula's inputs are unpacked.
FOLLOW_ALL = Filters(
    uid="follow",
    gid="follow",
    mtime="follow",
    sticky="follow",
    setid="follow",
    dev="follow",
    xattr="follow",
)

#: How `scan` reads a ware.
SCAN_DEFAULTS = FOLLOW_ALL._replace(setid="reject", dev="reject")


def parse_filters(text: str, usage: Usage) -> Filters:
    """Read a filter string; "" is `Filters()`.

    Raises RepeatrError USAGE for an unknown or repeated key, a part without "=" and a bad
    value.
    """
    if not text:
        return Filters()
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise _error(
                f"filters {text!r}: expected KEY=VALUE between the commas, found {part.strip()!r}",
                "write for example uid=keep,mtime=@1262304000, with no comma at the end",
            )
        if key not in KEYS:
            raise _error(
                f"filters {text!r}: {key!r} is not a filter",
                f"the filters are {', '.join(KEYS)}",
            )
        if key in values:
            raise _error(f"filters {text!r}: {key} is given twice", f"give {key} once")
        values[key] = value.strip()
    return filters_from_map(values, usage)


def filters_from_map(values: Mapping[str, str], usage: Usage, where: str = "") -> Filters:
    """Read filters given as text by known keys; `where` is put in front of error texts.

    Raises RepeatrError USAGE for a bad value.
    """
    read = {key: _value(key, text, usage, where) for key, text in values.items()}
    return Filters(**read)  # type: ignore[arg-type]  # _value answers by key


def _value(key: str, text: str, usage: Usage, where: str) -> int | str:
    words = _WORDS[usage][key]
    if text in words:
        return text
    asked = f"{where or 'filter '}{key}={text}"
    if key in ("uid", "gid"):
        if _NUMBER.fullmatch(text) and int(text) <= _MAX_ID:
            return int(text)
        expected = f"{', '.join(words)} or a number from 0 to {_MAX_ID}"
        raise _error(
            f"{asked}: expected {expected}",
            "write the number in decimal, without a sign or leading zeros",
        )
    if key == "mtime":
        seconds = _seconds(text)
        if seconds is None:
            raise _error(
                f"{asked}: expected {words[0]}, @SECONDS or an RFC 3339 time",
                f"write for example mtime=@{FLAT_MTIME} or mtime=2010-01-01T00:00:00Z",
            )
        if seconds == -1:
            raise _error(
                f"{asked}: the second before 1970 is refused, "
                f"because the original Repeatr silently reads it as the default",
                f"leave mtime out for the default, or take another second, for example @{-2}",
            )
        return seconds
    other: Usage = "unpack" if usage == "pack" else "pack"
    hint = f"{text} is for {other}ing; here it is {words[0]}" if text in _WORDS[other][key] else ""
    raise _error(f"{asked}: expected {' or '.join(words)}", hint or f"give {key} one of these")


def _seconds(text: str) -> int | None:
    if match := re.fullmatch(_SECONDS, text):
        seconds = int(match[1])
        return seconds if -(2**63) <= seconds < 2**63 else None
    return _rfc3339(text)


def _rfc3339(text: str) -> int | None:
    """Seconds since 1970 of an RFC 3339 time, fractions floored; None where it is not one."""
    match = re.fullmatch(_RFC3339, text)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(digits) for digits in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= _days_in_month(year, month)):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset = 0
    if match[7]:
        offset_hours, offset_minutes = int(match[8]), int(match[9])
        if offset_hours > 23 or offset_minutes > 59:
            return None
        offset = (offset_hours * 3600 + offset_minutes * 60) * (-1 if match[7] == "-" else 1)
    return _days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if _is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days_since_1970(year: int, month: int, day: int) -> int:
    # In the Gregorian calendar for all years, 0000 too, which `datetime` does not have.
    leap_days = (year - 1) // 4 - (year - 1) // 100 + (year - 1) // 400
    days = 365 * (year - 1) + leap_days - 719162
    days += sum(_days_in_month(year, earlier) for earlier in range(1, month))
    return days + day - 1


def _error(message: str, remedy: str) -> RepeatrError:
    return RepeatrError(Category.USAGE, message, remedy=remedy)
