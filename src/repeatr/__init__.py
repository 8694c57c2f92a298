"""Repeatr: run a process as a pure function of filesets.

The public API is what `__all__` names; each name is imported when it is first used, so that
`import repeatr` costs nothing.
"""

from __future__ import annotations

import sys

from repeatr.version import __version__

# As `typing.TYPE_CHECKING`, without the price of importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from repeatr.api import mirror, pack, run, scan, start, unpack
    from repeatr.errors import Category, RepeatrError
    from repeatr.model.record import RunRecord
    from repeatr.model.wareid import WareID

__all__ = [
    "Category",
    "RepeatrError",
    "RunRecord",
    "WareID",
    "__version__",
    "mirror",
    "pack",
    "run",
    "scan",
    "start",
    "unpack",
]

_HOMES = {
    "Category": "repeatr.errors",
    "RepeatrError": "repeatr.errors",
    "RunRecord": "repeatr.model.record",
    "WareID": "repeatr.model.wareid",
    "mirror": "repeatr.api",
    "pack": "repeatr.api",
    "scan": "repeatr.api",
    "start": "repeatr.api",
    "unpack": "repeatr.api",
}


if not TYPE_CHECKING:  # or type checkers would take every name

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(type(sys)):  # type: ignore[misc]  # type(sys) is ModuleType, not imported here
    """This package, whose `run` is the function of the API.

    There is a module of that name too, and importing a module sets it as an attribute of
    its package. Here that is not to hide the function, whichever is imported first.
    """

    @property
    def run(self) -> object:
        from importlib import import_module

        return import_module("repeatr.api").run

    @run.setter
    def run(self, module: object) -> None:
        pass


sys.modules[__name__].__class__ = _Package
