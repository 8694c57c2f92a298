"""Runs that are started and stopped or killed, and what must be left of them: nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from callers import Caller


def base_of(caller: Caller) -> str:
    """A tiny base in a warehouse of its own, so that the store itself stays cold."""
    (caller.directory / "wares").mkdir(mode=0o777)
    (caller.directory / "wares").chmod(0o777)
    done = caller.repeatr("base", "sh", "sleep", "--target=ca+file://./wares")
    assert done.code == 0, done.err
    return done.out.strip()


def formula(caller: Caller, ware: str, script: str) -> Path:
    path = caller.directory / "a.formula"
    outputs = {"/task": {"packtype": "tree"}, "/": {"packtype": "tree", "filters": {"uid": "keep"}}}
    document = {
        "formula": {
            "inputs": {"/": ware, "/nested": ware},
            "action": {"exec": ["/bin/sh", "-c", script]},
            "outputs": outputs,
        },
        "context": {
            "fetchUrls": {
                place: [f"ca+file://{caller.directory}/wares"] for place in ("/", "/nested")
            }
        },
    }
    path.write_text(json.dumps(document))
    return path


def start(caller: Caller, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        caller.command((sys.executable, "-m", "repeatr", "run", str(path))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=caller.directory,
        env=caller.environment(),
    )


def nothing_is_left(caller: Caller, mark: str) -> None:
    """No directory of a run or an unpacking, no mount and no process."""
    for name in ("runs", "staging"):
        assert os.listdir(caller.home / name) == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(caller.directory) not in mounts
    assert not mark or not processes(mark)


def processes(mark: str) -> list[str]:
    """The processes whose command line holds `mark`, other than this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(line.decode(errors="replace"))
    return found
