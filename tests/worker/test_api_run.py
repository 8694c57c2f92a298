"""`repeatr.run` and `repeatr.start`: formulas run from inside a Python program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import repeatr
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Log, Output

Formula = dict[str, object]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    from repeatr.base import make
    from repeatr.store.own_warehouse import own_warehouse

    home = tmp_path_factory.mktemp("api") / "home"
    patch = pytest.MonkeyPatch()
    patch.setenv("REPEATR_HOME", str(home))
    warehouse = own_warehouse(home)
    yield str(make(["sh", "sleep", "cat", "id"], warehouse)), home
    patch.undo()


def formula(base: tuple[str, Path], script: str, **action: object) -> Formula:
    ware, home = base
    return {
        "formula": {
            "inputs": {"/": ware},
            "action": {"exec": ["sh", "-c", script], **action},
            "outputs": {"/task": {"packtype": "tree"}},
        },
        "context": {"fetchUrls": {"/": [f"ca+file://{home}/warehouse"]}},
    }


def test_a_record_comes_back(base: tuple[str, Path]) -> None:
    events: list[Event] = []
    asked = formula(base, "echo out; echo err >&2; echo x > y")
    record = repeatr.run(asked, engine="namespaces", emit=events.append)
    assert record.exit_code == 0
    assert record.metadata["engine"] == "namespaces"
    assert repeatr.run(asked).results == record.results
    assert b"".join(e.msg for e in events if isinstance(e, Output)) == b"out\nerr\n"
    assert any(isinstance(e, Log) and e.msg == "running" for e in events)


def test_a_failed_process_is_no_error(base: tuple[str, Path]) -> None:
    assert repeatr.run(formula(base, "exit 3")).exit_code == 3


def test_output_that_is_not_text_comes_through(base: tuple[str, Path]) -> None:
    events: list[Event] = []
    repeatr.run(formula(base, r"printf '\377\200a\n'"), emit=events.append)
    assert b"".join(e.msg for e in events if isinstance(e, Output)) == b"\xff\x80a\n"


def test_formulas_from_files_and_text(base: tuple[str, Path], tmp_path: Path) -> None:
    text = json.dumps(formula(base, "echo x > y"))
    path = tmp_path / "a.formula"
    path.write_text(text)
    first = repeatr.run(path)
    assert repeatr.run(str(path)).results == repeatr.run(text.encode()).results == first.results
    assert repeatr.run(path).formula_id == first.formula_id


@pytest.mark.parametrize(
    ("asked", "category", "told"),
    [
        ({"formula": {"x": 1}}, Category.USAGE, "x"),
        (b"{", Category.USAGE, "line 1"),
        ("/absent.formula", Category.USAGE, "/absent.formula can't be read"),
        ({"action": {"exec": ["/absent"]}}, Category.JOB_INVALID, "/absent does not exist"),
        (
            {"inputs": {"/": "tree:" + "1" * 48}, "action": {"exec": ["/x"]}},
            Category.WAREHOUSE_UNAVAILABLE,
            "no warehouse is named",
        ),
    ],
)
def test_errors_come_as_they_are(
    base: tuple[str, Path], asked: object, category: Category, told: str
) -> None:
    with pytest.raises(RepeatrError) as caught:
        repeatr.run(asked)  # type: ignore[arg-type]
    assert caught.value.category is category
    assert told in caught.value.message


def test_a_timeout(base: tuple[str, Path]) -> None:
    with pytest.raises(RepeatrError) as caught:
        repeatr.run(formula(base, "sleep 100"), timeout=0.2)
    assert caught.value.category is Category.CANCELLED
    assert "longer than 0.2 s" in caught.value.message


def test_stopping(base: tuple[str, Path]) -> None:
    with repeatr.start(formula(base, "echo there; sleep 100")) as running:
        for event in running:
            if isinstance(event, Output):
                running.stop()
        record, error = running.answer()
    assert record is None
    assert error is not None and error.category is Category.CANCELLED


def test_leaving_stops(base: tuple[str, Path]) -> None:
    before = time.monotonic()
    with repeatr.start(formula(base, "sleep 100")):
        pass
    assert time.monotonic() - before < 20
    assert not list((base[1] / "runs").iterdir())


def test_threads_share_the_worker(base: tuple[str, Path]) -> None:
    asked = formula(base, "echo x > y")
    found: list[object] = []

    def several() -> None:
        found.extend(repeatr.run(asked).results["/task"] for _ in range(3))

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


def test_a_dead_worker_is_replaced(base: tuple[str, Path]) -> None:
    asked = formula(base, "sleep 100")
    with repeatr.start(asked) as running, pytest.raises(RepeatrError) as caught:
        for event in running:
            if isinstance(event, Log) and event.msg == "running":
                _kill_worker()
    assert caught.value.category is Category.RPC
    assert repeatr.run(formula(base, "exit 0")).exit_code == 0


def test_the_program_dies_and_all_goes(base: tuple[str, Path]) -> None:
    # Argument marks the processes, for finding them.
    mark = f"10{os.getpid()}"
    asked = json.dumps(formula(base, f"sleep {mark}"))
    program = (
        f"import repeatr; repeatr.run({asked!r}.encode(), emit=lambda e: print(e, flush=True))"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert any("running" in line for line in child.stdout)
    _wait(lambda: len(_processes(mark)) > 0)
    child.kill()
    child.wait()
    child.stdout.close()
    _wait(lambda: not _processes(mark))
    repeatr.run(formula(base, "exit 0"))
    assert not list((base[1] / "runs").iterdir())


def test_after_a_fork_there_is_another_worker(base: tuple[str, Path]) -> None:
    asked = formula(base, "exit 7")
    assert repeatr.run(asked).exit_code == 7
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = repeatr.run(asked).exit_code
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert repeatr.run(asked).exit_code == 7


def _kill_worker() -> None:
    from repeatr.worker import client

    process = client._worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def _processes(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if arguments[:2] == [b"sleep", mark.encode()]:
                found.append(int(name))
    return found


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not until():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.02)
