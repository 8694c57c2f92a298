"""A seccomp filter that denies system calls, as a surrounding container's profile does."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from repeatr.linux import calls

NUMBERS = {
    "x86_64": {"unshare": 272, "clone": 56, "mount": 165, "pidfd_open": 434, "keyctl": 250},
    "aarch64": {"unshare": 97, "clone": 220, "mount": 40, "pidfd_open": 434, "keyctl": 219},
}

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data (linux/seccomp.h).
_NUMBER, _FIRST_ARGUMENT = 0, 16


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def deny(name: str, flags: int = 0, code: int = errno.EPERM) -> None:
    """From now on the system call `name` (with any of `flags`, where given) fails with `code`."""
    number = NUMBERS[platform.machine()][name]
    steps = [(_LOAD_WORD, 0, 0, _NUMBER)]
    if flags:
        steps += [
            (_JUMP_IF_EQUAL, 0, 2, number),
            (_LOAD_WORD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_IF_ANY, 1, 0, flags),
        ]
    else:
        steps += [(_JUMP_IF_EQUAL, 1, 0, number)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | code)]
    code_bytes = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code_bytes, len(code_bytes))
    program = _Program(len(steps), ctypes.cast(buffer, ctypes.c_void_p))
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    calls.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))
