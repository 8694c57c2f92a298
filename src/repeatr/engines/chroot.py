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
from typing import NoReturn

from repeatr.engines import supervise
from repeatr.engines.contract import Available, Exit, Job, Traits, Unavailable
from repeatr.engines.descriptors import Pipes, keep_only
from repeatr.engines.kernel_filesystems import MOUNT_POINTS, mount_dev, mount_proc
from repeatr.engines.launch import become, process_of
from repeatr.linux import calls
from repeatr.linux.enclosure import Enclosure

#: Signals that are passed on to the process's group.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

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
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(OSError):
                os.chroot("/")
                code = 0
            os._exit(code)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
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
        }

    def execute(self, job: Job) -> Exit:
        """See `contract.Engine.execute`."""
        nodes: list[str] = []
        if not job.enclosure.can_mount:
            nodes = _make_nodes(os.fspath(job.root))
        try:
            with Pipes() as pipes:
                pid = os.fork()
                if pid == 0:
                    _supervisor(job, pipes)
                pipes.close_inside_ends()
                return supervise.watch(job, pid, pipes.output_read, pipes.report_read)
        finally:
            for path in nodes:
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _make_nodes(root: str) -> list[str]:
    """Make the devices that a process can hardly do without, where the root has none."""
    made = []
    for name, major, minor in _NODES:
        path = f"{root}/dev/{name}"
        with contextlib.suppress(OSError):  # there already, or not allowed
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(path, 0o666)
            made.append(path)
    return made


def _supervisor(job: Job, pipes: Pipes) -> NoReturn:
    """Run the process, and see to it that nothing which it started is left.

    Not a parent-death signal but the end of the life pipe tells that Repeatr is gone: this
    process must live long enough to kill what it adopted.
    """
    code = 1
    report = pipes.report_write
    mounts: list[str] = []
    try:
        os.close(pipes.life_write)
        report, output, life = keep_only(pipes.report_write, pipes.output_write, pipes.life_read)
        os.umask(0o022)
        os.setsid()
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        _mount(job, mounts)
        wake = _wake_up_pipe()
        child = os.fork()
        if child == 0:
            # chroot(2) is not among the policy's capabilities, and so comes first.
            try:
                os.chroot(job.root)
                os.chdir("/")
            except OSError as problem:
                os.write(report, b"fail chroot: %s\n" % str(problem).encode())
                os._exit(1)
            become(process_of(job, output), report)
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
        for path in reversed(mounts):
            with contextlib.suppress(OSError):
                calls.unmount(path)
        os._exit(code)


def _mount(job: Job, mounts: list[str]) -> None:
    """Mount /dev and /proc. In a mount namespace of their own they go with this process."""
    if not job.enclosure.can_mount:
        return
    root = os.fspath(job.root)
    try:
        calls.unshare(calls.CLONE_NEWNS)
        calls.mount(None, "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    except OSError:
        mounts += [f"{root}/dev", f"{root}/proc"]
    mount_dev(root, tty_group=True)
    mount_proc(root)


def _wake_up_pipe() -> int:
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_FORWARDED):
        signal.signal(number, lambda _number, _frame: None)
    return read


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
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 512):
                if number in _FORWARDED:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child, number)


def _kill_descendants() -> None:
    """Kill every process below this one. Orphans become our children, so the end is none left."""
    while True:
        try:
            with open("/proc/thread-self/children") as children:
                pids = [int(pid) for pid in children.read().split()]
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
