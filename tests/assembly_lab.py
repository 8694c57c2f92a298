"""A process that assembles roots, lets something happen in them, and collects what is there.

Run in a process of its own, `serve` enters the enclosure, once, and answers requests on
standard input. It is how tests reach the room `assembly` as any user, without an engine,
many times a second.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from callers import SOURCES, Caller
from made_trees import Tree
from repeatr.fileset.entry import Entry

# Not as a script: what is pickled must be of one module on both sides.
_MAIN = "from assembly_lab import serve; serve()"

#: What a happening may use.
_PRELUDE = """
import os, shutil, socket, stat
def write(path, data=b"new", flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    # What is a fifo does not wait for its other end.
    fd = os.open(path, flags | os.O_NONBLOCK, 0o644)
    os.write(fd, data)
    os.close(fd)
"""


class Request(NamedTuple):
    """What to assemble, what to do in it (Python, in a chroot), and what to collect."""

    inputs: dict[str, Tree | str]
    happening: str = ""
    outputs: tuple[str, ...] = ("/",)
    placement: str = "overlay"
    owner: tuple[int, int] = (1000, 1000)
    cradle: tuple[str, str] | None = None
    mount_points: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What was collected by output (None: nothing there), what a full scan sees, what was told.

    Entries have digests. `error` is the category and message of a RepeatrError.
    """

    outputs: dict[str, list[Entry] | None]
    ids: dict[str, str]
    scan: list[Entry]
    placement: str
    told: list[str]
    error: tuple[str, str] | None = None


class Lab:
    """A lab run as `caller`. A context manager."""

    def __init__(self, caller: Caller, prefix: Sequence[str] = ()) -> None:
        self.caller = caller
        self._home = caller.directory / "lab"
        words = caller.command([*prefix, sys.executable, "-c", _MAIN, str(self._home)])
        environment = caller.environment({"PYTHONPATH": f"{SOURCES}:{Path(__file__).parent}"})
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=caller.directory,
        )

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(10) == 0
        finally:
            self._process.kill()

    def __call__(self, request: Request) -> Answer:
        """The answer; an error of the lab itself fails the test."""
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        answer = pickle.load(self._process.stdout)
        assert isinstance(answer, Answer), answer
        return answer


def serve() -> None:
    """Answer requests until there are no more."""
    from repeatr.linux import enclosure
    from repeatr.store.removal import remove_tree

    home = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    here = enclosure.enter()
    home.mkdir(exist_ok=True)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        place = tempfile.mkdtemp(dir=home)
        try:
            answer: Any = _answer(request, here, Path(place))
        except BaseException:
            answer = traceback.format_exc()
        parent = os.open(home, os.O_RDONLY)
        stuck = remove_tree(parent, os.path.basename(place))
        os.close(parent)
        if stuck:
            answer = f"left over: {stuck}"
        pickle.dump(answer, answers)
        answers.flush()


def _answer(request: Request, here: Any, place: Path) -> Answer:
    from repeatr.assembly import overlay
    from repeatr.assembly.layers import Owner
    from repeatr.assembly.root import Root, Source
    from repeatr.errors import RepeatrError
    from repeatr.store.scratch import Scratch

    told: list[Any] = []
    if request.placement == "copy":
        here = here._replace(can_mount=False)
    prepare = overlay.prepare

    def only_in_memory(place: Path, lower: Path) -> tuple[Path, str]:
        if place.parent.name != "memory":
            raise overlay.Unsupported("the test says so")
        return prepare(place, lower)

    if request.placement == "memory":
        overlay.prepare = only_in_memory
    try:
        sources = {}
        for number, (path, tree) in enumerate(request.inputs.items()):
            if isinstance(tree, str):
                mode, _, host = tree.partition(":")
                sources[path] = Source(host=host, writable=mode == "rw")
            else:
                sources[path] = Source(_fileset(place / f"input{number}", tree))
        with (
            Scratch(place, "run", told.append) as scratch,
            Root(scratch.path, here, Owner(*request.owner), told.append) as root,
        ):
            try:
                outputs, ids, scan = _happen(root, sources, request, told)
                error = None
            except RepeatrError as problem:
                outputs, ids, scan = {}, {}, []
                error = (problem.category.name, problem.message)
            placement = root.placement
    finally:
        overlay.prepare = prepare
    assert not [name for name in os.listdir(place) if name.startswith("run")], "left over"
    return Answer(outputs, ids, scan, placement, [each.msg for each in told], error)


def _fileset(directory: Path, tree: Tree) -> Any:
    from repeatr.fileset.manifest import Manifest
    from repeatr.fileset.place import Placer
    from repeatr.model.wareid import WareID
    from repeatr.store.filesets import StoredFileset
    from repeatr.store.scratch import make_private

    make_private(directory)
    with Placer(directory / "root", faithful=False) as placer:
        for entry, content in tree:
            placer.place(entry, content)
    return StoredFileset(
        directory, directory.name, WareID("tree", "test"), Manifest(e for e, _ in tree)
    )


def _happen(
    root: Any, sources: dict[str, Any], request: Request, told: list[Any]
) -> tuple[dict[str, list[Entry] | None], dict[str, str], list[Entry]]:
    from repeatr.assembly import paths
    from repeatr.assembly.collect import Collector
    from repeatr.fileset.outlet import FilesOnDisk
    from repeatr.fileset.scan import scan
    from repeatr.wares.packing import pack

    root.assemble(sources)
    if request.cradle is not None:
        places = [
            paths.resolve(root.fd, paths.relative(each), follow_last=True)
            for each in (*request.cradle, "/tmp")
        ]
        root.carpenter.cradle(*places, root.owner)
    root.prepare(request.mount_points)
    _act(os.fspath(root.path), request.happening)
    with FilesOnDisk(root.path) as files:
        seen = pack("tree", scan(root.path, xattrs=True), files, None).manifest
    collector = Collector(root, told.append)
    outputs: dict[str, list[Entry] | None] = {}
    ids = {}
    for path in request.outputs:
        with collector.collect(path) as collected:
            if collected is None:
                outputs[path] = None
            else:
                packed = pack("tree", collected.manifest, collected.open_file, None)
                outputs[path] = list(packed.manifest)
                ids[path] = str(packed.ware)
    return outputs, ids, list(seen)


def _act(root: str, happening: str) -> None:
    if not happening:
        return
    code = compile(_PRELUDE + happening, "happening", "exec")
    __import__("encodings.idna")  # what the chroot does not have must be here before
    import random  # noqa: F401
    import shutil  # noqa: F401
    import socket  # noqa: F401

    pid = os.fork()
    if pid == 0:
        try:
            # A mount namespace of its own, as a container has.
            from repeatr.linux import calls

            if os.path.ismount(root):
                calls.unshare(calls.CLONE_NEWNS)
            os.chroot(root)
            os.chdir("/")
            os.umask(0o022)
            exec(code, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "what was to happen failed"
