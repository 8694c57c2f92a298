"""Where inputs go, what outputs see of them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assembly_lab import Answer, Lab, Request
from made_trees import HARD, MTIME, Tree, d, f, n
from repeatr.fileset.entry import DEFAULT_MTIME, Entry

PLACEMENTS = ["overlay", "memory", "copy"]

BASE: Tree = (
    d(""),
    d("etc", mtime=5),
    f("etc/passwd", b"root"),
    d("usr"),
    d("usr/lib", mtime=6),
    f("usr/lib/libc", b"c"),
    n("lib", "L", link=b"usr/lib"),
    n("absolute", "L", link=b"/usr/lib"),
    n("loop", "L", link=b"loop"),
    n("dangling", "L", link=b"nowhere/here"),
    f("plain", b"p"),
)
DATA: Tree = (d("", 0o750, 1000, mtime=7), f("x", b"data"), d("sub", mtime=8), f("sub/y", b"y"))
FILE: Tree = (f("", b"whole", 0o4755, 3),)


def told(answer: Answer, path: str = "/") -> dict[str, Entry]:
    assert answer.error is None, answer.error
    found = answer.outputs[path]
    assert found is not None
    return {os.fsdecode(entry.path): entry for entry in found}


def refused(answer: Answer, *texts: str) -> None:
    assert answer.error is not None
    assert answer.error[0] == "ASSEMBLY_INVALID"
    assert all(text in answer.error[1] for text in texts), answer.error


def below(tree: Tree, at: str) -> dict[str, Entry]:
    found = {}
    for entry, _ in tree:
        path = f"{at}/{os.fsdecode(entry.path)}".strip("/")
        found[path] = entry._replace(path=os.fsencode(path))
    return found


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_nested_three_deep(lab: Lab, placement: str) -> None:
    inputs: dict[str, Tree | str] = {
        "/data/sub/deeper": (d(""), f("z", b"z")),
        "/": BASE,
        "/data": DATA,
        "/data/sub": HARD,
        "/usr/lib": DATA,
    }
    outputs = ("/", "/data", "/data/sub", "/data/sub/deeper", "/usr", "/data/sub/other")
    answer = lab(Request(inputs, outputs=outputs, placement=placement))
    whole = told(answer)
    made = {"data/sub/deeper"}
    expected = {path: e for path, e in below(BASE, "").items() if not path.startswith("usr/lib")}
    expected |= below(DATA, "usr/lib")
    data = {path: e for path, e in below(DATA, "data").items() if "sub" not in path}
    expected |= data | below(HARD, "data/sub")
    expected |= below((d(""), f("z", b"z")), "data/sub/deeper")
    assert whole == expected | {path: whole[path] for path in made - set(expected)}
    # An output is what a larger one has at that place.
    for path in outputs[1:]:
        prefix = path.strip("/")
        here = told(answer, path)
        assert {f"{prefix}/{each}".strip("/") for each in here} == {
            each for each in whole if each == prefix or each.startswith(prefix + "/")
        }
        for each, entry in here.items():
            assert whole[f"{prefix}/{each}".strip("/")]._replace(path=entry.path) == entry


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_missing_parents_are_the_actions(lab: Lab, placement: str) -> None:
    answer = lab(Request({"/": BASE, "/etc/a/b/c": DATA}, owner=(1000, 1000), placement=placement))
    whole = told(answer)
    for path in ("etc/a", "etc/a/b"):
        entry = whole[path]
        assert (entry.mode, entry.uid, entry.gid) == (0o755, 1000, 1000)
        assert (entry.mtime, entry.mtime_ns) == (DEFAULT_MTIME, 0)
    # Making them shows nowhere else.
    assert whole["etc"] == d("etc", mtime=5)[0] and whole[""] == d("")[0]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_no_input_at_all(lab: Lab, placement: str) -> None:
    answer = lab(Request({}, placement=placement, owner=(1000, 1000)))
    assert told(answer) == {"": Entry(b"", "d", 0o755, 1000, 1000, DEFAULT_MTIME)}
    answer = lab(Request({"/a/b": DATA}, placement=placement, happening='write("/new")'))
    whole = told(answer)
    assert set(whole) == {"", "a", "new", *below(DATA, "a/b")}
    assert answer.placement == {"memory": "overlay, upper layer on tmpfs"}.get(placement, placement)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_files_are_inputs(lab: Lab, placement: str) -> None:
    inputs: dict[str, Tree | str] = {
        "/": BASE,
        "/etc/passwd": FILE,
        "/new/file": FILE,
        "/data": DATA,
        "/data/x": FILE,
    }
    whole = told(lab(Request(inputs, outputs=("/", "/etc/passwd"), placement=placement)))
    for path in ("etc/passwd", "new/file", "data/x"):
        assert whole[path] == FILE[0][0]._replace(path=path.encode())
    assert whole["etc"].mtime == 5 and whole["data"].mtime == 7
    alone = lab(Request(inputs, outputs=("/etc/passwd",), placement=placement))
    assert told(alone, "/etc/passwd") == {"": FILE[0][0]}
    happening = 'write("/etc/passwd", b"w"); os.unlink("/data/x"); os.chmod("/new/file", 0o700)'
    whole = told(lab(Request(inputs, happening, placement=placement)))
    assert whole["etc/passwd"].size == 1 and "data/x" not in whole
    assert whole["new/file"].mode == 0o700


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_symlinks_on_the_way_lead_within_the_root(lab: Lab, placement: str) -> None:
    for path in ("/lib/x", "/absolute/x", "/lib/../lib/x"):
        whole = told(lab(Request({"/": BASE, path: DATA}, placement=placement)))
        assert whole["usr/lib/x/sub/y"].size == 1 and whole["lib"].kind == "L"
    whole = told(lab(Request({"/": BASE, "/lib": DATA}, placement=placement)))
    assert whole["usr/lib/sub/y"].size == 1 and "usr/lib/libc" not in whole
    whole = told(lab(Request({"/": BASE, "/dangling/x": DATA}, placement=placement)))
    assert whole["nowhere/here/x/sub/y"].size == 1
    escape: Tree = (d(""), n("out", "L", link=b"../../../../../../tmp"))
    whole = told(lab(Request({"/": escape, "/out/x": DATA}, placement=placement)))
    assert whole["tmp/x/sub/y"].size == 1


def test_what_cannot_be_placed_is_refused(lab: Lab) -> None:
    refused(lab(Request({"/": BASE, "/a": DATA, "/a/": DATA})), "the same path")
    refused(lab(Request({"/": BASE, "/loop/x": DATA})), "/loop/x", "symbolic links")
    refused(lab(Request({"/": BASE, "/plain/x": DATA})), "/plain/x", "Not a directory")
    refused(lab(Request({"/": BASE, "/plain": DATA})), "/plain", "in the way")
    refused(lab(Request({"/": BASE, "/etc": FILE})), "/etc is a file", "a directory is there")
    refused(lab(Request({"/": FILE})), "a lone file")
    hidden = lab(Request({"/": BASE, "/lib": DATA, "/usr/lib": DATA}))
    refused(hidden, "would hide the input at /usr/lib")
    refused(lab(Request({"/": BASE, "/lib/f": FILE, "/absolute": DATA})), "/usr/lib/f")
    refused(lab(Request({"/": "ro:/etc"})), "can't be the root")
    refused(lab(Request({"/": BASE, "/x": "ro:/no/such"})), "/no/such", "No such file")
    refused(lab(Request({"/": BASE, "/x": "ro:/etc"}, placement="copy")), "/etc, wanted at /x")
    mount_point: Tree = (d(""), f("dev"))
    refused(lab(Request({"/": mount_point}, mount_points=("dev",))), "/dev", "not a directory")


def host(lab: Lab) -> Path:
    place = lab.caller.directory / f"host-{os.urandom(4).hex()}"
    (place / "in").mkdir(parents=True)
    (place / "in/file").write_text("host")
    for each in (place, place / "in", place / "in/file"):
        os.chown(each, lab.caller.uid, lab.caller.gid)
    return place


def test_host_mounts(lab: Lab) -> None:
    place = host(lab)
    happening = """
