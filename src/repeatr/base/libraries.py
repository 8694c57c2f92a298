"""Where the loader would find a library: the search of ld.so(8), done by reading.

The loader itself is not asked (as ldd does): that runs the program's own code, and follows
LD_LIBRARY_PATH and LD_PRELOAD of whoever asks. Directories for a kind of processor
(glibc-hwcaps) are left out, so that a base also works on an older one.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import NamedTuple

from repeatr.base import elf
from repeatr.base.elf import Elf, Machine

CONFIGURATION = "/etc/ld.so.conf"

# Configuration files that include each other without end are cut off here.
_MOST_INCLUDES = 16


class Loaded(NamedTuple):
    """An ELF file on its way into a process. `path` is the one it was found by, links and
    all; `by` is what needs it (None for the program itself)."""

    path: str
    elf: Elf
    by: Loaded | None


class Found(NamedTuple):
    """Where a library is. `configured`: the loader finds it because /etc/ld.so.conf says so,
    and not without."""

    path: str
    elf: Elf
    configured: bool


class System(NamedTuple):
    """The places that hold for all programs of one loader, in order of search.

    `configured` come from the host's configuration, `built_in` from the loader.
    """

    configured: tuple[str, ...]
    built_in: tuple[str, ...]


def system_places(loader: str, configuration: str = CONFIGURATION) -> System:
    """The places that the loader at the path `loader` searches for any program.

    A loader lies in the first of the places that it was built for (on a multi-arch system:
    in that of its architecture); the C library's documentation has /lib and /usr/lib follow.
    """
    own = os.path.dirname(os.path.realpath(loader))
    name = os.path.basename(loader)
    if name.startswith("ld-musl-"):
        # musl reads a list of its own; without one it has these (ldso/dynlink.c).
        try:
            with open(f"/etc/{name.removesuffix('.so.1')}.path", errors="surrogateescape") as file:
                return System((), tuple(file.read().replace(":", "\n").split()))
        except OSError:
            return System((), ("/lib", "/usr/local/lib", "/usr/lib"))
    both = own.removeprefix("/usr"), "/usr" + own.removeprefix("/usr")
    built_in = dict.fromkeys((*both, own, "/lib", "/usr/lib"))
    return System(tuple(_configured(configuration)), tuple(built_in))


def _configured(path: str, depth: int = 0) -> Iterator[str]:
    """The directories of a configuration file and those it includes; see ldconfig(8)."""
    try:
        with open(path, errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] == "include":
            if depth < _MOST_INCLUDES:
                for pattern in words[1:]:
                    pattern = os.path.join(os.path.dirname(path), pattern)
                    for included in sorted(glob.glob(pattern)):
                        yield from _configured(included, depth + 1)
        elif words[0].startswith("/"):
            yield words[0].partition("=")[0]  # "=TYPE" is from the days of libc4


def find(name: str, needed_by: Loaded, system: System) -> Found | list[str]:
    """Find the library that `needed_by` calls `name`; else the places that were searched.

    A file of another machine, or one that is no library, is passed over.
    """
    if "/" in name:
        places = [_expanded(name, needed_by, system)]
        candidates = [(place, False) for place in places if place]
    else:
        own = list(dict.fromkeys(_own_places(needed_by, system)))
        places = [*own, *system.configured, *system.built_in]
        built_in = {os.path.realpath(place) for place in system.built_in}
        candidates = [(f"{place}/{name}", False) for place in own]
        candidates += [
            (f"{place}/{name}", os.path.realpath(place) not in built_in)
            for place in system.configured
        ]
        candidates += [(f"{place}/{name}", False) for place in system.built_in]
    for path, configured in candidates:
        library = _library(path, needed_by.elf.machine)
        if library is not None:
            return Found(path, library, configured)
    return list(dict.fromkeys(places))


def _library(path: str, machine: Machine) -> Elf | None:
    try:
        found = elf.read(path)
    except (OSError, elf.NotElf):
        return None
    return found if found.machine == machine else None


def _own_places(needed_by: Loaded, system: System) -> Iterator[str]:
    """Where the file itself says that its libraries are.

    A file's RUNPATH holds for its own libraries only; a file without one inherits the RPATHs
    of all that led to it, where these have no RUNPATH in turn.
    """
    if not needed_by.elf.runpath:
        above: Loaded | None = needed_by
        while above is not None:
            if not above.elf.runpath:
                yield from _all_expanded(above.elf.rpath, above, system)
            above = above.by
    yield from _all_expanded(needed_by.elf.runpath, needed_by, system)


def _all_expanded(places: tuple[str, ...], of: Loaded, system: System) -> Iterator[str]:
    for place in places:
        expanded = _expanded(place, of, system)
        if expanded:
            yield expanded


def _expanded(place: str, of: Loaded, system: System) -> str:
    """A place with $ORIGIN and $LIB filled in; "" where it depends on the current directory."""
    origin = os.path.dirname(of.path)
    own = system.built_in[0].removeprefix("/usr").lstrip("/") if system.built_in else "lib"
    for variable, value in (("ORIGIN", origin), ("LIB", own)):
        place = place.replace(f"${{{variable}}}", value).replace(f"${variable}", value)
    return place.rstrip("/") if place.startswith("/") and "$" not in place else ""
