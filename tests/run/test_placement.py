"""Runs where the store's filesystem, or the host, allows less than usual: same results."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

import callers
from callers import Caller, Done

KEEP = dict.fromkeys(("uid", "gid", "mtime", "sticky", "setid", "dev", "xattr"), "keep")
MEMORY = "overlay, upper layer on tmpfs"

#: Changes of every kind, by the action's user.
SCRIPT = """
cd /data && echo more >> file && rm gone && rm -r dir && mkdir dir && echo new > dir/new &&
ln -s x link && chmod 700 mode && mv old new && ln file hard && mkdir -p a/b/c && : > /task/out
"""


def ware(caller: Caller) -> str:
    """A root with a shell and with everything that only root can unpack; its WareID."""
    busybox = Path(callers.need_program("busybox")).read_bytes()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(
            name: str,
            kind: bytes,
            mode: int = 0o755,
            uid: int = 0,
            data: bytes = b"",
            **more: object,
        ) -> None:
            info = tarfile.TarInfo("./" + name)
            info.type, info.mode, info.uid, info.gid = kind, mode, uid, uid
            info.mtime, info.size = 1_100_000_000, len(data)
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        d, f = tarfile.DIRTYPE, tarfile.REGTYPE
        for name in ("", "bin", "dev", "tmp", "task", "data", "data/dir", "data/dir/sub"):
            add(name, d, 0o755, 1000 if name.startswith(("task", "data")) else 0)
        add("bin/busybox", f, data=busybox)
        for name in ("sh", "rm", "mkdir", "ln", "chmod", "mv", "cat", "sleep"):
            add(f"bin/{name}", tarfile.SYMTYPE, 0o777, linkname="busybox")
        for name in ("file", "gone", "mode", "old", "dir/x"):
            add(f"data/{name}", f, 0o644, 1000, name.encode())
        add("dev/sda", tarfile.BLKTYPE, 0o660, devmajor=8, devminor=1)
        add("bin/su", f, 0o6755, 4_000_000_000, b"set-id")
        note = {"SCHILY.xattr.security.selinux": "label", "SCHILY.xattr.user.note": "n"}
        add("noted", f, 0o600, 77, b"n", pax_headers=note)
        add("pipe", tarfile.FIFOTYPE, 0o600, 3_000_000_000)
    (caller.directory / "root.tar").write_bytes(out.getvalue())
    done = caller.repeatr(
        "scan", "tree", "--filters=dev=follow,setid=follow", "--source=file://./root.tar"
    )
    assert done.code == 0, done.err
    return done.out.strip()


def write(caller: Caller, script: str, cradle: bool = False) -> Path:
    path = caller.directory / "a.formula"
    id_ = ware(caller)
    action: dict[str, object] = {"exec": ["/bin/sh", "-ec", script]}
    if not cradle:
        action["cradle"] = "disable"
    filters = {**KEEP, "mtime": "@0"} if "echo" in script else KEEP
    document = {
        "formula": {
            "inputs": {"/": id_},
            "action": action,
            "outputs": {"/": {"packtype": "tree", "filters": filters}},
        },
        "context": {"fetchUrls": {"/": [f"file://{caller.directory}/root.tar"]}},
    }
    path.write_text(json.dumps(document))
    return path


def run(
    caller: Caller, path: Path, *prefix: str, home: str = "", options: tuple[str, ...] = ()
) -> Done:
    env = {"REPEATR_HOME": home} if home else {}
    words = (sys.executable, "-m", "repeatr", "run", str(path), *options)
    return caller.call(*prefix, *words, env=env)


def result(done: Done) -> tuple[str, str]:
    """The output's id, and the placement."""
    assert done.code == 0, done.err
    record = json.loads(done.out)
    return record["results"]["/"], record["metadata"]["placement"]


def test_a_root_comes_out_as_it_went_in(as_user: Caller) -> None:
    """Whoever runs it: devices, owners and attributes that they could not unpack are there."""
    path = write(as_user, "exit 0")
    asked = json.loads(path.read_text())["formula"]["inputs"]["/"]
    assert result(run(as_user, path)) == (asked, "overlay")


def mounted(what: str) -> tuple[str, ...]:
    """A prefix that runs a command with a filesystem at ./other, in a mount namespace."""
    return ("unshare", "-m", "sh", "-ec", f'mkdir -p other; {what}; exec "$@"', "sh")


ON_OVERLAY = (
    "mkdir -p l; mount -t tmpfs t l; mkdir l/u l/w l/l;"
    "mount -t overlay -o lowerdir=l/l,upperdir=l/u,workdir=l/w o other"
)


