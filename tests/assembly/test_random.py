"""Random filesets, random operations: what is collected is what a full scan sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assembly_lab import Lab, Request
from made_trees import TREE, Tree
from repeatr.fileset.entry import Entry
from trees import trees

#: Each operation picks paths by number from those that are there, and may fail.
_OPERATIONS = """
def paths(kind=None):
    found = [b"/"]
    for top, directories, files in os.walk(b"/"):
        found += [os.path.join(top, name) for name in directories + files]
    if kind == "d":
        found = [p for p in found if os.path.isdir(p) and not os.path.islink(p)]
    return sorted(found)
def pick(number, kind=None):
    found = paths(kind)
    return found[number % len(found)]
def fresh(number):
    return os.path.join(pick(number, "d"), b"new%d" % (number % 3))
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
def remade(path):
    remove(path)
    os.mkdir(path)
def replaced(path, other):
    remove(path)
    write(path, b"replaced")
def overwrite(path, *more):
    # Nothing waits for the other end of a fifo, and no device of this machine is opened.
    if stat.S_ISREG(os.lstat(path).st_mode):
        write(path, *more)
def special(path, a):
    os.mkfifo(path) if a % 2 else socket.socket(socket.AF_UNIX).bind(path)
DO = {
    "write": lambda a, b: overwrite(pick(a), b"w%d" % b),
    "append": lambda a, b: overwrite(pick(a), b"a", os.O_WRONLY | os.O_APPEND),
    "truncate": lambda a, b: os.truncate(pick(a), b * 1000),
    "create": lambda a, b: write(fresh(a), b"c%d" % b),
    "mkdir": lambda a, b: os.mkdir(fresh(a), b & 0o7777),
    "remove": lambda a, b: remove(pick(a)),
    "remake": lambda a, b: remade(pick(a, "d")),
    "replace": lambda a, b: replaced(pick(a), b),
    "rename": lambda a, b: os.rename(pick(a), fresh(b)),
    "rename over": lambda a, b: os.rename(pick(a), pick(b)),
    "link": lambda a, b: os.link(pick(a), fresh(b), follow_symlinks=False),
    "symlink": lambda a, b: os.symlink(b"to%d" % b, fresh(a)),
    "chmod": lambda a, b: os.chmod(pick(a), b & 0o7777),
    "chown": lambda a, b: os.chown(pick(a), b % 3, b % 2, follow_symlinks=False),
    "touch": lambda a, b: os.utime(pick(a), ns=(b * 10**8, b * 10**8), follow_symlinks=False),
    "special": lambda a, b: special(fresh(a), b),
    "attribute": lambda a, b: os.setxattr(pick(a), "user.x", b"%d" % b, follow_symlinks=False),
}
for name, a, b in OPERATIONS:
    try:
        DO[name](a, b)
    except (OSError, shutil.Error):
        pass
"""
_NAMES = [line.split('"')[1] for line in _OPERATIONS.splitlines() if line.startswith('    "')]
_numbers = st.integers(0, 5000)
operations = st.lists(st.tuples(st.sampled_from(_NAMES), _numbers, _numbers), max_size=12)
_many = settings(max_examples=100)


@_many
@given(tree=trees(), todo=operations, nested=trees(kinds="fdLp"), placement=st.booleans())
def test_collected_is_what_is_there(
    lab: Lab, tree: Tree, todo: object, nested: Tree, placement: bool
) -> None:
    happening = f"OPERATIONS = {todo!r}\n{_OPERATIONS}"
    inputs: dict[str, Tree | str] = {"/": tree, "/new1/in": nested}
    answer = lab(Request(inputs, happening, placement="overlay" if placement else "copy"))
    if answer.error is not None:
        # The random tree has something else where the second input goes.
        assert answer.error[0] == "ASSEMBLY_INVALID", answer.error
        return
    told = answer.outputs["/"]
    assert told is not None
    if lab.caller.kind == "root":
        assert told == answer.scan
    else:
        assert _shown(told) == _shown(answer.scan)


def _shown(entries: list[Entry]) -> list[Entry]:
    """What every user's disk holds."""
    return [
        entry._replace(uid=0, gid=0, mode=entry.mode & 0o1777)
        for entry in entries
        if entry.kind not in "Dc"
    ]


def test_every_operation_is_known() -> None:
    assert len(_NAMES) == 17


@pytest.mark.parametrize("name", _NAMES)
def test_every_operation_does_something(lab: Lab, name: str) -> None:
    if (lab.caller.kind, name) == ("single", "chown"):
        return  # there is one owner
    plain = lab(Request({"/": TREE[:15]})).scan
    for a in range(1, 12):
        happening = f"OPERATIONS = [{(name, a, 2 * a + 1)!r}]\n{_OPERATIONS}"
        if lab(Request({"/": TREE[:15]}, happening)).scan != plain:
            return
    raise AssertionError("it did nothing")
