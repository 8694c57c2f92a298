"""The engine `namespaces`: how the container is made, step by step.

The order of the steps is the design:

1.  Repeatr clones a child into new namespaces of every kind: user, mount, pid, IPC, UTS,
    network, cgroup. The child is pid 1 of the container.
2.  Repeatr writes the child's id maps; only then is the child root in its namespaces.
3.  The child arms its parent-death signal, forgets Repeatr's command line and environment,
    closes every descriptor it was not given, and names the host.
4.  It binds the root onto itself (a mount that may become the root), mounts /dev and /proc
    in it, pivots, and lets go of the old root: from here on nothing of the host is in reach.
5.  It forks the process, which becomes the action's user and loses the capabilities that
    the policy does not give, before it executes anything. One that may mount first goes into
    a user namespace of its own, where these mounts are locked.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import NoReturn

from repeatr.engines import supervise
from repeatr.engines.contract import Available, Exit, Job, Traits, Unavailable
from repeatr.engines.descriptors import Pipes, keep_only
from repeatr.engines.kernel_filesystems import MOUNT_POINTS, TTY_GROUP, mount_dev, mount_proc
from repeatr.engines.launch import process_of
from repeatr.engines.namespaces import init
from repeatr.engines.namespaces.loopback import loopback_up
from repeatr.engines.namespaces.sealing import Ids, Seal
from repeatr.errors import Category, RepeatrError
from repeatr.linux import calls, children
from repeatr.linux.enclosure import Enclosure, why_no_user_namespace, write_maps
from repeatr.linux.idmaps import Extent, IdMap

_ALL_BUT_NETWORK = (
    calls.CLONE_NEWUSER
    | calls.CLONE_NEWNS
    | calls.CLONE_NEWPID
    | calls.CLONE_NEWIPC
    | calls.CLONE_NEWUTS
    | calls.CLONE_NEWCGROUP
)


class Namespaces:
    """Containers from Linux namespaces: for root and ordinary users, without a helper program."""

    name = "namespaces"
    traits = Traits(
        hostname=True,
        pid_isolation=True,
        network_deny=True,
        network_host=True,
        mount_isolation=True,
        ipc_isolation=True,
    )
    mount_points = MOUNT_POINTS

    def probe(self, enclosure: Enclosure) -> Available | Unavailable:
        """Make a container with every namespace and a fresh /proc, and let it go again."""
        if not enclosure.can_mount:
            return Unavailable(
                f"no mounts can be made here: {enclosure.note}",
                "run as a user who may make user namespaces, or use the engine chroot",
            )
        with Pipes() as pipes:
            # `report` tells which step failed; `life` that the maps are written.
            try:
                pid = children.start(lambda: _try(pipes), lambda: _clone("none"))
            except OSError as problem:
                return Unavailable(*why_no_user_namespace(problem))
            pipes.close_inside_ends()
            with _killed_on_error(pid):
                try:
                    _write_inner_maps(pid, enclosure.idmap, 0, 0)
                except OSError as problem:
                    os.kill(pid, signal.SIGKILL)
                    children.end_of(pid)
                    return Unavailable(*why_no_user_namespace(problem))
                os.write(pipes.life_write, b"\0")
                code = children.end_of(pid)
            step = os.read(pipes.report_read, 64)
        if code:
            return _why_not(step, OSError(abs(code), os.strerror(abs(code))))
        return Available(os.uname().release, f"owners: {owners(enclosure.idmap)}")

    def isolation(self, job: Job) -> dict[str, str]:
        """What this engine isolates `job` from."""
        return {
            "owners": owners(job.enclosure.idmap),
            "hostname": "isolated",
            "pid": "isolated",
            "ipc": "isolated",
            "mount": "isolated",
            "user": "isolated",
            "cgroup": "isolated",
            "network": "isolated" if job.network == "none" else "host",
        }

    def execute(self, job: Job) -> Exit:
        """See `contract.Engine.execute`."""
        with Pipes() as pipes:
            pipes.give_output_to(job.uid, job.gid)
            try:
                with children.signals_held():
                    pid = _clone(job.network)
                    if pid == 0:
                        _container(job, pipes)
            except OSError as problem:
                cause, remedy = why_no_user_namespace(problem)
                raise RepeatrError(
                    Category.EXECUTOR, f"no namespaces for the container: {cause}", remedy=remedy
                ) from None
            pipes.close_inside_ends()
            with _killed_on_error(pid):
                try:
                    _write_inner_maps(pid, job.enclosure.idmap, job.uid, job.gid)
                except OSError as problem:
                    raise RepeatrError(
                        Category.EXECUTOR,
                        f"the container's user ids could not be mapped: {problem}",
                    ) from None
                os.write(pipes.life_write, b"\0")
            return supervise.watch(job, pid, pipes.output_read, pipes.report_read)


def owners(idmap: IdMap) -> str:
    """The trait `owners`: `all` where files have owners, `single` where one id owns everything."""
    return "single" if idmap.kind == "single" else "all"


@contextlib.contextmanager
def _killed_on_error(pid: int) -> Iterator[None]:
    """Kill and reap the child `pid` where anything is raised, an interrupt as well."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            children.end_of(pid)
        raise


