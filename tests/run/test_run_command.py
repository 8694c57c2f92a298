"""The command `repeatr run`: its text, its JSON, its exit codes, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import callers
from callers import Caller, Done

PROGRAMS = ("sh", "sleep", "cat", "id", "ls", "mkdir", "touch", "env")


class Bench:
    """A caller with a base to run formulas in."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        done = caller.repeatr("base", *PROGRAMS)
        assert done.code == 0, done.err
        self.base = done.out.strip()

    def write(
        self,
        script: str | list[str],
        outputs: Mapping[str, object] | None = None,
        context: Mapping[str, object] | None = None,
        inputs: Mapping[str, str] | None = None,
        **action: object,
    ) -> Path:
        words = ["/bin/sh", "-c", script] if isinstance(script, str) else script
        document = {
            "formula": {
                "inputs": {"/": self.base} if inputs is None else inputs,
                "action": {"exec": words, **action},
                "outputs": outputs or {},
            },
            "context": context or {},
        }
        path = self.caller.directory / "a.formula"
        path.write_text(json.dumps(document))
        return path

    def run(self, *options: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Done:
        path = self.caller.directory / "a.formula"
        return self.caller.repeatr("run", "-" if stdin else path, *options, env=env, stdin=stdin)

    def nothing_is_left(self) -> None:
        for name in ("runs", "staging"):
            place = self.caller.home / name
            assert not place.exists() or os.listdir(place) == []


@pytest.fixture
def bench(myself: Caller) -> Bench:
    return Bench(myself)


@pytest.fixture
def benches(as_user: Caller) -> Bench:
    return Bench(as_user)


def said(done: Done) -> list[str]:
    """The lines that the process wrote."""
    return [line.partition("\t")[2] for line in done.err.splitlines() if line.startswith("≡⟩")]


def test_the_record_is_alone_on_stdout(benches: Bench) -> None:
    benches.write("echo out; echo err >&2; echo x > y", {"/task": {"packtype": "tree"}})
    done = benches.run()
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert done.out == json.dumps(record, indent=4) + "\n"
    assert list(record) == [
        "guid", "time", "formulaID", "exitCode", "results", "hostname", "metadata",
    ]  # fmt: skip
    assert re.fullmatch(r"[0-9a-z]{8}(-[0-9a-z]{8}){2}", record["guid"])
    assert record["exitCode"] == 0
    assert record["hostname"] == os.uname().nodename
    assert record["metadata"]["engine"] == "namespaces"
    assert record["metadata"]["placement"] == "overlay"
    owners = "single" if benches.caller.kind == "single" else "all"
    assert record["metadata"]["isolation.owners"] == owners
    assert ("owners: single" in done.err) == (owners == "single")
    assert said(done) == ["out", "err"]
    assert "\033" not in done.err
    listed = benches.caller.repeatr("runs", "--format=json")
    assert record["guid"] in listed.out
    assert json.loads(benches.caller.repeatr("show", record["guid"]).out) == record
    benches.nothing_is_left()


def test_the_formula_id_is_the_one_inspect_tells(bench: Bench) -> None:
    path = bench.write("exit 0")
    record = json.loads(bench.run().out)
    told = json.loads(bench.caller.repeatr("inspect", path).out)
    assert record["formulaID"] == told["formulaID"] != told["setupHash"]


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_a_process_that_fails(benches: Bench, script: str, code: int) -> None:
    benches.write(f"echo x > y; {script}", {"/task": {"packtype": "tar"}})
    done = benches.run()
    assert done.code == 32
    record = json.loads(done.out)
    assert record["exitCode"] == code
    assert record["results"]["/task"].startswith("tar:")
    assert f"the process ended with exit code {code}" in done.err
    benches.nothing_is_left()


def test_json_is_a_stream_of_events(bench: Bench) -> None:
    bench.write(r"printf 'a\303\244\n'; sleep 0.1; printf '\377b\n'; exit 3")
    done = bench.run("--format=json")
    assert done.code == 32
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert all(len(line) == 1 for line in lines)
    assert "".join(line["txt"]["msg"] for line in lines if "txt" in line) == "aä\n\ufffdb\n"
    logs = [line["log"] for line in lines if "log" in line]
    assert {"t", "lvl", "msg", "detail"} == set(logs[0])
    assert {each["lvl"] for each in logs} <= {1, 2, 3, 4}
    assert list(lines[-1]) == ["result"]
    assert lines[-1]["result"]["runRecord"]["exitCode"] == 3
    error = lines[-1]["result"]["error"]
    assert error["category"] == "repeatr-job-unsuccessful"
    assert set(error) == {"category", "message", "details"}


def test_from_standard_input(bench: Bench) -> None:
    path = bench.write("echo read")
    done = bench.run(stdin=path.read_text())
    assert done.code == 0, done.err
    assert said(done) == ["read"]


def test_yaml(bench: Bench) -> None:
    text = f"""\
formula:
  inputs: {{/: '{bench.base}'}}
  action: {{exec: [/bin/sh, -c, 'echo from yaml']}}
  outputs:
"""
    done = bench.run(stdin=text)
    assert done.code == 0, done.err
    assert said(done) == ["from yaml"]


def test_memo(bench: Bench) -> None:
    bench.write("echo x > y", {"/task": {"packtype": "tree"}})
    plain = json.loads(bench.run().out)
    first = json.loads(bench.run("--memo").out)
    assert first["guid"] != plain["guid"], "run means run: what nobody asked to keep is no memo"
    again = bench.run("--memo")
    assert json.loads(again.out) == first
    assert "found a memo, not running" in again.err
    assert json.loads(bench.run().out)["guid"] != first["guid"]


def test_memos_of_failures_are_not_kept(bench: Bench) -> None:
    bench.write("exit 1")
    assert bench.run("--memo").code == 32
    again = bench.run("--memo")
    assert again.code == 32
    assert "memo" not in again.err


def test_memos_in_a_directory(bench: Bench) -> None:
    directory = bench.caller.directory / "memos"
    bench.write("exit 0")
    missing = bench.run(env={"REPEATR_MEMODIR": str(directory)})
    assert missing.code == 41
    assert f"mkdir -p {directory}" in missing.err
    directory.mkdir()
    record = json.loads(bench.run(env={"REPEATR_MEMODIR": str(directory)}).out)
    assert json.loads((directory / record["formulaID"]).read_text()) == record
    again = bench.run(env={"REPEATR_MEMODIR": str(directory)})
    assert json.loads(again.out) == record


def test_a_timeout(benches: Bench) -> None:
    benches.write("echo there; sleep 100")
    done = benches.run("--timeout=0.5")
    assert done.code == 8
    assert done.out == ""
    assert "it ran longer than 0.5 s" in done.err
    assert "--timeout" in done.err
    benches.nothing_is_left()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_that_is_none(bench: Bench, text: str) -> None:
    bench.write("exit 0")
    done = bench.run(f"--timeout={text}")
    assert done.code == 1
    assert "seconds" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("script", ["sleep 100", "trap '' INT TERM HUP; while :; do sleep 1; done"])
def test_a_signal_stops_it(benches: Bench, number: signal.Signals, script: str) -> None:
    caller = benches.caller
    path = benches.write(f"echo there; {script}")
    child = subprocess.Popen(
        caller.command((sys.executable, "-m", "repeatr", "run", str(path))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=caller.directory,
        env=caller.environment(),
    )
    assert child.stderr is not None
    while b"there" not in child.stderr.readline():
        assert child.poll() is None
    before = time.monotonic()
    child.send_signal(number)
    if "trap" in script:  # a second request is obeyed at once
        time.sleep(0.3)
        child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 8, err
    assert time.monotonic() - before < 4
    assert out == b""
    assert b"Traceback" not in err
    benches.nothing_is_left()


def test_keep(benches: Bench) -> None:
    benches.write("echo x > y; mkdir -m 700 closed; exit 1")
    done = benches.run("--keep")
    assert done.code == 32
    kept = re.search(r"the root is kept in (\S+)", done.err)
    assert kept is not None, done.err
    root = Path(kept[1])
    assert root.name == "root"
    assert (root / "task" / "y").read_text() == "x\n"
    assert (root / "task" / "y").stat().st_uid == benches.caller.uid
    assert json.loads(done.out)["guid"] in str(root)
    benches.nothing_is_left()


def test_outputs_are_saved(benches: Bench) -> None:
    caller = benches.caller
    (caller.directory / "wares").mkdir(mode=0o777)
    (caller.directory / "wares").chmod(0o777)
    save = {"/task/a": "ca+file://./wares", "/task/b": "file://./b.tar"}
    outputs = {"/task/a": {"packtype": "tree"}, "/task/b": {"packtype": "tar"}}
    benches.write("mkdir a; echo x > a/y; echo lone > b", outputs, {"saveUrls": save})
    done = benches.run()
    assert done.code == 0, done.err
    results = json.loads(done.out)["results"]
    back = caller.repeatr("unpack", results["/task/a"], "back", "--source=ca+file://./wares")
    assert back.code == 0, back.err
    assert (caller.directory / "back" / "y").read_text() == "x\n"
    scanned = caller.repeatr("scan", "tar", "--source=file://./b.tar")
    assert scanned.out.strip() == results["/task/b"]


def test_a_place_to_save_that_is_missing_is_told_before_the_run(bench: Bench) -> None:
    save = {"/task": "ca+file://./absent"}
    bench.write("echo ran", {"/task": {"packtype": "tree"}}, {"saveUrls": save})
    done = bench.run()
    assert done.code == 3
    assert "absent" in done.err
    assert said(done) == []


ABSENT = "tree:" + "2" * 66


@pytest.mark.parametrize(
    ("sources", "code", "told"),
    [
        ([], 3, "no warehouse is named"),
        (["file:///absent/x"], 3, "/absent"),
        (["ca+file://./empty"], 5, "empty"),
        (["file://./junk"], 6, ""),
        (["file://./cut"], 6, ""),
        (["file://./other"], 7, "asked for " + ABSENT),
        (["ca+file://./empty", "file:///absent/x"], 5, "none of 2 warehouses"),
        (["gopher://x"], 1, "'gopher://x' is not the address of a warehouse"),
    ],
)
def test_wares_that_do_not_come(bench: Bench, sources: list[str], code: int, told: str) -> None:
    here = bench.caller.directory
    (here / "empty").mkdir()
    (here / "junk").write_text("this is no archive\n" * 100)
    (here / "data").mkdir()
    (here / "data" / "file").write_bytes(os.urandom(300_000))
    assert bench.caller.repeatr("pack", "tree", "data", "--target=file://./other").code == 0
    (here / "cut").write_bytes((here / "other").read_bytes()[:200_000])
    bench.write("exit 0", inputs={"/": ABSENT}, context={"fetchUrls": {"/": sources}})
    done = bench.run()
    assert done.code == code, done.err
    assert told in done.err
    assert done.out == ""
    bench.nothing_is_left()
    assert not list(bench.caller.home.glob(f"filesets/*/*/*/*{ABSENT[5:]}*"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["/absent"], 40, "/absent does not exist in the container"),
        (["/bin"], 40, "is a directory"),
        (["/task"], 40, "/task is a directory"),
        (["absent"], 40, "no program 'absent' in the PATH"),
        ([], 40, "nothing to execute"),
        (["./sh"], 1, "expected an absolute path or a bare name"),
    ],
)
def test_programs_that_are_not_there(bench: Bench, words: list[str], code: int, told: str) -> None:
    bench.write(words)
    done = bench.run()
    assert done.code == code, done.err
    assert told in done.err
    bench.nothing_is_left()


def test_programs_that_cannot_start(bench: Bench) -> None:
    here = bench.caller.directory
    (here / "bad").mkdir()
    for name, text, mode in (
        ("plain", "echo\n", 0o644),
        ("lost", "#!/absent/interpreter -x\n", 0o755),
        ("noise", "\x7fnothing", 0o755),
    ):
        (here / "bad" / name).write_text(text)
        (here / "bad" / name).chmod(mode)
    packed = bench.caller.repeatr("pack", "tree", "bad", "--target=file://./bad.tree")
    inputs = {"/": bench.base, "/opt": packed.out.strip()}
    for name, told in (
        ("plain", "/opt/plain is not executable"),
        ("lost", "the interpreter that /opt/lost names: /absent/interpreter does not exist"),
        ("noise", "/opt/noise can't be executed: Exec format error"),
    ):
        bench.write([f"/opt/{name}"], None, {"fetchUrls": {"/opt": ["file://./bad.tree"]}}, inputs)
        done = bench.run()
        assert done.code == 40, done.err
        assert told in done.err


def test_the_loader_that_is_not_there(bench: Bench) -> None:
    here = bench.caller.directory
    (here / "lone").mkdir()
    program = here / "lone" / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o755)
    packed = bench.caller.repeatr("pack", "tree", "lone", "--target=file://./lone.tree")
    context = {"fetchUrls": {"/": ["file://./lone.tree"]}}
    bench.write(["/id"], None, context, {"/": packed.out.strip()})
    done = bench.run()
    assert done.code == 40
    assert "needs the loader /" in done.err


