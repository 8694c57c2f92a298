"""The conformance suite over the built-in engines, as every kind of caller."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from functools import cache

import pytest

import callers

pytest.register_assert_rewrite("repeatr.engines.conformance")

from repeatr.engines.conformance.harness import Container, why_unavailable  # noqa: E402
from repeatr.engines.contract import Unavailable  # noqa: E402

#: The built-in engines, and who can use them.
ENGINES = [
    ("namespaces", "root"),
    ("namespaces", "range"),
    ("namespaces", "single"),
    ("chroot", "root"),
]


def becoming(kind: str) -> Callable[[], None] | None:
    """How a forked child becomes the caller `kind`; None where it is that already."""
    if kind == callers.own_kind():
        return None
    if os.geteuid() != 0:
        callers.missing(f"only root can test as {kind}", "run the tests as root as well")
    try:
        user = pwd.getpwnam(callers.USERS[kind])
    except KeyError:
        callers.missing(f"there is no user {callers.USERS[kind]}", "as root: scripts/test-users")

    def become() -> None:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        os.environ["HOME"] = user.pw_dir
        # As after an execve by that user, which is how they would have come here: their
        # processes may be looked into by their own kind (newuidmap does).
        from repeatr.linux import calls

        calls.prctl(calls.PR_SET_DUMPABLE, 1)

    return become


@cache
def refusal(engine: str, kind: str) -> Unavailable | None:
    """Why the engine can't run as `kind` here."""
    return why_unavailable(engine, becoming(kind))


@pytest.fixture(params=ENGINES, ids=["-".join(pair) for pair in ENGINES])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    """Runs processes in containers, in each engine and as each kind of caller in turn."""
    engine, kind = request.param
    become = becoming(kind)
    if (why := refusal(engine, kind)) is not None:
        callers.missing(f"{engine} can't run as {kind}: {why.cause}", why.remedy)
    with Container(engine, become) as made:
        yield made
