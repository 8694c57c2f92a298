"""From the names of programs to the files that they need to start."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Sequence

from repeatr.base import elf, libraries
from repeatr.base.libraries import Loaded
from repeatr.base.scripts import read_shebang
from repeatr.base.tree import Tree
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import Entry
from repeatr.fileset.names import shown

# Where programs are looked for when PATH is unset: what _CS_PATH and Debian's login agree on.
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def collect(programs: Sequence[str], path: str | None = None) -> list[tuple[Entry, str]]:
    """The fileset of `programs`: its entries, and for each file where its content is.

    A program is a name to be looked up in `path` (default: PATH), or a path. With it come its
    loader and its libraries, a script's interpreter, the symlinks on the way to all of them,
    and /tmp. Sources of what is no file are "". Entries have no digests yet; they are sorted
    by path, and the same on every call while the host stays the same.

    Raises USAGE where a program, a library or an interpreter is missing: the message says who
    needs it and where was looked. INOPERABLE_PATH where one may not be read.
    """
    if path is None:
        path = os.environ.get("PATH", "") or _USUAL_PATH
    collection = _Collection(path)
    for program in programs:
        collection.add_program(collection.looked_up(program, ""), "")
    tree = collection.tree
    tree.add_well_known()
    tree.add_tmp()
    return [(entry, tree.sources.get(entry.path, "")) for entry in tree.entries()]


class _Collection:
    """What was collected so far."""

    def __init__(self, path: str) -> None:
        self.tree = Tree()
        self._path = path
        self._programs: set[str] = set()
        self._systems: dict[str, libraries.System] = {}

    def looked_up(self, program: str, needed_by: str) -> str:
        """The absolute path of a program; `needed_by` is who needs it, or ""."""
        if "/" in program:
            return os.path.join(os.getcwd(), program)
        places = dict.fromkeys(os.path.abspath(place) for place in self._path.split(":"))
        if program:
            for place in places:
                candidate = f"{place}/{program}"
                if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                    return candidate
        raise _missing(
            f"there is no program {_quoted(program)} here{_for(needed_by)}",
            f"looked in {', '.join(places)}",
            "install it, or name it by its path",
        )

    def add_program(self, path: str, needed_by: str) -> None:
        """Add the program at the absolute `path` and all it needs."""
        real = self._add_file(path, needed_by)
        if real in self._programs:
            return
        self._programs.add(real)
        if not os.stat(real).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
            raise RepeatrError(
                Category.USAGE,
                f"{_quoted(path)}{_for(needed_by)} is not a program: it is not executable",
                remedy=f"chmod +x {path}, or leave it out",
            )
        try:
            shebang = read_shebang(real)
            if shebang is None:
                self._add_elf(Loaded(real, elf.read(real), None))
                return
        except elf.NotElf as error:
            raise RepeatrError(
                Category.USAGE,
                f"{_quoted(path)}{_for(needed_by)} is not a program that can be read: {error}",
                remedy="name ELF programs, or scripts that begin with #! and an interpreter",
            ) from None
        except OSError as error:
            raise _unreadable(path, needed_by, error) from error
        if not shebang.interpreter.startswith("/"):
            raise _missing(
                f"the interpreter {_quoted(shebang.interpreter)}{_for(path)} is not a path",
                "the first line of a script names one in full",
                f"mend the first line of {path}",
            )
        self.add_program(shebang.interpreter, path)
        if shebang.program:
            self.add_program(self.looked_up(shebang.program, path), path)

    def _add_file(self, path: str, needed_by: str) -> str:
        try:
            real = self.tree.add(path)
        except PermissionError as error:
            raise _unreadable(path, needed_by, error) from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise _missing(
                f"{_quoted(path)}{_for(needed_by)} is not there", f"{why}", "check the path"
            ) from error
        if os.path.isdir(real):
            raise RepeatrError(
                Category.USAGE,
                f"{_quoted(path)}{_for(needed_by)} is a directory, not a program",
                remedy="name the programs in it that you want",
            )
        return real

    def _add_elf(self, program: Loaded) -> None:
        """Add the loader of an ELF program and its libraries, and theirs, in load order.

        A process loads a library once, under the first name and from the first place that
        it was asked for: a later search for the same name is none.
        """
        loader = program.elf.interpreter
        loaded: set[str] = set()
        if loader:
            self._add_file(loader, program.path)
            loaded.add(os.path.basename(loader))
        system = self._system(loader)
        waiting = deque([program])
        while waiting:
            current = waiting.popleft()
            for name in current.elf.needed:
                if name in loaded:
                    continue
                found = libraries.find(name, current, system)
                if isinstance(found, list):
                    raise _missing(
                        f"there is no library {_quoted(name)} here{_for(current.path)}",
                        f"looked in {', '.join(found) or 'no place'}",
                        f"install the package that brings {name}",
                    )
                loaded.update((name, found.elf.soname))
                self._add_library(name, found, loader, current.path)
                waiting.append(Loaded(found.path, found.elf, current))

    def _add_library(self, name: str, found: libraries.Found, loader: str, needed_by: str) -> None:
        self._add_file(found.path, needed_by)
        if found.configured and loader:
            # Elsewhere there is no such configuration: the loader finds it beside itself.
            place = self.tree.add(os.path.dirname(os.path.realpath(loader)))
            self.tree.add_link(f"{place}/{name}", found.path)

    def _system(self, loader: str) -> libraries.System:
        found = self._systems.get(loader)
        if found is None:
            found = self._systems[loader] = libraries.system_places(loader)
        return found


def _for(needed_by: str) -> str:
    return f", which {_quoted(needed_by)} needs," if needed_by else ""


def _quoted(text: str) -> str:
    return repr(shown(os.fsencode(text)))


def _missing(what: str, found: str, remedy: str) -> RepeatrError:
    return RepeatrError(Category.USAGE, f"{what.rstrip(',')}: {found}", remedy=remedy)


def _unreadable(path: str, needed_by: str, error: OSError) -> RepeatrError:
    return RepeatrError(
        Category.INOPERABLE_PATH,
        f"{_quoted(path)}{_for(needed_by)} cannot be read: {error.strerror}",
        remedy="ask as a user who may read it, or leave it out",
    )