@pytest.mark.parametrize("script", ["exit 0", SCRIPT], ids=["nothing", "changes"])
def test_stores_that_hold_no_overlay(shared_tmp: Path, script: str) -> None:
    caller = callers.caller("root", shared_tmp)
    path = write(caller, script)
    usual = result(run(caller, path))
    assert usual[1] == "overlay"
    place = str(caller.directory / "other" / "store")
    done = run(caller, path, *mounted(ON_OVERLAY), home=place)
    assert result(done) == (usual[0], MEMORY)
    assert "the store can hold no overlay" in done.err and "memory" in done.err
    # No extended attributes at all there.
    done = run(caller, path, *mounted("mount -t ramfs r other"), home=place)
    assert result(done) == (usual[0], MEMORY)
    assert "no extended attributes" in done.err


#: As in a container whose profile denies namespaces and mounts.
CONFINED = """
import os, sys
from repeatr.linux import calls
import seccomp
for name in ("unshare", "mount"):
    seccomp.deny(name)
seccomp.deny("clone", flags=0x7e020000 & ~0x01000000)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def confined() -> tuple[str, ...]:
    path = f"PYTHONPATH={callers.SOURCES}:{callers.CHECKOUT / 'tests'}"
    return ("env", path, "setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", CONFINED)


@pytest.mark.parametrize("cradle", [False, True])
@pytest.mark.parametrize("script", ["exit 0", SCRIPT], ids=["nothing", "changes"])
def test_root_without_namespaces_and_mounts(shared_tmp: Path, script: str, cradle: bool) -> None:
    caller = callers.caller("root", shared_tmp)
    path = write(caller, script, cradle)
    usual = result(run(caller, path))
    done = run(caller, path, *confined())
    assert result(done) == (usual[0], "copy")
    record = json.loads(done.out)
    assert record["metadata"]["engine"] == "chroot"
    assert "seccomp filter refuses it" in record["metadata"]["note"]
    # What was copied is gone, devices and all.
    assert os.listdir(caller.home / "runs") == []
    document = json.loads(path.read_text())
    document["formula"]["inputs"]["/mnt"] = "mount:ro:/etc"
    path.write_text(json.dumps(document))
    done = run(caller, path, *confined())
    assert done.code == 10 and "/etc, wanted at /mnt, can't be mounted" in done.err


def test_root_of_a_user_namespace(shared_tmp: Path) -> None:
    """There, overlayfs may not keep its notes where root's do."""
    caller = callers.caller("root", shared_tmp)
    path = write(caller, SCRIPT)
    usual = result(run(caller, path))
    # All ids but none of the host's rights, as in a rootless container.
    into = (
        "import os, sys\nfrom repeatr.linux import enclosure, idmaps\n"
        "enclosure._enter_user_namespace(idmaps.everything(), '')\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    done = run(caller, path, sys.executable, "-c", into, home=f"{shared_tmp}/in")
    assert result(done) == (usual[0], "overlay")


def test_from_a_directory_that_the_user_cannot_enter(as_user: Caller) -> None:
    path = write(as_user, "exit 0")
    as_user.directory.chmod(0o711)
    closed = as_user.directory / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 0 if as_user.kind != "root" else 1, 0)
    words = (sys.executable, "-m", "repeatr", "run", str(path))
    done = as_user.call(*words, cwd=closed)
    assert done.code == 0, done.err


def test_an_environment_that_shows_nowhere(as_user: Caller) -> None:
    """Neither the caller's umask nor what the store's parent hands down changes a result."""
    path = write(as_user, SCRIPT, cradle=True)
    usual = result(run(as_user, path))
    place = as_user.directory / "inheriting"
    place.mkdir()
    os.chown(place, as_user.uid, as_user.gid)
    place.chmod(0o2777)
    callers.need_program("setfacl")
    done = as_user.call("setfacl", "-d", "-m", "u::rwx,g::rwx,o::rwx,u:65534:rwx", str(place))
    assert done.code == 0, done.err
    strict = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    assert result(run(as_user, path, *strict, home=str(place / "store"))) == usual


