"""What a process did to its root, as the collector tells it, against what a full scan sees."""

from __future__ import annotations

import pytest

from assembly_lab import Answer, Lab, Request
from made_trees import HARD, TREE, Tree, d, f, n
from repeatr.fileset.entry import Entry

PLACEMENTS = ["overlay", "memory", "copy"]


def entries(answer: Answer, path: str = "/") -> dict[bytes, Entry]:
    assert answer.error is None, answer.error
    found = answer.outputs[path]
    assert found is not None
    return {entry.path: entry for entry in found}


def agrees_with_scan(lab: Lab, answer: Answer) -> None:
    """Root sees on disk all that there is; others do, but for owners, set-id bits and devices."""
    told, seen = entries(answer), {entry.path: entry for entry in answer.scan}
    if lab.caller.kind != "root":
        told = {path: _common(e) for path, e in told.items() if e.kind not in "Dc"}
        seen = {path: _common(e) for path, e in seen.items()}
    assert told == seen


def _common(entry: Entry) -> Entry:
    xattrs = tuple(pair for pair in entry.xattrs if pair[0].startswith(b"user."))
    return entry._replace(uid=0, gid=0, mode=entry.mode & 0o1777, xattrs=xattrs)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("tree", [TREE, HARD], ids=["tree", "hard"])
def test_what_nobody_touched_is_the_input(lab: Lab, placement: str, tree: Tree) -> None:
    answer = lab(Request({"/": tree}, placement=placement))
    assert entries(answer) == {entry.path: entry for entry, _ in tree}
    assert answer.placement == {"memory": "overlay, upper layer on tmpfs"}.get(placement, placement)


HAPPENINGS = {
    "write": 'write("/file", b"changed")',
    "append": 'write("/dir/b", b"more", os.O_WRONLY | os.O_APPEND)',
    "same content": 'write("/file", b"file")',
    "truncate": 'os.truncate("/dir/b", 0)',
    "sparse": 'os.truncate("/dir/b", 10_000_000); write("/hole"); os.truncate("/hole", 3_000_000)',
    "new file": 'write("/dir/new"); write("/empty/y")',
    "new directories": 'os.makedirs("/p/q/r", 0o700); write("/p/q/r/s")',
    "delete file": 'os.unlink("/dir/a")',
    "delete link": 'os.unlink("/link")',
    "delete fifo": 'os.unlink("/fifo")',
    "delete directory": 'shutil.rmtree("/dir")',
    "delete deep": 'shutil.rmtree("/deep" * 210)',
    "delete empty": 'os.rmdir("/empty")',
    "opaque": 'shutil.rmtree("/dir"); os.mkdir("/dir"); write("/dir/a", b"another")',
    "opaque and empty": 'shutil.rmtree("/dir"); os.mkdir("/dir")',
    "opaque with same child": 'shutil.rmtree("/dir"); os.makedirs("/dir/sub"); write("/dir/sub/z")',
    "file to directory": 'os.unlink("/dir/a"); os.mkdir("/dir/a"); write("/dir/a/x")',
    "directory to file": 'shutil.rmtree("/dir/sub"); write("/dir/sub")',
    "directory to link": 'shutil.rmtree("/dir"); os.symlink("other", "/dir")',
    "directory to fifo": 'shutil.rmtree("/dir"); os.mkfifo("/dir", 0o600)',
    "link to file": 'os.unlink("/link"); write("/link")',
    "link elsewhere": 'os.unlink("/link"); os.symlink("/nowhere", "/link")',
    "chmod": 'os.chmod("/file", 0o600); os.chmod("/dir", 0o711); os.chmod("/fifo", 0o600)',
    "chmod and back": 'os.chmod("/file", 0o600); os.chmod("/file", 0o644)',
    "no mode": 'os.chmod("/dir", 0); os.chmod("/file", 0)\nos.makedirs("/n/x"); os.chmod("/n", 0)',
    "opaque without mode": 'shutil.rmtree("/dir"); os.makedirs("/dir/a"); os.chmod("/dir", 0)',
    "touch": 'os.utime("/file", (5, 5)); os.utime("/dir", (6, 6)); os.utime("/fifo", (7, 7))',
    "touch link": 'os.utime("/link", (8, 8), follow_symlinks=False)',
    "early and late": 'os.utime("/file", (-7, -7)); os.utime("/dir", (2**33, 2**33))',
    "rename file": 'os.rename("/dir/a", "/dir/renamed")',
    "rename over": 'os.rename("/dir/a", "/dir/b")',
    "rename over set-id": 'os.rename("/dir/a", "/other/setuid")',
    "rename and back": 'os.rename("/dir/a", "/t"); os.rename("/t", "/dir/a")',
    "rename new directory": 'os.makedirs("/p/q"); write("/p/q/x"); os.rename("/p", "/r")',
    "new over old": 'shutil.rmtree("/dir"); os.makedirs("/p/sub"); os.rename("/p", "/dir")',
    "move directory": 'shutil.copytree("/dir", "/moved", symlinks=True); shutil.rmtree("/dir")',
    "exchange": 'os.rename("/dir/a", "/t"); os.rename("/file", "/dir/a"); os.rename("/t", "/file")',
    "hard links": 'os.link("/dir/a", "/dir/h"); os.link("/file", "/again"); write("/again", b"w")',
    "hard link of link": 'os.link("/link", "/link2", follow_symlinks=False)',
    "recreate": 'os.unlink("/file"); write("/file", b"file"); os.utime("/file", (5, 5))',
    "set-id": 'os.chmod("/file", 0o6755); os.chmod("/empty", 0o3777)',
    "lose set-id": 'os.chmod("/other/setuid", 0o755); os.chmod("/other", 0o755)',
    "names": 'write(b"/\\xff\\x01\\n"); write(b"/" + b"x" * 255); os.mkdir("/ ")',
    "deep": '[os.chdir("deep") for _ in range(300)]\nwrite("bottom", b"new"); os.mkdir("more")',
    "deeper": '[(os.mkdir("e" * 200), os.chdir("e" * 200)) for _ in range(30)]; write("f")',
    "attributes": 'os.setxattr("/file", "user.a", b"1"); os.setxattr("/dir", "user.b", b"2")',
    "root": 'os.chmod("/", 0o700); os.utime("/", (9, 9))',
    "empty root": """
for each in list(os.scandir("/")):
    shutil.rmtree(each) if each.is_dir(follow_symlinks=False) else os.unlink(each)
""",
    "nothing in the end": 'write("/t"); os.unlink("/t"); os.mkdir("/t"); os.rmdir("/t")',
}