write("/w/in/file", b"changed"); write("/w/new"); write("/wf", b"file")
for path in ("/r/in/file", "/rf", "/r/new"):
    try:
        write(path)
        raise AssertionError(path)
    except OSError as problem:
        assert problem.errno == 30, problem
"""
    inputs: dict[str, Tree | str] = {
        "/": BASE,
        "/w": f"rw:{place}",
        "/r": f"ro:{place}",
        "/rf": f"ro:{place}/in/file",
        "/plain": f"ro:{place}/in/file",
    }
    other = host(lab)
    inputs["/wf"] = f"rw:{other}/in/file"
    answer = lab(Request(inputs, happening, ("/", "/w", "/w/in", "/rf", "/nothing")))
    assert (place / "in/file").read_text() == "changed" and (place / "new").exists()
    assert (other / "in/file").read_text() == "file"
    whole = told(answer)
    assert whole["w/in/file"].size == whole["r/in/file"].size == whole["rf"].size == 7
    assert whole["plain"].size == 7 and whole["etc/passwd"].size == 4
    assert set(told(answer, "/w")) == {"", "in", "in/file", "new"}
    assert set(told(answer, "/w/in")) == {"", "file"}
    assert told(answer, "/rf")[""].kind == "f"
    assert answer.outputs["/nothing"] is None


def test_nothing_goes_below_a_host_mount(lab: Lab) -> None:
    place = host(lab)
    (place / "link").symlink_to("in")
    for path in ("/m/in", "/m/new", "/m/link/x", "/m"):
        inputs: dict[str, Tree | str] = {"/": BASE, "/m": f"rw:{place}", path: DATA}
        if path != "/m":
            refused(lab(Request(inputs)), "lies below the host mount at /m")
    assert sorted(os.listdir(place)) == ["in", "link"]
    answer = lab(Request({"/": BASE, "/x": f"ro:{place}/in/file", "/x/y": DATA}))
    refused(answer, "/x/y")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_directories_above_an_input_may_be_renamed(lab: Lab, placement: str) -> None:
    place = host(lab)
    inputs: dict[str, Tree | str] = {"/": BASE, "/new/dir/in": DATA}
    if placement != "copy":
        inputs["/new/host"] = f"ro:{place}"
    happening = 'os.rename("/new", "/moved"); os.mkdir("/new"); write("/moved/dir/in/z")'
    outputs = ("/", "/moved/dir", "/moved/dir/in", "/new/dir", "/new")
    answer = lab(Request(inputs, happening, outputs, placement=placement))
    whole = told(answer)
    inside = {*below(DATA, "moved/dir/in"), "moved", "moved/dir", "moved/dir/in/z", "new"}
    if placement != "copy":
        inside |= {"moved/host", "moved/host/in", "moved/host/in/file"}
    assert set(whole) == {*below(BASE, ""), *inside}
    assert "in/sub/y" in told(answer, "/moved/dir") and "z" in told(answer, "/moved/dir/in")
    assert answer.outputs["/new/dir"] is None and set(told(answer, "/new")) == {""}
    if lab.caller.kind == "root":
        assert answer.outputs["/"] == answer.scan


def test_a_copied_input_may_be_taken_apart(lab: Lab) -> None:
    happening = """