def test_engines_agree_on_the_examples(shared_tmp: Path) -> None:
    told: dict[str, object] = {}
    for kind, engine in (
        ("root", "namespaces"),
        ("root", "chroot"),
        ("range", "namespaces"),
        ("single", "namespaces"),
    ):
        directory = shared_tmp / f"{kind}-{engine}"
        directory.mkdir()
        caller = callers.caller(kind, directory)
        base = caller.repeatr("base", "busybox", "sh", "ls", "echo", "mkdir", "ln", "true", "id")
        assert base.code == 0, base.err
        for example in sorted((callers.CHECKOUT / "examples").glob("*.formula")):
            document = example.read_text().replace("tree:BASE", base.out.strip())
            if engine == "chroot" and '"hostname"' in document:
                continue
            done = caller.repeatr("run", "-", f"--engine={engine}", stdin=document)
            assert done.code == 0, (example, done.err)
            record = json.loads(done.out)
            answer = (record["formulaID"], record["results"])
            assert told.setdefault(example.name, answer) == answer, (example, kind, engine)
    assert len(told) == 6


KILLED_WITHOUT_NAMESPACE = """
import os, signal, sys
from pathlib import Path
from repeatr.assembly.layers import Owner
from repeatr.assembly.root import Root, Source
from repeatr.linux import enclosure
from repeatr.model.events import ignore
from repeatr.model.wareid import WareID
from repeatr.store.filesets import Store
here = enclosure.on_host(can_mount=True)
store = Store(Path(os.environ["REPEATR_HOME"]), here.idmap.key)
if len(sys.argv) > 3:
    with store.run_directory("alive") as alive:
        root = Root(alive.path, here, Owner(0, 0), ignore)
        root.assemble({})
        if os.fork() == 0:
            os.execvp(sys.argv[3], sys.argv[3:])
        assert os.wait()[1] == 0
        assert os.path.ismount(root.path)
        root.release()
    sys.exit()
directory = store.run_directory("killed").__enter__().path
fileset = store.ensure(WareID.parse(sys.argv[1]), [sys.argv[2]])
root = Root(directory, here, Owner(1000, 1000), ignore)
root.assemble({"/": Source(fileset), "/in": Source(fileset), "/etc": Source(host="/etc")})
assert os.path.ismount(root.path)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_mounts_of_a_run_killed_on_a_host_without_namespaces(shared_tmp: Path) -> None:
    caller = callers.caller("root", shared_tmp)
    path = write(caller, "exit 0")
    id_ = json.loads(path.read_text())["formula"]["inputs"]["/"]
    program = caller.directory / "killed.py"
    program.write_text(KILLED_WITHOUT_NAMESPACE)
    url = f"file://{caller.directory}/root.tar"
    script = f"""
{sys.executable} {program} {id_} {url}
[ $(grep -c {caller.home}/runs/killed /proc/self/mountinfo) -ge 3 ] || exit 90
{sys.executable} {program} - - {sys.executable} -m repeatr run {path} || exit 91
! grep {caller.home}/runs /proc/self/mountinfo || exit 92
"""
    done = caller.call("unshare", "-m", "sh", "-c", script)
    assert done.code == 0, (done.code, done.err)
    assert os.listdir(caller.home / "runs") == []
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize(
    ("path", "filters", "code"),
    [
        ("/dev/sda", {}, 12),
        ("/dev/sda", {"dev": "ignore"}, 12),
        ("/dev/sda", {"dev": "reject"}, 13),
        ("/pipe", {}, 12),
        ("/bin/sh", {}, 12),
        ("/bin/su", {"setid": "reject"}, 13),
        ("/bin", {"setid": "reject"}, 13),
        ("/dev", {"dev": "reject"}, 13),
    ],
)
def test_outputs_that_are_refused(
    as_user: Caller, path: str, filters: dict[str, str], code: int
) -> None:
    """For everybody the same, whatever of it they could unpack."""
    formula = write(as_user, "exit 0")
    document = json.loads(formula.read_text())
    document["formula"]["outputs"] = {path: {"packtype": "tar", "filters": filters}}
    formula.write_text(json.dumps(document))
    done = run(as_user, formula)
    assert done.code == code, done.err
    assert done.out == ""
    assert os.listdir(as_user.home / "runs") == []


def test_the_stores_own_warehouse_comes_first(as_user: Caller) -> None:
    base = as_user.repeatr("base", "sh").out.strip()
    document = {
        "formula": {"inputs": {"/": base}, "action": {"exec": ["/bin/sh", "-c", "exit 0"]}},
        "context": {"fetchUrls": {"/": ["http://127.0.0.1:1/nobody", "ca+file:///absent"]}},
    }
    done = as_user.repeatr("run", "-", stdin=json.dumps(document))
    assert done.code == 0 and "warn" not in done.err, done.err
    other = {"REPEATR_HOME": str(as_user.directory / "other")}
    assert as_user.repeatr("run", "-", stdin=json.dumps(document), env=other).code == 3
