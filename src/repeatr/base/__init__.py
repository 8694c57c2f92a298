"""A first fileset: programs of this host, with what they need to start elsewhere.

`collect` finds it, `make` packs it. What programs load while they run (plug-ins, name
services, an interpreter's own library of modules) cannot be read from them and is not in it.
"""

from repeatr.base.programs import collect
from repeatr.base.saving import make

__all__ = ["collect", "make"]
