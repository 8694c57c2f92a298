"""Optional traits: tested where the engine claims them; where not, it must say `host`."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import pytest

from repeatr.engines.conformance.harness import Container, with_pattern

#: The traits, and under which name `isolation()` tells of them.
TOLD_AS = {
    "hostname": "hostname",
    "pid_isolation": "pid",
    "network_deny": "network",
    "mount_isolation": "mount",
    "ipc_isolation": "ipc",
}


@pytest.mark.parametrize("trait", TOLD_AS)
def test_told(container: Container, trait: str) -> None:
    """The record says `isolated` of what the engine claims and gave, `host` of what it does not."""
    told = container.run("/bin/true").isolation
    claimed = getattr(container.traits, trait)
    assert told[TOLD_AS[trait]] == ("isolated" if claimed else "host")
    assert told["owners"] in ("all", "single")


def claimed(container: Container, trait: str) -> None:
    """Skip a test of a trait that the engine does not claim."""
    if not getattr(container.traits, trait):
        pytest.skip(f"{container.engine_name} does not claim {trait}")


@pytest.mark.parametrize("hostname", ["repeatr", "build-1", "x" * 64])
def test_hostname(container: Container, hostname: str) -> None:
    """The process sees the hostname that it was given, and the host keeps its own."""
    claimed(container, "hostname")
    own = os.uname().nodename
    done = container.run("/bin/cat", "/proc/sys/kernel/hostname", hostname=hostname)
    assert done.lines == [hostname]
    assert os.uname().nodename == own


def test_processes(container: Container) -> None:
    """The process sees its container's processes and no others."""
    claimed(container, "pid_isolation")
    done = container.sh(
        "ls /proc | grep '^[0-9]' | wc -l; cat /proc/[0-9]*/cmdline /proc/[0-9]*/comm"
    )
    assert int(done.lines[0]) < 10
    assert "python" not in done.text
    assert "pytest" not in done.text


@pytest.mark.parametrize(("uid", "policy"), [(1000, "routine"), (0, "governor"), (0, "sysad")])
def test_environment_of_others(container: Container, uid: int, policy: str) -> None:
    """Nothing of Repeatr's environment, memory or files can be read through /proc."""
    claimed(container, "pid_isolation")
    done = container.sh(
        "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] && continue; cat $p/environ; done 2>/dev/null;"
        "for what in fd/0 fd/3 fd/4 fd/5 root cwd exe; do readlink /proc/1/$what; done 2>/dev/null;"
        "head -c1 /proc/1/mem 2>/dev/null; cat /proc/1/maps 2>/dev/null; exit 0",
        env={"PATH": "/bin"},
        uid=uid,
        policy=policy,
    )
    left = done.text.replace("PATH=/bin\0", "")
    assert re.sub(r"(PWD|SHLVL|OLDPWD|_)=[^\0]*\0", "", left) == ""


def test_mounts(container: Container) -> None:
    """The process sees no mounts but its own, and no path of the host in them."""
    claimed(container, "mount_isolation")
    lines = container.run("/bin/cat", "/proc/self/mountinfo").lines
    points = [line.split()[4] for line in lines]
    assert all(re.match(r"^/$|^/(dev|proc)(/|$)", point) for point in points), points
    root = next(line for line in lines if line.split()[4] == "/")
    if " overlay " in root:
        assert container.base.name not in "\n".join(lines)
        assert "/lower" not in root


def test_host_files_are_out_of_reach(container: Container) -> None:
    """No way leads out of the root."""
    marker = container.base / "marker"
    marker.write_text("host\n")
    done = container.sh(
        f"cat {marker}; cat /../../..{marker}; cat /proc/self/root{marker};"
        f"cat /proc/1/root{marker}; cat /proc/self/cwd/../../../..{marker}; ls -a /.. ; exit 0"
    )
    assert "host" not in done.lines
    assert "bin" in done.lines


def test_ipc(container: Container) -> None:
    """System V shared memory of the host is not seen."""
    claimed(container, "ipc_isolation")
    libc = ctypes.CDLL(None)
    private, create_0600 = 0, 0o1600
    segment = libc.shmget(private, ctypes.c_size_t(4096), create_0600)
    assert segment >= 0
    try:
        assert len(container.run("/bin/cat", "/proc/sysvipc/shm").lines) == 1
    finally:
        libc.shmctl(segment, 0, None)


def test_network_denied(container: Container) -> None:
    """With network `none` there is the loopback device alone, and it is up."""
    claimed(container, "network_deny")
    done = container.sh("cat /proc/net/dev; echo; cat /proc/net/fib_trie", network="none")
    devices, _, routes = done.text.partition("\n\n")
    # Some kernels put tunnels into every network namespace; they lead nowhere.
    assert _devices(devices) - {"sit0", "ip6tnl0", "tunl0", "gre0", "gretap0", "erspan0"} == {"lo"}
    assert "127.0.0.1" in routes
    assert done.isolation["network"] == "isolated"


def test_network_of_the_host(container: Container) -> None:
    """With network `host` there are the host's devices, and the record says so."""
    claimed(container, "network_host")
    done = container.run("/bin/cat", "/proc/net/dev", network="host")
    assert _devices(done.text) == _devices(Path("/proc/net/dev").read_text())
    assert done.isolation["network"] == "host"


def _devices(text: str) -> set[str]:
    return {line.partition(":")[0].strip() for line in text.splitlines() if ":" in line}


@pytest.mark.parametrize("uid", [1000, 0])
@pytest.mark.parametrize("policy", ["routine", "governor", "sysad"])
def test_mounting_reaches_nothing(container: Container, uid: int, policy: str) -> None:
    """Whatever the process mounts or unmounts, no host setting can be written."""
    claimed(container, "mount_isolation")
    done = container.sh(
        "mount -o remount,rw,bind /proc/sys; mount -o remount,rw /proc/sys; umount /proc/sys;"
        "umount /proc/kcore; umount /proc/sysrq-trigger;"
        "mkdir p; mount -t proc proc p; mount -t proc proc /proc; umount -l /proc;"
        "for f in /proc/sys/kernel/core_pattern p/sys/kernel/core_pattern; do"
        ' echo "$PATTERN" > $f && echo WROTE $f; done;'
        "head -c1 p/kcore > /dev/null && echo READ; exit 0",
        uid=uid,
        policy=policy,
        env=with_pattern(),
    )
    assert b"WROTE" not in done.output
    assert b"READ" not in done.output


@pytest.mark.parametrize("uid", [1000, 0])
def test_user_namespaces_inside(container: Container, uid: int) -> None:
    """A process that makes itself root of its own user namespace gains nothing of the host."""
    claimed(container, "mount_isolation")
    done = container.sh(
        "unshare -r -m -p -f sh -c '"
        "mkdir -p /tmp/p; mount -t proc proc /tmp/p; umount -l /proc; umount /proc/sys;"
        "mount -o remount,rw,bind /proc/sys; mount -o remount,rw,bind /dev/null;"
        '(echo "$PATTERN" > /proc/sys/kernel/core_pattern) && echo WROTE;'
        '(echo "$PATTERN" > /tmp/p/sys/kernel/core_pattern) && echo WROTE;'
        "head -c1 /tmp/p/kcore && echo READ; chmod 666 /dev/null && echo CHANGED;"
        "mknod /tmp/n c 1 11 && head -c1 /tmp/n && echo OPENED; exit 0'; exit 0",
        uid=uid,
        env=with_pattern(),
    )
    for said in (b"WROTE", b"READ", b"CHANGED", b"OPENED"):
        assert said not in done.output
