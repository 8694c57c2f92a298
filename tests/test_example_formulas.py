"""The formulas in examples/: each runs, for everybody, and does what examples/README.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import callers
from callers import Caller, Done

EXAMPLES = callers.CHECKOUT / "examples"


def programs() -> list[str]:
    """The programs that examples/README.md says to make the base of."""
    found = re.search(r"repeatr base ([a-z ]+)", (EXAMPLES / "README.md").read_text())
    assert found is not None
    return found[1].split()


def text_of(done: Done) -> list[str]:
    """What the process wrote."""
    return [line.partition("\t")[2] for line in done.err.splitlines() if line.startswith("≡⟩")]


def hello(done: Done, base: str) -> None:
    assert text_of(done) == ["hello, world"]


def script(done: Done, base: str) -> None:
    assert text_of(done) == ["line one", "line two", "line three", "in /task as reuser"]


def output(done: Done, base: str) -> None:
    results = json.loads(done.out)["results"]
    assert re.fullmatch("tree:[1-9A-Za-z]{60,70}", results["/task/out"])
    assert results["/task/nothing"] == "tree:-"
    assert "the output /task/nothing does not exist" in done.err


def mounts(done: Done, base: str) -> None:
    assert text_of(done) == ["/mnt/host/passwd", "it is read-only"]
    assert json.loads(done.out)["metadata"]["hermetic"].startswith("no: the host was mounted")


def userinfo(done: Done, base: str) -> None:
    said = text_of(done)
    assert said[0] == "ada lives in /home/of/ada, works in /srv"
    assert said[1].startswith("uid=2000 gid=3000")


def roundtrip(done: Done, base: str) -> None:
    assert json.loads(done.out)["results"] == {"/": base}


CHECKS: dict[str, Callable[[Done, str], None]] = {
    each.__name__: each for each in (hello, script, output, mounts, userinfo, roundtrip)
}


def run(me: Caller, name: str, base: str, *options: str) -> Done:
    text = (EXAMPLES / f"{name}.formula").read_text()
    assert "tree:BASE" in text
    return me.repeatr("run", "-", *options, stdin=text.replace("tree:BASE", base))


def test_every_example_is_tested_and_explained() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.formula")}
    assert files == set(CHECKS)
    explained = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}.formula`" in explained for name in files)


def test_examples_do_what_they_say(as_user: Caller) -> None:
    base = as_user.repeatr("base", *programs())
    assert base.code == 0, base.err
    for name, check in CHECKS.items():
        done = run(as_user, name, base.out.strip())
        assert done.code == 0, (name, done.err)
        assert json.loads(done.out)["exitCode"] == 0
        check(done, base.out.strip())


def test_examples_give_everybody_the_same(shared_tmp: Path) -> None:
    told: dict[str, object] = {}
    for kind in ("root", *callers.USERS):
        directory = shared_tmp / kind
        directory.mkdir()
        try:
            me = callers.caller(kind, directory)
        except pytest.skip.Exception:
            continue
        base = me.repeatr("base", *programs()).out.strip()
        for name in CHECKS:
            record = json.loads(run(me, name, base).out)
            answer = (record["formulaID"], record["results"])
            assert told.setdefault(name, answer) == answer, (kind, name)
