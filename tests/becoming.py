"""How a forked child becomes one of the callers of the tests."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

import callers
from repeatr.linux import calls


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
        calls.prctl(calls.PR_SET_DUMPABLE, 1)

    return become
