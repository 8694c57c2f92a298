"""`repeatr inspect`, `runs`, `show` and `completion`: the real program."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from callers import Caller, Done, need_program
from repeatr.cli.main import COMMANDS
from repeatr.model.record import RunRecord
from repeatr.model.wareid import WareID
from repeatr.store.records import Records

FORMULA = """{
    "formula": {
        "inputs": {"/": "tar:abc", "/host": "mount:ro:/srv"},
        "action": {"exec": ["/bin/true"], "policy": "governor", "hostname": "x"},
        "outputs": {"/out": {"packtype": "tar"},},
    }
}
"""


def fails(done: Done, code: int, message: str, remedy: str = "") -> None:
    assert done.code == code, done
    assert done.out == ""
    assert f"repeatr: {message}" in done.err
    assert "Traceback" not in done.err
    if remedy:
        assert f"  try: {remedy}" in done.err


def test_inspect_tells_what_a_formula_is_and_needs(myself: Caller) -> None:
    (myself.directory / "x.formula").write_text(FORMULA)
    done = myself.repeatr("inspect", "x.formula")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert list(told) == ["formula", "cbor", "setupHash", "formulaID", "needs"]
    assert told["formula"]["inputs"] == {"/": "tar:abc", "/host": "mount:ro:/srv"}
    assert told["needs"] == {
        "wares": ["tar:abc"],
        "mounts": ["mount:ro:/srv"],
        "network": "none",
        "traits": ["hostname"],
        "policy": "governor",
        "uid": 1000,
        "gid": 1000,
    }
    assert done.out.startswith('{\n    "formula"')
    assert myself.repeatr("inspect", "-", stdin=FORMULA) == done
    as_json = myself.repeatr("inspect", "x.formula", "--format=json")
    assert json.loads(as_json.out) == {"result": {"inspection": told, "error": None}}


def test_inspect_warns_on_standard_error(myself: Caller) -> None:
    output = '{"packtype": "tar", "filters": {"odd": "x"}}'
    text = f'{{"action": {{"exec": ["/x"]}}, "outputs": {{"/o": {output}}}}} trailing'
    done = myself.repeatr("inspect", "-", stdin=text)
    assert done.code == 0
    assert json.loads(done.out)
    assert done.err.count(" warn: ") == 2
    events = [
        json.loads(line)
        for line in myself.repeatr("inspect", "-", "--format=json", stdin=text).out.splitlines()
    ]
    assert [list(event) for event in events] == [["log"], ["log"], ["result"]]


@pytest.mark.parametrize(
    ("formula", "code", "message"),
    [
        ('{"inputs": {"rel": "tar:abc"}, "action": {"exec": ["/x"]}}', 1, "inputs.rel"),
        ('{"action": {"exec": ["/x"], "cwd": "rel"}}', 1, "action.cwd"),
        ('{"action": {"exec": ["/x"], "policy": "god"}}', 1, "action.policy"),
        ('{"action": {"exec": ["/x"], "network": "lan"}}', 1, "action.network"),
        ('{"inputs": {"/": "tar:../x"}, "action": {"exec": ["/x"]}}', 1, 'inputs."/"'),
        ("{}", 40, "action.exec"),
    ],
)
def test_inspect_tells_what_cannot_run(
    myself: Caller, formula: str, code: int, message: str
) -> None:
    done = myself.repeatr("inspect", "-", stdin=formula)
    assert done.code == code
    assert json.loads(done.out)["setupHash"]  # it has a hash nevertheless
    assert f"repeatr: formula.{message}" in done.err
    told = myself.repeatr("inspect", "-", "--format=json", stdin=formula)
    assert told.code == code
    result = json.loads(told.out)["result"]
    assert result["inspection"] == json.loads(done.out)
    assert message in result["error"]["message"]


def test_formulas_that_are_none(myself: Caller) -> None:
    here, inspect = myself.directory, myself.repeatr
    (here / "directory").mkdir()
    (here / "binary").write_bytes(b"\x7fELF\0\0" * 1000)
    (here / "empty").write_text("")
    (here / "broken.json").write_text('{"action": {"exec": ["/x"}}')
    (here / "typed.json").write_text('{"action": {"exec": "x"}}')
    (here / "unknown.json").write_text('{"action": {"exce": ["x"]}}')
    with open(here / "huge", "wb") as file:
        file.write(b"[")
        file.truncate(200 << 20)
    with open(here / "long.json", "wb") as file:
        file.write(b" " * (17 << 20))
    formula = "cannot read the formula"
    fails(inspect("inspect", "gone"), 1, f"{formula} 'gone': No such file", "check the path; -")
    fails(
        inspect("inspect", "directory"),
        1,
        f"{formula} 'directory': it is a directory",
        "name the formula file in it",
    )
    fails(inspect("inspect", "binary"), 1, "binary: this is a binary file", "a formula is a JSON")
    fails(inspect("inspect", "huge", timeout=10), 1, "huge: this is a binary file, not a formula")
    fails(inspect("inspect", "/dev/zero", timeout=10), 1, "/dev/zero: this is a binary file")
    fails(inspect("inspect", "long.json", timeout=20), 1, "long.json is longer than 16 MiB")
    fails(inspect("inspect", "empty"), 1, "empty")
    fails(inspect("inspect", "-"), 1, "standard input")
    fails(inspect("inspect", "broken.json"), 1, "broken.json, line 1, column 26: expected")
    fails(inspect("inspect", "typed.json"), 1, "action.exec: expected a list of text")
    fails(inspect("inspect", "unknown.json"), 1, "action.exce")
    fails(inspect("inspect"), 1, "inspect: the following arguments are required: FORMULA")


def test_a_formula_that_may_not_be_read(as_user: Caller) -> None:
    if as_user.uid == 0:
        pytest.skip("root may read everything")
    path = as_user.directory / "secret"
    path.write_text(FORMULA)
    path.chmod(0)
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    fails(as_user.repeatr("inspect", "secret"), 1, "cannot read the formula 'secret': Permission")


RECORDS = [
    RunRecord(
        guid=f"n84s48f{n}-0w1gta7e-of69fqvd",
        time=1700000000 + n,
        formula_id="first" if n < 3 else "second",
        exit_code=n,
        results={"/out": WareID("tar", f"abc{n}")},
    )
    for n in range(4)
]


@pytest.fixture
def recorded(myself: Caller) -> Caller:
    with Records(myself.home) as records:
        for record in RECORDS:
            records.save(record)
    return myself


def test_runs_lists_the_newest_first(recorded: Caller) -> None:
    done = recorded.repeatr("runs", env={"TZ": "UTC"})
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "GUID                        TIME                 EXIT  OUTPUTS  FORMULA",
        "n84s48f3-0w1gta7e-of69fqvd  2023-11-14 22:13:23  3     1        second",
        "n84s48f2-0w1gta7e-of69fqvd  2023-11-14 22:13:22  2     1        first",
        "n84s48f1-0w1gta7e-of69fqvd  2023-11-14 22:13:21  1     1        first",
        "n84s48f0-0w1gta7e-of69fqvd  2023-11-14 22:13:20  0     1        first",
    ]
    assert len(recorded.repeatr("runs", "--limit=2").out.splitlines()) == 3
    done = recorded.repeatr("runs", "--formula=first", "--limit", "1", "--format=json")
    assert json.loads(done.out) == {"result": {"runRecords": [RECORDS[2].to_json()], "error": None}}


def test_a_machine_without_runs(myself: Caller) -> None:
    assert myself.repeatr("runs") == (0, "", "")
    assert json.loads(myself.repeatr("runs", "--format=json").out)["result"]["runRecords"] == []
    assert not myself.home.exists()


def test_show_takes_the_beginning_of_a_guid(recorded: Caller) -> None:
    record = RECORDS[1].to_json()
    done = recorded.repeatr("show", RECORDS[1].guid)
    assert done == (0, json.dumps(record, indent=4) + "\n", "")
    assert recorded.repeatr("show", "n84s48f1") == done
    as_json = recorded.repeatr("show", "n84s48f1", "--format=json")
    assert json.loads(as_json.out) == {"result": {"runRecord": record, "error": None}}
    fails(recorded.repeatr("show", "zzz"), 1, "no run record 'zzz'", "the guid is in the run rec")
    fails(recorded.repeatr("show", "n84s"), 1, "several run records begin with 'n84s': n84s48f0-")


def test_a_broken_database_is_told(recorded: Caller) -> None:
    for path in recorded.home.glob("records.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    for words in (["runs"], ["show", "x"]):
        done = recorded.repeatr(*words)
        assert (done.code, done.out) == (41, "")
        assert done.err.startswith("repeatr: ")
        assert "Traceback" not in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(myself: Caller, shell: str) -> None:
    done = myself.repeatr("completion", shell)
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert name in done.out
    assert "placer" in done.out


def test_bash_completes(myself: Caller, tmp_path: Path) -> None:
    bash = need_program("bash")
    script = tmp_path / "completion"
    script.write_text(myself.repeatr("completion", "bash").out)
    ask = (
        f"source {script}; COMP_WORDS=(repeatr un); COMP_CWORD=1; "
        "$(complete -p repeatr | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo ${COMPREPLY[@]}"
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "unpack", done.stderr


def test_completion_for_another_shell(myself: Caller) -> None:
    done = myself.repeatr("completion", "fish")
    fails(done, 1, "completion: argument SHELL: invalid choice: 'fish'")
