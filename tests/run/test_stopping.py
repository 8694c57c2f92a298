"""Ctrl-C and SIGTERM at any moment of a run: exit code 8, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callers import Caller
from started_runs import base_of, formula, nothing_is_left, start

TIMES = 24


def test_at_any_moment(as_user: Caller) -> None:
    mark = f"4{random.randrange(10**6, 10**7)}"
    path = formula(as_user, base_of(as_user), f"echo there; sleep {mark}")
    dice = random.Random(7)
    early = 0
    for turn in range(TIMES):
        running = start(as_user, path)
        # Until Python has come so far as to listen to signals there is nothing to test.
        _until_it_listens(running.pid)
        time.sleep(dice.uniform(0, 0.35))
        running.send_signal(signal.SIGTERM if turn % 2 else signal.SIGINT)
        out, err = running.communicate(timeout=20)
        assert running.returncode == 8, (turn, err)
        assert out == b"" and b"Traceback" not in err and b"bug" not in err, err
        early += b"there" not in err
        if (as_user.home / "staging").exists():
            nothing_is_left(as_user, mark)
    assert 0 < early < TIMES


def _until_it_listens(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.001)
    raise AssertionError("it never listens to SIGTERM")


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_while_packing(as_user: Caller, group: bool) -> None:
    """The process has ended; its output is large."""
    (as_user.directory / "out").mkdir(mode=0o777)
    (as_user.directory / "out").chmod(0o777)
    base = as_user.repeatr("base", "sh", "dd").out.strip()
    path = as_user.directory / "b.formula"
    path.write_text(f"""{{
        "formula": {{
            "inputs": {{"/": "{base}"}},
            "action": {{"exec": ["/bin/sh", "-c",
                "dd if=/dev/urandom of=big bs=1M count=400 2>/dev/null; echo do''ne"]}},
            "outputs": {{"/task": {{"packtype": "tar"}}}}
        }},
        "context": {{"saveUrls": {{"/task": "ca+file://./out"}}}}
    }}""")
    running = subprocess.Popen(
        as_user.command((sys.executable, "-m", "repeatr", "run", str(path))),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=as_user.directory, env=as_user.environment(), start_new_session=True,
    )  # fmt: skip
    assert running.stderr is not None
    while b"done" not in running.stderr.readline():
        assert running.poll() is None
    time.sleep(0.2)
    if group:
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 8, err
    assert out == b"" and b"stopped by SIGINT" in err and b"Traceback" not in err
    nothing_is_left(as_user, "")
    assert os.listdir(as_user.directory / "out") == []
