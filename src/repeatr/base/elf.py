"""What a program says about the libraries it needs: the dynamic section of an ELF file."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

MAGIC = b"\x7fELF"


class Machine(NamedTuple):
    """What a program and its libraries must agree on: word size, byte order, processor."""

    bits: int
    little_endian: bool
    processor: str


class Elf(NamedTuple):
    """The facts of an ELF file by which its libraries are found.

    `interpreter` is the loader that it names (PT_INTERP), `needed` its libraries, `rpath`
    and `runpath` where they may be (not yet expanded); "" and () where it says nothing.
    """

    machine: Machine
    interpreter: str = ""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


class NotElf(Exception):
    """The file is no ELF program or library; the text says why."""


# What the parser calls the text of a tag.
_ATTRIBUTES = {
    "DT_NEEDED": "needed",
    "DT_SONAME": "soname",
    "DT_RPATH": "rpath",
    "DT_RUNPATH": "runpath",
}


def read(path: str) -> Elf:
    """Read the ELF file at `path`.

    Raises NotElf for anything else (an ELF file that is broken, too), and OSError where it
    can't be read.
    """
    from elftools.elf.elffile import ELFFile

    # A fifo in a library's place must not block.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or file.read(4) != MAGIC:
            raise NotElf("it is not an ELF file")
        try:
            return _facts(ELFFile(file))
        except OSError:
            raise
        except Exception as error:  # the parser has no base class for what broken files cause
            raise NotElf(f"its ELF headers are broken ({type(error).__name__})") from error


def _facts(file: object) -> Elf:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    assert isinstance(file, ELFFile)
    kind = file["e_type"]
    if kind not in ("ET_EXEC", "ET_DYN"):
        raise NotElf(f"it is neither a program nor a library ({kind})")
    found = Elf(Machine(file.elfclass, file.little_endian, file["e_machine"]))
    texts: dict[str, list[str]] = {tag: [] for tag in _ATTRIBUTES}
    for segment in file.iter_segments():
        if isinstance(segment, InterpSegment):
            found = found._replace(interpreter=segment.get_interp_name())
        elif isinstance(segment, DynamicSegment):
            for tag in segment.iter_tags():
                attribute = _ATTRIBUTES.get(tag.entry.d_tag)
                if attribute:
                    texts[tag.entry.d_tag].append(getattr(tag, attribute))
    return found._replace(
        soname="".join(texts["DT_SONAME"]),
        needed=tuple(texts["DT_NEEDED"]),
        rpath=_places(texts["DT_RPATH"]),
        runpath=_places(texts["DT_RUNPATH"]),
    )


def _places(texts: list[str]) -> tuple[str, ...]:
    return tuple(place for text in texts for place in text.split(":"))
