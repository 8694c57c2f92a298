"""Many runs at once over one store, and runs that are killed at any moment."""

from __future__ import annotations

import json
import random
import signal
import time

from callers import Caller
from started_runs import base_of, formula, nothing_is_left, processes, start

RUNS_AT_ONCE = 50
KILLED_RUNS = 100


def test_fifty_runs_at_once_over_a_cold_store(as_user: Caller) -> None:
    path = formula(as_user, base_of(as_user), "echo x > y")
    running = [start(as_user, path) for _ in range(RUNS_AT_ONCE)]
    ended = [(each.communicate(), each.returncode) for each in running]
    assert [code for _told, code in ended] == [0] * RUNS_AT_ONCE, ended[0][0][1].decode()
    results = {json.dumps(json.loads(out)["results"], sort_keys=True) for (out, _err), _ in ended}
    assert len(results) == 1
    filesets = [each for each in as_user.home.glob("filesets/*/*/*/*") if each.is_dir()]
    assert len(filesets) == 1
    nothing_is_left(as_user, "")


def test_runs_killed_at_any_moment(as_user: Caller) -> None:
    mark = f"3{random.randrange(10**6, 10**7)}"
    ware = base_of(as_user)
    slow = formula(as_user, ware, f"echo x > y; sleep {mark}")
    dice = random.Random(5)
    # From before it has opened its store to well into the process.
    for round_ in range(KILLED_RUNS // 4):
        running = [start(as_user, slow) for _ in range(4)]
        time.sleep(dice.uniform(0, 0.5 if round_ % 2 else 0.15))
        for each in running:
            time.sleep(dice.uniform(0, 0.05))
            each.send_signal(signal.SIGKILL)
            each.communicate()
    end = time.monotonic() + 10
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes(mark), "processes outlived their repeatr"
    quick = formula(as_user, ware, "echo x > y")
    done = as_user.repeatr("run", quick)
    assert done.code == 0, done.err
    assert "warn" not in done.err and "error" not in done.err, done.err
    again = as_user.repeatr("run", quick)
    assert json.loads(done.out)["results"] == json.loads(again.out)["results"]
    nothing_is_left(as_user, mark)
