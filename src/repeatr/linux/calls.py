"""The system calls that Python's `os` lacks, each raising an OSError that says what it was.

Constants are from the kernel's UAPI headers (linux/sched.h, linux/mount.h, linux/prctl.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
_PR_SET_MM = 35
_PR_SET_MM_MAP = 14
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SIGCHLD = 17
_AF_INET = 2
_SOCK_DGRAM = 2
_SOCK_CLOEXEC = 0x80000
_KEYCTL_JOIN_SESSION_KEYRING = 1

# Numbers that differ between machines; the newer ones are the same everywhere.
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220, "ppc64le": 120}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "loongarch64": 41, "ppc64le": 203}
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271}
_CLOSE_RANGE = 436
_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
#: The same library with the interpreter's lock held across the call: for clone.
_libc_locked = ctypes.PyDLL(None, use_errno=True)

Path = str | bytes | os.PathLike[str]


def _encode(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def _fail(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` (CLONE_NEW*) names for new ones."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise _fail(f"unshare {flags:#x}")


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace that `fd` refers to."""
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) != 0:
        raise _fail(f"setns {flags:#x}")


def clone(flags: int) -> int:
    """Fork into new namespaces in one step. Returns 0 in the child, its pid in the parent.

    Only for processes without other threads: the C library's fork handlers do not run.
    """
    number = _number(_CLONE, "clone")
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid: int = _libc_locked.syscall(
        ctypes.c_long(number), ctypes.c_ulong(flags | _SIGCHLD), None, None, None, ctypes.c_ulong(0)
    )
    code = ctypes.get_errno()
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"clone {flags:#x}: {os.strerror(code)}")
    return pid


def mount(
    source: Path | None, target: Path, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """mount(2). `data` holds the filesystem's own options."""
    done = _libc.mount(
        _encode(source) or b"none",
        _encode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    if done != 0:
        raise _fail(f"mount {kind or 'bind'} on {os.fsdecode(target)} ({data or hex(flags)})")


def unmount(target: Path, flags: int = MNT_DETACH) -> None:
    """umount2(2); detaches by default, so that a busy mount goes away when it can."""
    if _libc.umount2(_encode(target), ctypes.c_int(flags)) != 0:
        raise _fail(f"unmount {os.fsdecode(target)}")


def make_read_only(target: Path) -> None:
    """Make the mount at `target`, and all below it, read-only."""
    restrict(target, MS_RDONLY)


def restrict(target: Path, flags: int) -> None:
    """Add `flags` (of MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC) to a mount and all below it.

    By mount_setattr(2), whose attributes of these names have the same values; kernels before
    5.12 get one remount after the other, each keeping the flags that it has.
    """
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    done = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        _encode(target),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(32),
    )
    if done == 0:
        return
    for path in mounts_at(target):
        # A user namespace may not clear what is set. The values are those of statvfs(3).
        kept = os.statvfs(path).f_flag & (
            MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME
        )
        mount(None, path, flags=MS_BIND | MS_REMOUNT | flags | kept)


def mounts_at(target: Path) -> list[bytes]:
    """The mount points at and below `target`, parents first (/proc/self/mountinfo)."""
    top = os.path.realpath(_encode(target) or b".")
    found = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            escaped = line.split(b" ", 5)[4]
            point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), escaped)
            if point == top or point.startswith(top.rstrip(b"/") + b"/"):
                found.append(point)
    return sorted(set(found), key=len)


def close_from(first: int) -> None:
    """Close every file descriptor from `first` on.

    Not `os.closerange`: a Python that was built for an old C library closes two thousand
    million numbers there, one by one.
    """
    number = ctypes.c_long(_CLOSE_RANGE)
    if _libc.syscall(number, ctypes.c_uint(first), ctypes.c_uint(2**32 - 1), ctypes.c_uint(0)) == 0:
        return
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc: then up to where numbers could have gone
        fds = list(range(first, os.sysconf("SC_OPEN_MAX")))
    for fd in fds:
        if fd >= first:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(fd)


