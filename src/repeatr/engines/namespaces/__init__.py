"""The built-in engine: a container made of Linux namespaces, with no program but this one."""

from repeatr.engines.namespaces.engine import Namespaces

__all__ = ["Namespaces"]