@pytest.mark.parametrize(
    ("action", "code", "told"),
    [
        ({"policy": "king"}, 1, "formula.action.policy"),
        ({"cwd": "task"}, 1, "formula.action.cwd"),
        ({"userinfo": {"uid": -1}}, 1, "formula.action.userinfo.uid"),
        ({"bogus": 1}, 1, "formula.action"),
        ({"cwd": "/absent", "cradle": "disable"}, 40, "/absent does not exist"),
        ({"cwd": "/bin/sh/x"}, 40, "/bin/sh"),
    ],
)
def test_actions_that_are_wrong(bench: Bench, action: dict[str, Any], code: int, told: str) -> None:
    bench.write("exit 0", **action)
    done = bench.run()
    assert done.code == code, done.err
    assert told in done.err


def test_an_unknown_packtype_is_told_before_the_run(bench: Bench) -> None:
    bench.write("echo ran", {"/task": {"packtype": "rar"}})
    done = bench.run()
    assert done.code == 1
    assert "rar" in done.err
    assert said(done) == []


def test_a_user_outside_the_range(benches: Bench) -> None:
    benches.write("id -u", userinfo={"uid": 700_000})
    done = benches.run()
    if benches.caller.kind == "range":
        assert done.code == 42
        assert "700000:1000 lies outside the range" in done.err
        assert "/etc/subuid" in done.err
    else:
        assert said(done) == ["700000"]


