"""What is said: a formula, and the context that travels beside it.

These are values as written; what was not written is empty or None. `canonical` hashes
them and fills in defaults, `runnable` says whether they can run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from repeatr.model.filters import Filters
from repeatr.model.wareid import WareID

#: How much privilege an action may ask for, from least to most.
POLICIES = ("routine", "governor", "sysad")

#: What `Action.network` may ask for: no network at all, or the host's.
NETWORKS = ("none", "host")

#: The only value of `Action.cradle`.
CRADLE_DISABLE = "disable"

_EMPTY: Mapping[str, str] = MappingProxyType({})
_NO_URLS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class UserInfo(NamedTuple):
    """Who the process is. An id is None, a name "" where none was given."""

    uid: int | None = None
    gid: int | None = None
    username: str = ""
    homedir: str = ""


class Action(NamedTuple):
    """The process: what is executed, and how. Empty values were not given.

    `policy` is one of `POLICIES`, `network` one of `NETWORKS`, `cradle` is `CRADLE_DISABLE`;
    other text can be hashed and is refused on a run.
    """

    exec: tuple[str, ...] = ()
    noop: bool = False
    policy: str = ""
    cwd: str = ""
    env: Mapping[str, str] = _EMPTY
    userinfo: UserInfo | None = None
    cradle: str = ""
    hostname: str = ""
    network: str = ""

    @property
    def cradled(self) -> bool:
        """Whether the cradle (cwd, home, /tmp, environment) is made for this action."""
        return self.cradle != CRADLE_DISABLE


class Output(NamedTuple):
    """How a path is packed. `filters` is None where none were written."""

    packtype: str = ""
    filters: Filters | None = None


class Formula(NamedTuple):
    """Inputs, action, outputs. A map is None where it was absent, which hashes unlike {}."""

    inputs: Mapping[str, WareID] | None = None
    action: Action = Action()
    outputs: Mapping[str, Output] | None = None


class Context(NamedTuple):
    """Where to fetch inputs and save outputs, by path. Never part of a formula's hash."""

    fetch_urls: Mapping[str, tuple[str, ...]] = _NO_URLS
    save_urls: Mapping[str, str] = _EMPTY


class Document(NamedTuple):
    """What a formula file holds."""

    formula: Formula
    context: Context = Context()
