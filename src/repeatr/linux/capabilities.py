"""Linux capabilities: their numbers, and giving up all but a few.

Numbers are from linux/capability.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection

from repeatr.linux import calls

NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "LINUX_IMMUTABLE": 9,
    "NET_BIND_SERVICE": 10,
    "NET_BROADCAST": 11,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "IPC_LOCK": 14,
    "IPC_OWNER": 15,
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
    "SYS_PACCT": 20,
    "SYS_ADMIN": 21,
    "SYS_BOOT": 22,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "SYS_TIME": 25,
    "SYS_TTY_CONFIG": 26,
    "MKNOD": 27,
    "LEASE": 28,
    "AUDIT_WRITE": 29,
    "AUDIT_CONTROL": 30,
    "SETFCAP": 31,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    "SYSLOG": 34,
    "WAKE_ALARM": 35,
    "BLOCK_SUSPEND": 36,
    "AUDIT_READ": 37,
    "PERFMON": 38,
    "BPF": 39,
    "CHECKPOINT_RESTORE": 40,
}

_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def effective() -> int:
    """The calling thread's effective capabilities, as a bit mask (capget(2))."""
    # Not from /proc, which a root may lack.
    header = _Header(_VERSION_3, 0)
    words = (_Words * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(words)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capget: {os.strerror(code)}")
    low, high = (int(each.effective) for each in words)
    return low | high << 32


def has(name: str) -> bool:
    """Whether the calling thread has the capability `name` in effect."""
    return bool(effective() >> NUMBERS[name] & 1)


def bounding() -> int:
    """The bounding set, as a bit mask."""
    mask = 0
    for number in range(64):
        try:
            if calls.prctl(calls.PR_CAPBSET_READ, number):
                mask |= 1 << number
        except OSError:
            break
    return mask


def become(uid: int, gid: int, keep: Collection[str] | None) -> None:
    """Become the user `uid`:`gid` with the capabilities `keep` and no others, for good.

    None keeps all that there are. What the caller does not have itself is left out. The
    order is the point: the bounding set is dropped while that is still allowed; KEEPCAPS
    carries the permitted set over the change of user; then the sets are narrowed, and
    ambient capabilities hand them on to what is executed.
    """
    permitted = effective() & bounding()
    wanted = permitted if keep is None else sum(1 << NUMBERS[name] for name in keep) & permitted
    for number in range(64):
        if not wanted >> number & 1:
            try:
                calls.prctl(calls.PR_CAPBSET_DROP, number)
            except OSError as problem:
                if problem.errno == errno.EINVAL:  # past the kernel's last capability
                    break
                raise
    calls.prctl(calls.PR_SET_KEEPCAPS, 1)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _set(wanted)
    calls.prctl(calls.PR_SET_KEEPCAPS, 0)
    for number in range(64):
        if wanted >> number & 1:
            calls.prctl(calls.PR_CAP_AMBIENT, calls.PR_CAP_AMBIENT_RAISE, number)


def _set(mask: int) -> None:
    header = _Header(_VERSION_3, 0)
    words = (_Words * 2)()
    for index in range(2):
        part = mask >> (32 * index) & 0xFFFFFFFF
        words[index] = _Words(part, part, part)
    if _libc.capset(ctypes.byref(header), ctypes.byref(words)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset {mask:#x}: {os.strerror(code)}")