os.rename("/data/sub", "/sub"); shutil.rmtree("/data"); os.mkdir("/data")
os.rename("/etc", "/data/etc")
"""
    answer = lab(Request({"/": BASE, "/data": DATA, "/etc/in": DATA}, happening, placement="copy"))
    assert {"sub/y", "data/etc/in/sub/y"} < set(told(answer))
    if lab.caller.kind == "root":
        assert answer.outputs["/"] == answer.scan


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_deleted_entry_inside_a_nested_input_stays_deleted(lab: Lab, placement: str) -> None:
    below_it: Tree = (d(""), f("gone", b"1"), d("sub"), f("sub/gone", b"2"), f("stays", b"3"))
    happening = 'os.unlink("/in/gone"); shutil.rmtree("/in/sub"); os.unlink("/etc/passwd")'
    inputs: dict[str, Tree | str] = {"/": BASE, "/in": below_it}
    answer = lab(Request(inputs, happening, ("/", "/in", "/in/sub"), placement=placement))
    assert set(told(answer, "/in")) == {"", "stays"}
    assert {path for path in told(answer) if path.startswith("in/")} == {"in/stays"}
    assert answer.outputs["/in/sub"] is None and "etc/passwd" not in told(answer)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_output_paths(lab: Lab, placement: str) -> None:
    outputs = ("/lib/libc", "/loop/x", "/plain/x", "/etc/../usr/./lib", "/no/x", "//usr//lib//")
    tree: Tree = (*BASE, d("dev"), n("dev/sda", "D", major=8), n("fifo", "p"))
    answer = lab(Request({"/": tree}, outputs=outputs, placement=placement))
    assert told(answer, "/lib/libc") == {"": f("", b"c")[0]}
    assert set(told(answer, "/etc/../usr/./lib")) == set(told(answer, "//usr//lib//"))
    assert all(answer.outputs[path] is None for path in ("/loop/x", "/plain/x", "/no/x"))
    # What is packed must be a directory or a file, whatever this user's disk can hold.
    for path in ("/absolute", "/lib", "/dev/sda", "/fifo"):
        answer = lab(Request({"/": tree}, outputs=(path,), placement=placement))
        assert answer.error is not None and answer.error[0] == "INOPERABLE_PATH", path


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_mount_points_of_the_engine_are_nobodys(lab: Lab, placement: str) -> None:
    points = ("proc", "dev")
    request = Request({"/": BASE}, outputs=("/", "/proc", "/dev/x"), placement=placement)
    answer = lab(request._replace(mount_points=points))
    assert told(answer) == below(BASE, "") and answer.outputs["/proc"] is None
    having: Tree = (*BASE, d("dev", 0o700, 5, mtime=9), f("dev/x", b"x"))
    answer = lab(request._replace(mount_points=points, inputs={"/": having}))
    assert told(answer) == below(having, "") and told(answer, "/dev/x")[""].size == 1
    assert told(answer)[""].mtime == MTIME
