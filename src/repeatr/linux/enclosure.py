"""The enclosure: the user and mount namespace in which a run is prepared and cleaned up.

Repeatr enters it before it unpacks, mounts, runs or packs anything. Inside, an ordinary
user is root over the ids of their id map: may give files owners, mount overlays, read and
remove what the process left behind. Everything that is mounted goes with the last
process, however that dies. Root with the right to mount needs the mount namespace alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.linux import calls, capabilities, children, idmaps
from repeatr.linux.idmaps import Extent, IdMap


class Enclosure(NamedTuple):
    """Where this process is now.

    `own_user_namespace` and `own_mount_namespace` say what it entered; `can_mount` whether
    filesystems can be mounted here. `note` says why it is not a better place, or is empty.
    """

    idmap: IdMap
    own_user_namespace: bool
    own_mount_namespace: bool = True
    can_mount: bool = True
    note: str = ""


def enter() -> Enclosure:
    """Enter the best enclosure that this host allows the caller. Irrevocable.

    The process must have no other threads. Raises RepeatrError (EXECUTOR) with the cause
    and the remedy where the host allows none.
    """
    if os.geteuid() == 0 and capabilities.has("SYS_ADMIN"):
        try:
            calls.unshare(calls.CLONE_NEWNS)
            _keep_mounts_inside()
        except OSError as problem:
            return on_host(can_mount=True, note=f"no mount namespace of its own: {_said(problem)}")
        return Enclosure(idmaps.everything(), own_user_namespace=False)
    who = _who()
    try:
        idmap, note = _enter_mapped(who)
        try:
            calls.unshare(calls.CLONE_NEWNS)
            _keep_mounts_inside()
        except OSError as problem:
            raise _refused(problem, who) from None
    except RepeatrError as refused:
        if os.geteuid() != 0 or _in_own_user_namespace():
            raise
        return on_host(can_mount=False, note=refused.message)
    return Enclosure(idmap, own_user_namespace=True, note=note)


def on_host(*, can_mount: bool, note: str = "") -> Enclosure:
    """The enclosure that is none: root, among the host's own mounts."""
    return Enclosure(
        idmaps.everything(),
        own_user_namespace=False,
        own_mount_namespace=False,
        can_mount=can_mount,
        note=note,
    )


def _enter_mapped(who: str) -> tuple[IdMap, str]:
    idmap, note = _best_map()
    try:
        _enter_user_namespace(idmap, who)
    except _MapRefused as refused:
        idmap, note = idmaps.single(), str(refused)
        _enter_user_namespace(idmap, who)
    return idmap, note


def _in_own_user_namespace() -> bool:
    # Root's own ids are mapped whole again, so only the right to mount can tell.
    return capabilities.has("SYS_ADMIN")


def write_maps(pid: int, uids: Iterable[Extent], gids: Iterable[Extent], *, groups: bool) -> None:
    """Give the new user namespace of the process `pid` its id maps.

    `groups` says whether the processes in it may drop and set supplementary groups; a
    caller without CAP_SETGID over the parent namespace must say no.
    """
    if not groups:
        _write(pid, "setgroups", "deny")
    _write(pid, "gid_map", "".join(f"{e.inside} {e.outside} {e.length}\n" for e in gids))
    _write(pid, "uid_map", "".join(f"{e.inside} {e.outside} {e.length}\n" for e in uids))


def _write(pid: int, name: str, text: str) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


class _MapRefused(Exception):
    """newuidmap or newgidmap said no; the text says why."""


def _best_map() -> tuple[IdMap, str]:
    if os.geteuid() == 0 and capabilities.has("SETUID") and capabilities.has("SETGID"):
        return idmaps.everything(), ""
    found = idmaps.from_subordinate_ids()
    if found is None:
        return idmaps.single(), (
            "no range of subordinate ids in /etc/subuid and /etc/subgid"
            " (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER gives one)"
        )
    for program in ("newuidmap", "newgidmap"):
        if _find(program) is None:
            return idmaps.single(), f"no {program} here (apt-get install uidmap brings it)"
    return found, ""


_SYSTEM_PATH = (
    *("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"),
    "/run/wrappers/bin",  # NixOS: the only place for set-id programs
)


