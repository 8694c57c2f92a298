"""Policies: how much privilege a process gets, as Linux capabilities (docs/formats/formula.md)."""

from __future__ import annotations

_ROUTINE = frozenset({"AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"})
_GOVERNOR = _ROUTINE | {
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "SYS_CHROOT",
}


def capabilities_of(policy: str) -> frozenset[str] | None:
    """The capabilities of `policy` ("" is routine); None for all that an engine can give."""
    if policy == "sysad":
        return None
    return frozenset(_GOVERNOR) if policy == "governor" else _ROUTINE
