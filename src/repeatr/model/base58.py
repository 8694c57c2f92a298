"""Base58 with the Bitcoin alphabet: how tree hashes and setup hashes are written.

Leading zero bytes are written as leading "1"s, so that the length survives.
"""

from __future__ import annotations

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

_VALUE = {character: value for value, character in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """Write bytes in base58; b"" is ""."""
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def decode(text: str) -> bytes:
    """Read base58; the inverse of `encode`.

    Raises ValueError where a character is not of the alphabet.
    """
    number = 0
    for character in text:
        try:
            number = number * 58 + _VALUE[character]
        except KeyError:
            raise ValueError(f"{character!r} is not a base58 character") from None
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