def _enter_user_namespace(idmap: IdMap, who: str) -> None:
    """Make a user namespace with the ids of `idmap`, and move this process into it.

    A child makes the namespace and waits; this process, still outside, has it mapped and
    then enters. So nothing has changed for this process where the map is refused.
    """
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()

    def make_and_wait() -> None:
        os.close(ready_read)
        os.close(done_write)
        calls.unshare(calls.CLONE_NEWUSER)
        os.write(ready_write, b"\0")
        os.read(done_read, 1)

    child = children.start(make_and_wait)
    os.close(ready_write)
    os.close(done_read)
    try:
        if not os.read(ready_read, 1):
            code = abs(children.end_of(child))
            child = 0
            raise _refused(OSError(code, f"unshare: {os.strerror(code)}"), who)
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if idmap.kind == "range":
                _map_by_helper("newuidmap", child, idmap.uids)
                _map_by_helper("newgidmap", child, idmap.gids)
            else:
                write_maps(child, idmap.uids, idmap.gids, groups=idmap.kind == "root")
            calls.setns(namespace, calls.CLONE_NEWUSER)
        except OSError as problem:
            raise _refused(problem, who) from None
        finally:
            os.close(namespace)
    finally:
        os.close(ready_read)
        os.close(done_write)
        if child:
            children.end_of(child)


def _map_by_helper(program: str, pid: int, extents: Iterable[Extent]) -> None:
    """Run newuidmap or newgidmap, which hold the right to map subordinate ids."""
    path = _find(program)
    if path is None:
        raise _MapRefused(f"no {program} here (apt-get install uidmap brings it)")
    numbers = [str(n) for extent in extents for n in extent]
    said_read, said_write = os.pipe()
    try:
        # Not the module subprocess: importing it costs more than all of this.
        helper = os.posix_spawn(
            path,
            [program, str(pid), *numbers],
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, said_write, 1),
                (os.POSIX_SPAWN_DUP2, said_write, 2),
            ],
        )
        os.close(said_write)
        said_write = -1
        said = b""
        while chunk := os.read(said_read, 4096):
            said += chunk
        code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    finally:
        os.close(said_read)
        if said_write >= 0:
            os.close(said_write)
    if code:
        why = " ".join(said.decode(errors="replace").split()) or f"exit code {code}"
        raise _MapRefused(f"{program} refused the range of subordinate ids: {why}")


def _find(program: str) -> str | None:
    """Where the host's own programs are; not by PATH, which is the user's."""
    for directory in _SYSTEM_PATH:
        path = f"{directory}/{program}"
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK):
                return path
    return None


def _keep_mounts_inside() -> None:
    # Slave, not private: what the host unmounts goes here too, and is not held busy.
    calls.mount(None, "/", flags=calls.MS_REC | calls.MS_SLAVE)


def _refused(problem: OSError, who: str) -> RepeatrError:
    """The error for a host that allows no enclosure, with the cause read from the host."""
    cause, remedy = why_no_user_namespace(problem)
    return RepeatrError(
        Category.EXECUTOR,
        f"this host lets {who} make no container: {cause}",
        remedy=remedy,
        details={"system": _said(problem)},
    )


def _said(problem: OSError) -> str:
    """What a failed call said, without its number."""
    return problem.strerror or str(problem)


def _who() -> str:
    return "root" if os.geteuid() == 0 else f"an ordinary user (uid {os.geteuid()})"


def why_no_user_namespace(problem: OSError) -> tuple[str, str]:
    """The cause of a refused user or mount namespace on this host, and the remedy."""
    for path, refusing, remedy in (
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "as root: sysctl -w user.max_user_namespaces=65536",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0,"
            " or an AppArmor profile that allows userns for this Python",
        ),
    ):
        try:
            with open(path) as setting:
                if setting.read().strip() == refusing:
                    name = path.removeprefix("/proc/sys/").replace("/", ".")
                    return f"{name} is {refusing}", remedy
        except OSError:
            continue
    if problem.errno == errno.ENOSPC:
        return (
            "the limit on user namespaces is reached",
            "as root: sysctl -w user.max_user_namespaces=65536",
        )
    if problem.errno in (errno.EPERM, errno.EACCES) and _seccomp_filtered():
        return (
            f"a seccomp filter refuses it ({_said(problem)})",
            "start the surrounding container with --security-opt seccomp=unconfined",
        )
    return (
        f"the kernel says: {_said(problem)}",
        "run as root, or in a place that allows user namespaces",
    )


def _seccomp_filtered() -> bool:
    try:
        with open("/proc/self/status", "rb") as status:
            return any(line.split() == [b"Seccomp:", b"2"] for line in status)
    except OSError:
        return False