@pytest.mark.parametrize("placement", ["overlay", "copy"])
@pytest.mark.parametrize("name", HAPPENINGS)
def test_what_happened_is_told(lab: Lab, placement: str, name: str) -> None:
    answer = lab(Request({"/": TREE}, HAPPENINGS[name], placement=placement))
    agrees_with_scan(lab, answer)
    # What it did not touch is as it was, whatever this user's disk can hold.
    before = {entry.path: entry for entry, _ in TREE}
    untouched = b"not-utf8-\xff\xfe"
    if name != "empty root":
        assert entries(answer)[untouched] == before[untouched]


def test_memory_is_as_good(lab: Lab) -> None:
    for name in ("write", "opaque", "rename over", "exchange", "chmod", "deep", "attributes"):
        answer = lab(Request({"/": TREE}, HAPPENINGS[name], placement="memory"))
        agrees_with_scan(lab, answer)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_owners_that_the_disk_cannot_hold_survive_a_change(lab: Lab, placement: str) -> None:
    happening = """
os.utime("/foreign-dir", (5, 5))
write("/foreign-dir/in", b"other")
os.utime("/foreign-dir/in", (6, 6))
os.utime("/foreign-fifo", (1_000_000_000, 1_000_000_000))
os.utime("/foreign", (7, 7))
os.utime("/labelled", (8, 8))
"""
    told = entries(lab(Request({"/": HARD}, happening, placement=placement)))
    assert told[b"foreign-dir"] == d("foreign-dir", 0o2770, 3_000_000_000, mtime=5)[0]
    assert (
        told[b"foreign-dir/in"] == f("foreign-dir/in", b"other", 0o640, 3_000_000_001, mtime=6)[0]
    )
    assert told[b"foreign-fifo"].uid == 3_000_000_000
    assert told[b"foreign"] == f("foreign", b"f", 0o6755, 4_000_000_000, mtime=7)[0]
    assert told[b"labelled"].mtime == 8
    # Which of them root's disk kept shows there; of what is never read, the input's are told.
    assert told[b"labelled"].xattrs == HARD[-1][0].xattrs


