"""The cradle: cwd, home and /tmp, wherever they are and whatever is there."""

from __future__ import annotations

import os
import subprocess

import pytest

import callers
from assembly_lab import Answer, Lab, Request
from made_trees import MTIME, Tree, d, f, n
from repeatr.fileset.entry import DEFAULT_MTIME, Entry

PLACEMENTS = ["overlay", "copy"]


def told(answer: Answer) -> dict[str, tuple[int, int, int]]:
    """Mode, owner and time of every entry."""
    assert answer.error is None, answer.error
    found = answer.outputs["/"]
    assert found is not None
    return {os.fsdecode(e.path): (e.mode, e.uid, e.mtime) for e in found}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_everything_is_made(lab: Lab, placement: str) -> None:
    request = Request({"/": (d("", 0o700),)}, placement=placement, cradle=("/task", "/home/reuser"))
    mine = (0o755, 1000, DEFAULT_MTIME)
    made = {"task": mine, "home": mine, "home/reuser": mine, "tmp": (0o1777, 0, DEFAULT_MTIME)}
    # Everyone must be able to come through the root; its time is what it was.
    assert told(lab(request)) == {"": (0o701, 0, MTIME), **made}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_is_there_is_opened(lab: Lab, placement: str) -> None:
    tree: Tree = (
        d("", 0),
        d("task", 0o055, 1000, mtime=1),
        d("home", 0o2750, 7, mtime=2),
        d("home/reuser", 0o3001, 4_000_000_000, mtime=3),
        d("tmp", 0o755, 9, mtime=4),
        f("tmp/file", b"x"),
    )
    found = told(lab(Request({"/": tree}, placement=placement, cradle=("/task", "/home/reuser"))))
    assert found == {
        "": (0o001, 0, MTIME),
        "task": (0o755, 1000, 1),
        "home": (0o2751, 7, 2),
        "home/reuser": (0o3701, 4_000_000_000, 3),
        "tmp": (0o1777, 0, 4),
        "tmp/file": (0o644, 0, MTIME),
    }


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_everywhere_at_once(lab: Lab, placement: str) -> None:
    found = told(lab(Request({"/": (d("", 0o555),)}, placement=placement, cradle=("/", "/"))))
    assert found == {"": (0o755, 0, MTIME), "tmp": (0o1777, 0, DEFAULT_MTIME)}
    found = told(lab(Request({}, placement=placement, cradle=("/tmp", "/tmp/home"))))
    assert found["tmp"] == (0o1777, 0, DEFAULT_MTIME)
    assert found["tmp/home"] == (0o755, 1000, DEFAULT_MTIME)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_symlinks_lead_within(lab: Lab, placement: str) -> None:
    tree: Tree = (
        d(""),
        n("tmp", "L", link=b"/var/tmp"),
        d("var", mtime=1),
        n("home", "L", link=b"../../../users"),
        n("task", "L", link=b"var"),
    )
    found = told(lab(Request({"/": tree}, placement=placement, cradle=("/task", "/home/x"))))
    assert found["var/tmp"] == (0o1777, 0, DEFAULT_MTIME) and found["var"] == (0o755, 0, 1)
    assert found["users/x"] == (0o755, 1000, DEFAULT_MTIME)


def test_what_is_in_the_way(lab: Lab) -> None:
    for path, category in (("task", "JOB_INVALID"), ("tmp", "ASSEMBLY_INVALID")):
        answer = lab(Request({"/": (d(""), f(path))}, cradle=("/task", "/home/x")))
        assert answer.error is not None and answer.error[0] == category, (path, answer)
        assert f"/{path} is in the way" in answer.error[1]


def test_inside_nested_inputs(lab: Lab) -> None:
    inputs: dict[str, Tree | str] = {
        "/": (d(""),),
        "/task": (d("", 0o500, 5, mtime=1), f("x")),
        "/home": (d("", 0o700, 6, mtime=2),),
        "/tmp": (d("", 0o700, 7, mtime=3),),
    }
    for placement in PLACEMENTS:
        answer = lab(Request(inputs, placement=placement, cradle=("/task", "/home/reuser")))
        found = told(answer)
        assert found["task"] == (0o700, 5, 1) and found["tmp"] == (0o1777, 0, 3)
        assert found["home"] == (0o701, 6, 2)
        assert found["home/reuser"] == (0o755, 1000, DEFAULT_MTIME)


def test_the_host_is_left_alone(lab: Lab) -> None:
    place = lab.caller.directory / f"host-{os.urandom(4).hex()}"
    place.mkdir(mode=0o700)
    place.chmod(0o500)
    os.chown(place, lab.caller.uid, lab.caller.gid)
    for mode in ("ro", "rw"):
        inputs: dict[str, Tree | str] = {"/": (d(""),)}
        inputs |= dict.fromkeys(("/task", "/home", "/tmp"), f"{mode}:{place}")
        assert lab(Request(inputs, cradle=("/task", "/home/reuser"))).error is None
        assert os.listdir(place) == [] and place.stat().st_mode & 0o7777 == 0o500


@pytest.mark.parametrize("kind", ["root", "range", "single"])
def test_nothing_is_inherited_from_where_the_store_is(kind: str) -> None:
    """A default ACL, a set-gid directory and a umask above REPEATR_HOME show nowhere."""
    directory = callers.directory_for_all()
    try:
        caller = callers.caller(kind, directory)
        lab_home = directory / "lab"
        lab_home.mkdir()
        os.chown(lab_home, caller.uid, caller.gid)
        lab_home.chmod(0o2770)
        callers.need_program("setfacl")
        acl = "u::rwx,g::rwx,o::rwx,u:65534:rwx"
        subprocess.run(["setfacl", "-d", "-m", acl, str(lab_home)], check=True)
        tree: Tree = (d("", 0o711), d("a", 0o2750), f("a/f", b"x", 0o640))
        with Lab(caller, ("sh", "-c", 'umask 077; exec "$@"', "sh")) as lab:
            for placement in ("overlay", "copy"):
                happening = (
                    'os.mkdir("/task/made"); write("/task/made/f"); os.mkdir("/a/b")\n'
                    "for top, names, files in os.walk('/'):\n"
                    "    for name in (top, *(os.path.join(top, f) for f in files)):\n"
                    "        assert not [a for a in os.listxattr(name) if 'acl' in a], name"
                )
                request = Request({"/": tree}, happening, ("/",), placement, cradle=("/task", "/h"))
                entries = lab(request).outputs["/"]
                assert entries is not None
                modes = {os.fsdecode(e.path): e.mode for e in entries if isinstance(e, Entry)}
                assert modes.pop("a/b") & 0o777 == 0o755
                assert modes == {
                    **{"": 0o711, "a": 0o2750, "a/f": 0o640, "task": 0o755, "h": 0o755},
                    **{"task/made": 0o755, "task/made/f": 0o644, "tmp": 0o1777},
                }
    finally:
        callers.remove(directory)
