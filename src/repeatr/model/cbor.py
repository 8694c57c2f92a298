"""A canonical CBOR (RFC 7049) encoder, of what formulas need and no more.

Integers and lengths in the shortest form, definite lengths, maps in the order of the
dict: whoever encodes decides the order.
"""

from __future__ import annotations

from collections.abc import Mapping

Value = None | bool | int | str | bytes | list["Value"] | Mapping[str, "Value"]


def encode(value: Value) -> bytes:
    """The CBOR of a value; text is UTF-8.

    Raises OverflowError for integers beyond 64 bits.
    """
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Value) -> None:
    if value is None:
        out.append(0xF6)
    elif value is False:
        out.append(0xF4)
    elif value is True:
        out.append(0xF5)
    elif isinstance(value, int):
        if value >= 0:
            _head(out, 0x00, value)
        else:
            _head(out, 0x20, -1 - value)
    elif isinstance(value, str):
        data = value.encode()
        _head(out, 0x60, len(data))
        out += data
    elif isinstance(value, bytes):
        _head(out, 0x40, len(value))
        out += value
    elif isinstance(value, list):
        _head(out, 0x80, len(value))
        for item in value:
            _write(out, item)
    else:
        _head(out, 0xA0, len(value))
        for key, item in value.items():
            _write(out, key)
            _write(out, item)


def _head(out: bytearray, major: int, argument: int) -> None:
    """Write a type with its argument in as few bytes as it fits (RFC 7049, section 3.9)."""
    if argument < 24:
        out.append(major | argument)
    elif argument < 1 << 8:
        out += bytes((major | 24, argument))
    elif argument < 1 << 16:
        out.append(major | 25)
        out += argument.to_bytes(2, "big")
    elif argument < 1 << 32:
        out.append(major | 26)
        out += argument.to_bytes(4, "big")
    else:
        out.append(major | 27)
        out += argument.to_bytes(8, "big")
