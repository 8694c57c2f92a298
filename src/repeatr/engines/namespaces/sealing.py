"""A second user namespace for processes that may mount: the container's mounts are locked in it.

With the policy sysad a process may mount and unmount. In the namespace that made the
container's mounts it could uncover /proc/kcore or make /proc/sys writable, which are the
host's and, to a process whose uid 0 is the host's root, open. Mounts that came from another
user namespace cannot be taken apart (mount_namespaces(7)), so such a process gets its own.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from repeatr.engines.namespaces.loopback import loopback_up
from repeatr.linux import calls
from repeatr.linux.enclosure import write_maps
from repeatr.linux.idmaps import Extent


class Seal:
    """The way of one process into its own namespaces: it asks, and pid 1 maps its ids.

    `ids` are the user and the group ids of the container. With `own_network` the process gets
    its own network device lo, over which it has its capabilities.
    """

    def __init__(self, ids: Ids, *, own_network: bool) -> None:
        self._ids = ids
        self._own_network = own_network
        self._ready_read, self._ready_write = os.pipe()
        self._done_read, self._done_write = os.pipe()

    def enter(self) -> None:
        """In the process: move into the new namespaces. Raises OSError."""
        os.close(self._ready_read)
        os.close(self._done_write)
        # Who is not dumpable has a /proc/PID/uid_map that only the host's root may write.
        calls.prctl(calls.PR_SET_DUMPABLE, 1)
        flags = calls.CLONE_NEWUSER | calls.CLONE_NEWNS | calls.CLONE_NEWUTS
        calls.unshare(flags | (calls.CLONE_NEWNET if self._own_network else 0))
        os.write(self._ready_write, b"\0")
        if not os.read(self._done_read, 1):
            raise PermissionError(1, "the ids of the inner user namespace could not be mapped")
        calls.prctl(calls.PR_SET_DUMPABLE, 0)
        if self._own_network:
            loopback_up()

    def grant(self, pid: int) -> None:
        """In pid 1: map the ids of the process `pid`, which is in `enter`."""
        os.close(self._ready_write)
        os.close(self._done_read)
        try:
            if os.read(self._ready_read, 1):
                write_maps(pid, self._ids.uids, self._ids.gids, groups=True)
                os.write(self._done_write, b"\0")
        except OSError:
            pass  # the end of the pipe tells the process, which says so
        finally:
            os.close(self._ready_read)
            os.close(self._done_write)


class Ids(NamedTuple):
    """The ids of a namespace, each as itself."""

    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
