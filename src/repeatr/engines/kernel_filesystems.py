"""/proc and /dev of a container: fresh, minimal, and with the host's secrets masked."""

from __future__ import annotations

import contextlib
import os
import stat

from repeatr.linux import calls

#: Where they are mounted, relative to the root.
MOUNT_POINTS = ("proc", "dev")

#: The group that terminals belong to, by convention of the kernel's devpts documentation.
TTY_GROUP = 5

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# The same paths as the OCI runtimes mask and write-protect.
_MASKED = (
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi",
    "timer_list", "timer_stats",
)  # fmt: skip
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")

_QUIET = calls.MS_NOSUID | calls.MS_NOEXEC


def mount_dev(root: str, *, tty_group: bool) -> None:
    """Mount a minimal /dev: six devices of the host, pseudo terminals, shm and mqueue.

    `tty_group` says whether TTY_GROUP exists in the id map: terminals then belong to it.
    """
    dev = _mount_point(root, "dev")
    calls.mount("tmpfs", dev, "tmpfs", _QUIET, "mode=755,size=1m")
    for name in _DEVICES:
        path = f"{dev}/{name}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        calls.mount(f"/dev/{name}", path, flags=calls.MS_BIND)
        # It is the host's own node: one can write to the device, but not chmod or chown it.
        calls.restrict(path, calls.MS_RDONLY)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{dev}/{name}")
    options = "newinstance,ptmxmode=0666,mode=0620" + (f",gid={TTY_GROUP}" if tty_group else "")
    calls.mount("devpts", f"{dev}/pts", "devpts", _QUIET, options)
    calls.mount("shm", f"{dev}/shm", "tmpfs", _QUIET | calls.MS_NODEV, "mode=1777")
    with contextlib.suppress(OSError):  # a kernel without POSIX message queues
        calls.mount("mqueue", f"{dev}/mqueue", "mqueue", _QUIET | calls.MS_NODEV)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{dev}/{name}")


def mount_proc(root: str) -> None:
    """Mount a fresh /proc of the caller's pid namespace, masked. Needs /dev mounted."""
    proc = _mount_point(root, "proc")
    calls.mount("proc", proc, "proc", _QUIET | calls.MS_NODEV)
    for name in _MASKED:
        path = f"{proc}/{name}"
        try:
            is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            continue
        if is_directory:
            calls.mount("tmpfs", path, "tmpfs", _QUIET | calls.MS_RDONLY, "size=0,mode=555")
        else:
            calls.mount("/dev/null", path, flags=calls.MS_BIND)
    for name in _READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.lexists(path):
            calls.mount(path, path, flags=calls.MS_BIND | calls.MS_REC)
            kept = _QUIET | calls.MS_NODEV
            calls.mount(None, path, flags=calls.MS_BIND | calls.MS_REMOUNT | calls.MS_RDONLY | kept)


def _mount_point(root: str, name: str) -> str:
    path = f"{root}/{name}"
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(20, f"/{name} of the root is not a directory")
    return path