def _clone(network: str) -> int:
    return calls.clone(_ALL_BUT_NETWORK | (calls.CLONE_NEWNET if network == "none" else 0))


def _write_inner_maps(pid: int, idmap: IdMap, uid: int, gid: int) -> None:
    write_maps(pid, *_inner_map(idmap, uid, gid), groups=idmap.kind != "single")


def _inner_map(idmap: IdMap, uid: int, gid: int) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """The ids inside: the enclosure's, one to one; or its only one, shown as uid:gid."""
    if idmap.kind == "single":
        return (Extent(uid, 0, 1),), (Extent(gid, 0, 1),)
    return (
        tuple(Extent(e.inside, e.inside, e.length) for e in idmap.uids),
        tuple(Extent(e.inside, e.inside, e.length) for e in idmap.gids),
    )


def _try(pipes: Pipes) -> None:
    """What the making of a container needs of the kernel, in a container."""
    os.close(pipes.life_write)
    os.read(pipes.life_read, 1)
    calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    os.write(pipes.report_write, b"proc")
    calls.mount("proc", "/proc", "proc", calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC)
    os.write(pipes.report_write, b" pivot")
    os.chdir("/proc")
    calls.pivot_root(".", ".")


def _why_not(step: bytes, problem: OSError) -> Unavailable:
    if step == b"proc":
        return Unavailable(
            f"a fresh /proc can't be mounted ({problem.strerror}):"
            " this is a container whose /proc is masked",
            "start the surrounding container with an unmasked /proc"
            " (podman: --security-opt unmask=ALL;"
            " docker: --security-opt systempaths=unconfined)",
        )
    if step == b"proc pivot":
        return Unavailable(
            f"the root can't be changed ({problem.strerror}): this system runs from its initramfs",
            "boot it from a filesystem, or run as root with --engine=chroot",
        )
    return Unavailable(*why_no_user_namespace(problem))


def _container(job: Job, pipes: Pipes) -> NoReturn:
    """Pid 1 of the container, from its first instruction to its last."""
    code = 1
    report = pipes.report_write
    try:  # signals are held until there is something to pass them on to
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
        # Repeatr may have died before that was armed: then the pipe is at its end already.
        os.close(pipes.life_write)
        if not os.read(pipes.life_read, 1):
            os._exit(1)
        report, output, life = keep_only(pipes.report_write, pipes.output_write, pipes.life_read)
        os.umask(0o022)
        os.setsid()
        calls.set_hostname(job.hostname)
        if job.network == "none":
            loopback_up()
        _change_root(os.fspath(job.root), job.enclosure.idmap)
        calls.set_process_name(b"init")
        calls.forget_command_line(b"init")
        # Not dumpable: the process, even where it has the same user id, can't look into us.
        calls.prctl(calls.PR_SET_DUMPABLE, 0)
        init.run(process_of(job, output), report, life, _seal(job))
        code = 0
    except BaseException as problem:  # must not unwind into the code that forked us
        os.write(report, b"fail %s\n" % str(problem).encode()[:400].replace(b"\n", b" "))
    finally:
        os._exit(code)


def _seal(job: Job) -> Seal | None:
    if job.capabilities is not None:
        return None  # it may not mount
    uids, gids = _inner_map(job.enclosure.idmap, job.uid, job.gid)
    same = Ids(*(tuple(Extent(e.inside, e.inside, e.length) for e in ids) for ids in (uids, gids)))
    return Seal(same, own_network=job.network == "none")


def _change_root(root: str, idmap: IdMap) -> None:
    calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    calls.mount(root, root, flags=calls.MS_BIND | calls.MS_REC)
    # A fileset may hold device nodes, and unpacked by root they are the host's devices.
    calls.restrict(root, calls.MS_NODEV)
    os.chdir(root)
    mount_dev(".", tty_group=idmap.kind != "single" and idmap.holds(0, TTY_GROUP))
    mount_proc(".")
    calls.pivot_root(".", ".")
    # The old root lies over the new one now; without it, "." is the new one.
    calls.unmount(".")
    os.chdir("/")