def test_noop_packs_the_inputs(benches: Bench) -> None:
    outputs = {
        "/": {"packtype": "tree", "filters": {"uid": "keep", "gid": "keep", "mtime": "keep"}}
    }
    benches.write([], outputs, noop=True, cradle="disable")
    done = benches.run()
    assert done.code == 0, done.err
    assert json.loads(done.out)["results"]["/"] == benches.base


def test_engines_are_named(bench: Bench) -> None:
    bench.write("exit 0")
    assert bench.run("--engine=absent").code == 1
    assert bench.run(env={"REPEATR_ENGINE": "absent"}).code == 1
    done = bench.run("--executor=namespaces", env={"REPEATR_ENGINE": "absent"})
    assert json.loads(done.out)["metadata"]["engine"] == "namespaces"


def test_traits_that_an_engine_lacks(benches: Bench) -> None:
    benches.write("exit 0", hostname="named")
    done = benches.run("--engine=chroot")
    assert done.code == 40
    assert "the trait hostname, which the engine chroot does not have" in done.err
    assert "namespaces" in done.err


def test_chroot_is_for_root(benches: Bench) -> None:
    benches.write("echo there; id", {"/task": {"packtype": "tree"}})
    done = benches.run("--engine=chroot")
    if benches.caller.kind != "root":
        assert done.code == 42
        assert "only root may change the root directory" in done.err
        assert "sudo" in done.err
        return
    assert done.code == 0, done.err
    there = json.loads(done.out)
    here = json.loads(benches.run().out)
    assert there["results"] == here["results"]
    assert there["metadata"]["isolation.network"] == "host"


