"""The network device of a container that is kept from the network."""

from __future__ import annotations

import os
import struct
from fcntl import ioctl

from repeatr.linux import calls

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFF_RUNNING = 0x40


def loopback_up() -> None:
    """Bring `lo` up in this process's network namespace (netdevice(7))."""
    control = calls.datagram_socket()
    try:
        ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP | _IFF_RUNNING))
    finally:
        os.close(control)
