"""The engine `chroot`: another root directory and nothing else; for root only.

It works where no namespace can be made, and it leaks for the same reason: the process
shares the host's processes, network, hostname and IPC. It gets the same /dev and /proc as
in other engines where mounts are allowed, a minimal /dev of device nodes where not.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import time
from collections.abc import Iterator
from typing import NoReturn

from repeatr.engines import supervise
from repeatr.engines.contract import Available, Exit, Job, Traits, Unavailable
from repeatr.engines.descriptors import Pipes, keep_only
from repeatr.engines.kernel_filesystems import MOUNT_POINTS, mount_dev, mount_proc
from repeatr.engines.launch import become, pass_on, process_of, wake_up_pipe
from repeatr.fileset.dirfds import OPEN_DIRECTORY
from repeatr.linux import calls, children
from repeatr.linux.enclosure import Enclosure

# Where nothing can be mounted, these are made: name, mode, major and minor number
# (Documentation/admin-guide/devices.txt of the kernel).
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9))


class Chroot:
    """Another root directory, for root only: the universally available engine."""

    name = "chroot"
    traits = Traits(
        hostname=False,
        pid_isolation=False,
        network_deny=False,
        network_host=True,
        mount_isolation=False,
        ipc_isolation=False,
    )
    mount_points = MOUNT_POINTS

    def probe(self, enclosure: Enclosure) -> Available | Unavailable:
        """Change the root in a child."""
        if os.geteuid() != 0 or enclosure.own_user_namespace:
            return Unavailable("only root may change the root directory", "run as root (sudo)")
        if children.end_of(children.start(lambda: os.chroot("/"))) != 0:
            return Unavailable(
                "the capability SYS_CHROOT is missing",
                "give it to the surrounding container (--cap-add SYS_CHROOT)",
            )
        return Available(os.uname().release, "isolates nothing but paths")

    def isolation(self, job: Job) -> dict[str, str]:
        """What is shared with the host: nearly all."""
        del job
        return {
            "owners": "all",
            "hostname": "host",
            "pid": "host",
            "ipc": "host",
            "mount": "host",
            "user": "host",
            "cgroup": "host",
            "network": "host",
            "capabilities": "fewer",
        }

    def execute(self, job: Job) -> Exit:
        """See `contract.Engine.execute`."""
        root = os.path.realpath(job.root)
        if job.capabilities is not None:
            # The processes in reach are the host's: KILL would be a right over all of them.
            job = job._replace(capabilities=job.capabilities - {"KILL"})
        with _devices(root, needed=not job.enclosure.can_mount), Pipes() as pipes:
            pipes.give_output_to(job.uid, job.gid)
            with children.signals_held():
                pid = os.fork()
                if pid == 0:
                    _supervisor(job, pipes)
            pipes.close_inside_ends()
            try:
                return supervise.watch(
                    job,
                    pid,
                    pipes.output_read,
                    pipes.report_read,
                    kill=pipes.let_go,
                    sweep=lambda: _kill_all_in(root),
                )
            finally:
                if not job.enclosure.own_mount_namespace:
                    _unmount(root)


@contextlib.contextmanager
def _devices(root: str, *, needed: bool) -> Iterator[None]:
    """Make the devices that a process can hardly do without, where the root has none."""
    if not needed:
        yield
        return
    # Held open: what /dev is afterwards is for the process to say, and may be a link to ours.
    dev = os.open(f"{root}/dev", OPEN_DIRECTORY)
    try:
        before = os.stat(dev)
        made = {}
        for name, major, minor in _NODES:
            with contextlib.suppress(OSError):  # there already, or not allowed
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
                os.chmod(name, 0o666, dir_fd=dev)
                made[name] = os.stat(name, dir_fd=dev, follow_symlinks=False).st_ino
        if made:
            os.utime(dev, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield
        after = os.stat(dev)
        for name, inode in made.items():
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=dev, follow_symlinks=False).st_ino == inode:
                    os.unlink(name, dir_fd=dev)
        if made:
            os.utime(dev, ns=(after.st_atime_ns, after.st_mtime_ns))
    finally:
        os.close(dev)


def _unmount(root: str) -> None:
    for name in MOUNT_POINTS:
        with contextlib.suppress(OSError):
            calls.unmount(f"{root}/{name}", calls.MNT_DETACH | calls.UMOUNT_NOFOLLOW)


def _kill_all_in(root: str) -> None:
    """Kill what the supervisor did not, because it was killed itself: all whose root is `root`."""
    inside = root + "/"
    while True:
        left = False
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                if f"{os.readlink(f'/proc/{name}/root')}/".startswith(inside):
                    os.kill(int(name), signal.SIGKILL)
                    left = True
        if not left:
            return
        time.sleep(0.001)


def _supervisor(job: Job, pipes: Pipes) -> NoReturn:
    """Run the process, and see to it that nothing which it started is left.

    Not a parent-death signal but the end of the life pipe tells that Repeatr is gone: this
    process must live long enough to kill what it adopted.
    """
    code = 1
    report = pipes.report_write
    try:  # signals are held until there is something to pass them on to
        os.close(pipes.life_write)
        report, output, life = keep_only(pipes.report_write, pipes.output_write, pipes.life_read)
        os.umask(0o022)
        os.setsid()
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        _mount(job)
        wake = wake_up_pipe()
        child = os.fork()
        if child == 0:
            become(process_of(job, output), report, lambda: _enter(job))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, children.SENT)
        os.close(output)
        status = _wait(child, wake, life)
        _kill_descendants()
        if status is not None:
            ended = os.waitstatus_to_exitcode(status)
            os.write(report, b"signal %d\n" % -ended if ended < 0 else b"exit %d\n" % ended)
        code = 0
    except BaseException as problem:  # must not unwind into the code that forked us
        os.write(report, b"fail %s\n" % str(problem).encode()[:400].replace(b"\n", b" "))
    finally:
        os._exit(code)


def _enter(job: Job) -> None:
    # Not among the capabilities of most policies, and so before they are given up.
    os.chroot(job.root)
    os.chdir("/")


def _mount(job: Job) -> None:
    """Mount /dev and /proc. In a mount namespace of their own they go with this process."""
    if not job.enclosure.can_mount:
        return
    root = os.fspath(job.root)
    with contextlib.suppress(OSError):
        calls.unshare(calls.CLONE_NEWNS)
        calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)
        calls.mount(root, root, flags=calls.MS_BIND | calls.MS_REC)
        # A fileset may hold device nodes, which are the host's devices.
        calls.restrict(root, calls.MS_NODEV)
    mount_dev(root, tty_group=True)
    mount_proc(root)


def _wait(child: int, wake: int, life: int) -> int | None:
    """The wait status of `child`; None where Repeatr went first. Orphans are reaped meanwhile."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == child:
                    return status
                if pid == 0:
                    break
        ready, _, _ = select.select([wake, life], [], [])
        if life in ready:
            return None
        pass_on(wake, child)


def _kill_descendants() -> None:
    """Kill every process below this one. Orphans become our children, so the end is none left."""
    while True:
        pids = _children()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """The children of this process, which has one thread."""
    try:
        with open("/proc/thread-self/children") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        me = str(os.getpid()).encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as status:
                if status.read().rpartition(b")")[2].split()[1] == me:
                    found.append(int(name))
    return found