def test_inputs_and_host_mounts(bench: Bench) -> None:
    here = bench.caller.directory
    (here / "mounted").mkdir()
    (here / "mounted").chmod(0o777)
    (here / "mounted" / "file").write_text("of the host\n")
    mount = f"mount:ro:{here}/mounted"
    bench.write("cat /mnt/file; echo x > /mnt/new", inputs={"/": bench.base, "/mnt": mount})
    done = bench.run()
    assert said(done)[0] == "of the host"
    assert "Read-only" in said(done)[1]
    assert json.loads(done.out)["metadata"]["hermetic"].startswith("no: the host was mounted")
    inputs = {"/": bench.base, "/mnt": mount.replace(":ro:", ":rw:")}
    bench.write("echo written > /mnt/new", inputs=inputs)
    assert bench.run().code == 0
    assert (here / "mounted" / "new").read_text() == "written\n"
    bench.write("exit 0", inputs={**inputs, "/mnt/below": bench.base})
    done = bench.run()
    assert done.code == 10
    assert "/mnt/below lies below the host mount at /mnt" in done.err
    bench.write("exit 0", inputs={"/": bench.base, "/mnt": "mount:ro:/absent/here"})
    assert bench.run().code == 10


def test_a_formula_that_is_none(bench: Bench) -> None:
    here = bench.caller.directory
    (here / "junk").write_bytes(os.urandom(5000))
    with open(here / "big", "wb") as file:
        file.truncate(100 << 20)
    (here / "broken").write_text('{"formula": {"action": {"exec": ["/bin/sh" "-c"]}')
    for name, told in (
        ("absent", "absent"),
        (".", "directory"),
        ("junk", "binary file"),
        ("big", "big"),
        ("broken", "line 1"),
    ):
        before = time.monotonic()
        done = bench.caller.repeatr("run", name)
        assert done.code == 1, done.err
        assert told in done.err
        assert "Traceback" not in done.err
        assert time.monotonic() - before < 5