@pytest.mark.parametrize("placement", ["overlay", "copy"])
def test_new_things_have_no_old_owner(lab: Lab, placement: str) -> None:
    happening = """
os.unlink("/foreign"); write("/foreign", b"mine"); os.chmod("/foreign", 0o755)
os.rename("/dir/a", "/other/setuid"); os.chmod("/other/setuid", 0o755)
shutil.rmtree("/foreign-dir"); os.mkdir("/foreign-dir", 0o770); os.chmod("/foreign-dir", 0o770)
os.unlink("/foreign-fifo"); os.mkfifo("/foreign-fifo", 0o644)
"""
    told = entries(lab(Request({"/": HARD}, happening, placement=placement)))
    new = (1000, 1000) if lab.caller.kind == "single" else (0, 0)
    for path, mode in (
        (b"foreign", 0o755),
        (b"foreign-dir", 0o770),
        (b"foreign-fifo", 0o644),
        (b"other/setuid", 0o755),
    ):
        entry = told[path]
        if (path, lab.caller.kind) != (b"other/setuid", "single"):
            assert (entry.uid, entry.gid, entry.mode) == (*new, mode), path
        assert entry.mode == mode, path


def test_a_filesystem_gives_inodes_again(lab: Lab) -> None:
    """However often a file is deleted and made anew, it is not taken for the old one."""
    happening = """
for n in range(50):
    os.unlink("/other/setuid"); write("/other/setuid", b"new"); os.chmod("/other/setuid", 0o755)
"""
    for placement in ("overlay", "copy"):
        told = entries(lab(Request({"/": TREE}, happening, placement=placement)))
        assert told[b"other/setuid"].mode == 0o755


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_devices_go_with_what_they_were_in(lab: Lab, placement: str) -> None:
    gone = entries(lab(Request({"/": HARD}, 'shutil.rmtree("/dev")', placement=placement)))
    assert not [path for path in gone if path.startswith(b"dev")]
    anew = 'shutil.rmtree("/dev"); os.mkdir("/dev"); write("/dev/x")'
    kept = entries(lab(Request({"/": HARD}, anew, placement=placement)))
    assert [path for path in kept if path.startswith(b"dev")] == [b"dev", b"dev/x"]
    more = entries(lab(Request({"/": HARD}, 'write("/dev/x")', placement=placement)))
    assert more[b"dev/sda"] == HARD[len(TREE) + 2][0]


@pytest.mark.parametrize("placement", ["overlay", "copy"])
def test_times_that_the_disk_cannot_hold_are_kept(lab: Lab, placement: str) -> None:
    far = 2**40
    tree: Tree = (
        d("", mtime=far),
        d("a", mtime=-far),
        f("a/x", mtime=far),
        f("a/y", mtime=far),
        n("l", "L", link=b"x", mtime=-far),
    )
    told = entries(lab(Request({"/": tree}, placement=placement)))
    assert [told[path].mtime for path in (b"", b"a", b"a/x", b"l")] == [far, -far, far, -far]
    happening = 'os.chmod("/a/x", 0o600); os.chmod("/a", 0o700); os.chmod("/", 0o711)'
    told = entries(lab(Request({"/": tree}, happening, placement=placement)))
    assert [(e.path, e.mtime) for e in told.values() if e.mtime not in (far, -far)] == []
    assert told[b"a/x"].mode == 0o600
    told = entries(lab(Request({"/": tree}, 'os.utime("/a/x", (4, 4))', placement=placement)))
    assert (told[b"a/x"].mtime, told[b"a/y"].mtime) == (4, far)


@pytest.mark.parametrize("placement", ["overlay", "copy"])
def test_sockets_are_left_out_and_told(lab: Lab, placement: str) -> None:
    happening = """
socket.socket(socket.AF_UNIX).bind("/dir/socket")
os.unlink("/file"); socket.socket(socket.AF_UNIX).bind("/file")
"""
    answer = lab(Request({"/": TREE}, happening, ("/dir", "/other", "/"), placement=placement))
    assert b"socket" not in entries(answer, "/dir") and b"file" not in entries(answer)
    told = [message for message in answer.told if "socket" in message]
    assert told == [
        "leaving out /dir/socket: a socket can't be packed",
        "leaving out /dir/socket: a socket can't be packed",
        "leaving out /file: a socket can't be packed",
    ]
    answer = lab(Request({"/": TREE}, happening, ("/dir/socket",), placement=placement))
    assert answer.error is not None and answer.error[0] == "INOPERABLE_PATH"
