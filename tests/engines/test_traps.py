"""What the place where Repeatr keeps its things must not change: a result."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import callers
from callers import Caller

SCRIPT = """
umask; stat -c '%n %a %u:%g %Y' / /etc /etc/conf /bin /task; touch made; mkdir dir; touch dir/x
stat -c '%n %a %u:%g' made dir dir/x /task /tmp
cat /proc/1/cmdline; echo; cat /proc/self/cgroup | wc -l > /dev/null
echo hi > /etc/new 2>/dev/null; rm -r /var/gone && echo removed; ls /
"""


def formula(ware: str) -> str:
    action = {"exec": ["/bin/sh", "-c", SCRIPT]}
    outputs = {
        "/task": {"packtype": "tree", "filters": {"uid": "keep", "gid": "keep", "mtime": "@0"}},
        "/": {"packtype": "tree", "filters": {"uid": "keep", "gid": "keep", "mtime": "@0"}},
    }
    return json.dumps({"formula": {"inputs": {"/": ware}, "action": action, "outputs": outputs}})


def run(who: Caller, place: Path) -> tuple[dict[str, str], str]:
    """Pack a small root, run the formula with the store in `place`; results and output."""
    busybox = callers.need_program("busybox")
    tree = who.directory / "tree"
    if not tree.exists():
        (tree / "bin").mkdir(parents=True)
        shutil.copyfile(busybox, tree / "bin/busybox")
        (tree / "bin/busybox").chmod(0o755)
        for name in ("sh", "touch", "mkdir", "stat", "cat", "wc", "rm", "ls", "echo"):
            (tree / "bin" / name).symlink_to("busybox")
        (tree / "etc").mkdir()
        (tree / "etc/conf").write_text("x")
        (tree / "var/gone").mkdir(parents=True)
        (tree / "var/gone/x").write_text("x")
        (tree / "var").chmod(0o777)
        for each in (tree, *tree.rglob("*")):
            os.utime(each, (10**9, 10**9), follow_symlinks=False)
        (tree / "etc/conf").chmod(0o664)
    env = {"REPEATR_HOME": str(place / "home")}
    target = f"ca+file://{place / 'home/warehouse'}"
    (place / "home/warehouse").mkdir(parents=True)
    if os.geteuid() != who.uid:
        for each in (place / "home", place / "home/warehouse"):
            os.chown(each, who.uid, who.gid)
    keep = "--filters=uid=0,gid=0,mtime=keep,sticky=keep"
    packed = who.repeatr("pack", "tree", tree, f"--target={target}", keep, env=env)
    assert packed.code == 0, packed.err
    document = json.loads(formula(packed.out.strip()))
    document["context"] = {"fetchUrls": {"/": [target]}}
    done = who.repeatr("run", "-", "--format=json", stdin=json.dumps(document), env=env)
    assert done.code == 0, done.err + done.out
    events = [json.loads(line) for line in done.out.splitlines()]
    record = events[-1]["result"]["runRecord"]
    output = "".join(event["txt"]["msg"] for event in events if "txt" in event)
    return record["results"], output


def test_acl_and_set_group_id_of_the_stores_place(as_user: Caller) -> None:
    # A default ACL gives new files its own modes whatever the umask, a set-group-id parent its
    # group; both are inherited by every directory below.
    plain = as_user.directory / "plain"
    strange = as_user.directory / "strange"
    for place in (plain, strange):
        place.mkdir()
        if os.geteuid() != as_user.uid:
            os.chown(place, as_user.uid, as_user.gid)
    acl = "default:user::rwx,default:group::rwx,default:other::rwx,default:user:daemon:rwx"
    callers.need_program("setfacl")
    done = as_user.call("setfacl", "-m", acl, str(strange))
    if done.code != 0:
        callers.missing(f"no ACLs in {strange}: {done.err}", "use a filesystem that has them")
    assert as_user.call("chmod", "2777", str(strange)).code == 0
    expected = run(as_user, plain)
    assert "/ 755 0:0" in expected[1] or as_user.kind == "single"
    assert "made 644 1000:1000" in expected[1]
    assert run(as_user, strange) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="as two users")
def test_root_and_a_range_give_the_same(shared_tmp: Path) -> None:
    told = []
    for kind in ("root", "range"):
        directory = shared_tmp / kind
        directory.mkdir(mode=0o755)
        who = callers.caller(kind, directory)
        place = directory / "place"
        place.mkdir()
        os.chown(place, who.uid, who.gid)
        told.append(run(who, place))
    assert told[0] == told[1]