def test_a_store_that_may_not_be_written(benches: Bench) -> None:
    benches.write("exit 0")
    callers.need_root()
    closed = benches.caller.directory / "closed"
    closed.mkdir(mode=0o755)
    os.chown(closed, 0, 0)
    done = benches.run(env={"REPEATR_HOME": str(closed / "store")})
    if benches.caller.kind == "root":  # may write everywhere, but has no base there
        assert done.code == 3, done.err
        assert (closed / "store").is_dir()
        return
    assert done.code == 41, done.err
    assert str(closed / "store") in done.err
    assert "REPEATR_HOME" in done.err


def test_a_disk_that_is_full(bench: Bench) -> None:
    callers.need_root()
    bench.write(
        "exit 0", context={"fetchUrls": {"/": [f"ca+file://{bench.caller.home}/warehouse"]}}
    )
    script = (
        "mkdir small && mount -t tmpfs -o size=400k tmpfs small && "
        f"REPEATR_HOME=$PWD/small/store exec {sys.executable} -m repeatr run a.formula"
    )
    done = bench.caller.call("unshare", "--mount", "sh", "-c", script)
    assert done.code == 9, done.err
    assert "No space left on device" in done.err
    assert "small/store" in done.err


def test_the_store_is_the_callers_own(benches: Bench) -> None:
    benches.write("exit 0")
    assert benches.run().code == 0
    status = benches.caller.home.stat()
    assert stat.S_IMODE(status.st_mode) == 0o700
    assert status.st_uid == benches.caller.uid