def leave_session_keyring() -> None:
    """Take a new, empty session keyring: the caller's may hold keys (keyrings(7)).

    Where the kernel has no keys, or a seccomp filter denies them all, there is nothing to leave.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(ctypes.c_long(number), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None)


def pivot_root(new: Path, old: Path) -> None:
    """pivot_root(2)."""
    number = _number(_PIVOT_ROOT, "pivot_root")
    if _libc.syscall(ctypes.c_long(number), _encode(new), _encode(old)) != 0:
        raise _fail(f"pivot_root {os.fsdecode(new)}")


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2) with whole-number arguments."""
    done: int = _libc.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(argument),
        ctypes.c_ulong(second),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    if done < 0:
        raise _fail(f"prctl {option}")
    return done


def datagram_socket() -> int:
    """A descriptor to ask for network settings with. Importing `socket` takes 2 ms."""
    fd: int = _libc.socket(_AF_INET, _SOCK_DGRAM | _SOCK_CLOEXEC, 0)
    if fd < 0:
        raise _fail("socket")
    return fd


def set_process_name(name: bytes) -> None:
    """What `ps` shows as this process's command (at most 15 bytes)."""
    buffer = ctypes.create_string_buffer(name[:15])
    _libc.prctl(ctypes.c_int(PR_SET_NAME), buffer, None, None, None)


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    encoded = name.encode()
    if _libc.sethostname(encoded, ctypes.c_size_t(len(encoded))) != 0:
        raise _fail(f"sethostname {name!r}")


class _MemoryMap(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h."""

    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in (
                "start_code",
                "end_code",
                "start_data",
                "end_data",
                "start_brk",
                "brk",
                "start_stack",
                "arg_start",
                "arg_end",
                "env_start",
                "env_end",
                "auxv",
            )
        ),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


def forget_command_line(name: bytes) -> None:
    """Make /proc/PID/cmdline say `name` and /proc/PID/environ nothing.

    A forked process shows its parent's arguments and environment there. They are
    overwritten; where the kernel allows it (PR_SET_MM_MAP), their length goes too.
    """
    with open("/proc/self/stat", "rb") as stat:
        # Numbered as in proc(5); the command's name in parentheses may hold spaces.
        fields = [b"", b"", b"", *stat.read().rpartition(b")")[2].split()]
    numbers = {n: int(fields[n]) for n in (26, 27, 28, 45, 46, 47, 48, 49, 50, 51)}
    arg_start, arg_end, env_start, env_end = (numbers[n] for n in (48, 49, 50, 51))
    ctypes.memset(env_start, 0, env_end - env_start)
    ctypes.memset(arg_start, 0, arg_end - arg_start)
    name = name[: max(arg_end - arg_start - 1, 0)]
    ctypes.memmove(arg_start, name, len(name))
    _libc.sbrk.restype = ctypes.c_void_p
    memory = _MemoryMap(
        numbers[26], numbers[27], numbers[45], numbers[46], numbers[47], _libc.sbrk(0),
        numbers[28], arg_start, arg_start + len(name) + 1, env_start, env_start, 0, 0, 2**32 - 1,
    )  # fmt: skip
    _libc.prctl(
        ctypes.c_int(_PR_SET_MM),
        ctypes.c_ulong(_PR_SET_MM_MAP),
        ctypes.byref(memory),
        ctypes.c_ulong(ctypes.sizeof(memory)),
        ctypes.c_ulong(0),
    )  # kernels without CONFIG_CHECKPOINT_RESTORE refuse: then only the length shows


def _number(numbers: dict[str, int], name: str) -> int:
    try:
        return numbers[os.uname().machine]
    except KeyError:
        raise OSError(38, f"{name}: not known for the machine {os.uname().machine!r}") from None
