"""ELF files made by hand: their headers say what a test wants, their code is nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

# e_machine (System V ABI): x86-64 and 32-bit ARM.
X86_64, ARM = 62, 40

_NULL, _NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 10, 14, 15, 29
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3


def write_elf(
    path: Path,
    *,
    interpreter: str = "",
    needed: Sequence[str] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    machine: int = X86_64,
) -> Path:
    """Write a 64-bit little-endian ELF file (ET_DYN), executable, and its directory."""
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, texts in (
        (_NEEDED, needed),
        (_SONAME, [soname] if soname else []),
        (_RPATH, [rpath] if rpath else []),
        (_RUNPATH, [runpath] if runpath else []),
    ):
        for text in texts:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    interp = interpreter.encode() + b"\0" if interpreter else b""
    count = 2 + bool(interp)
    strings_at = 64 + 56 * count
    interp_at = strings_at + len(strings)
    dynamic_at = -(-(interp_at + len(interp)) // 8) * 8
    tags += [(_STRTAB, strings_at), (_STRSZ, len(strings)), (_NULL, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    size = dynamic_at + len(dynamic)

    def header(kind: int, at: int, length: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 4, at, at, at, length, length, 8)

    headers = header(_LOAD, 0, size) + header(_DYNAMIC, dynamic_at, len(dynamic))
    if interp:
        headers += header(_INTERP, interp_at, len(interp))
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    body = (elf + headers + strings + interp).ljust(dynamic_at, b"\0") + dynamic
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    path.chmod(0o755)
    return path
