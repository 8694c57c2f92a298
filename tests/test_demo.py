"""`make demo`, without the setting up."""

from __future__ import annotations

import re
import sys

import callers
from callers import Caller

DEMO = callers.CHECKOUT / "scripts" / "demo.py"


def test_runs_through(as_user: Caller) -> None:
    work = as_user.directory / "demo work"
    done = as_user.call(sys.executable, DEMO, work)
    assert done.code == 0, done.out + done.err
    told = re.findall(r"The same result: (tree:\w+)", done.out)
    assert len(told) >= 3
    assert len(set(told)) == 1
    assert "same in, same out" in done.out
    assert "found a memo, not running" in done.out
    refusal = "chroot can't run here: only root may change the root directory"
    assert (refusal in done.out) == (as_user.uid != 0)
    again = as_user.call(sys.executable, DEMO, work)
    assert again.code == 0, again.out + again.err


def test_says_what_keeps_it_from_running(myself: Caller) -> None:
    (myself.directory / "file").touch()
    done = myself.call(sys.executable, DEMO, myself.directory / "file")
    assert done.code == 1
    assert done.out == (
        f"\ndemo: {myself.directory}/file cannot be made anew: Not a directory;"
        " remove it, or make it yours\n"
    )
    assert done.err == ""
