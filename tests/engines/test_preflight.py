from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from repeatr.engines import preflight
from repeatr.engines.contract import ExecFailure
from repeatr.errors import Category, RepeatrError

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


class Tree:
    """A root directory, and the errors of looking into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def file(self, name: str, content: bytes = b"\x7fELF", mode: int = 0o755) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)

    def refusal(self, program: str, cwd: str = "/") -> tuple[str, str]:
        with pytest.raises(RepeatrError) as caught:
            preflight.check(self.fd, program, cwd)
        assert caught.value.category is Category.JOB_INVALID
        assert caught.value.exit_code == 40
        return caught.value.message, caught.value.remedy

    def explained(self, number: int, step: str = "exec", program: str = "/bin/p") -> RepeatrError:
        return preflight.explain(ExecFailure(number, step), self.fd, program, "/work")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "root").mkdir()
    made = Tree(tmp_path / "root")
    made.file("bin/sh")
    yield made
    os.close(made.fd)


def test_good(tree: Tree) -> None:
    (tree.path / "work").mkdir()
    preflight.check(tree.fd, "/bin/sh", "/work")
    preflight.check(tree.fd, "/dev/fd/0", "/")  # the engine's, to be seen when it is there


def test_program_missing(tree: Tree) -> None:
    assert tree.refusal("/bin/nothing") == (
        "action.exec: /bin/nothing does not exist in the container",
        "check the path, and that an input brings it",
    )


def test_program_is_a_directory(tree: Tree) -> None:
    assert tree.refusal("/bin") == ("action.exec: /bin is a directory", "name the program in it")


def test_program_is_a_fifo(tree: Tree) -> None:
    os.mkfifo(tree.path / "fifo", 0o755)
    assert tree.refusal("/fifo")[0] == "action.exec: /fifo is not a file"


def test_program_not_executable(tree: Tree) -> None:
    tree.file("bin/data", mode=0o644)
    message, remedy = tree.refusal("/bin/data")
    assert message == "action.exec: /bin/data is not executable"
    assert "mode bit x" in remedy


def test_interpreter_missing(tree: Tree) -> None:
    tree.file("script", b"#! /usr/bin/python3 -E\nprint()\n")
    assert tree.refusal("/script")[0] == (
        "action.exec: the interpreter that /script names: /usr/bin/python3 does not exist"
        " in the container"
    )


def test_interpreter_of_an_interpreter(tree: Tree) -> None:
    tree.file("one", b"#!/two\n")
    tree.file("two", b"#!/three")
    tree.file("three", mode=0o600)
    message, _remedy = tree.refusal("/one")
    assert message.endswith("the interpreter that /two names: /three is not executable")


def test_interpreters_in_a_circle(tree: Tree) -> None:
    tree.file("one", b"#!/two\n")
    tree.file("two", b"#!/one\n")
    preflight.check(tree.fd, "/one", "/")  # the kernel says ELOOP; this must only end


@pytest.mark.parametrize(
    "program", ["/proc/self/exe", "/bin/../proc/self/exe", "/link", "/script", "/up/self/exe"]
)
def test_program_of_repeatr_itself(tree: Tree, program: str) -> None:
    # Until execve succeeds, /proc/self/exe is the Python that runs Repeatr.
    (tree.path / "proc").mkdir()
    (tree.path / "link").symlink_to("proc/self/exe")
    (tree.path / "up").symlink_to("/../proc")
    tree.file("script", b"#!/proc/self/exe\n")
    message, _remedy = tree.refusal(program)
    assert "is in /proc, which is no input's" in message


def test_symlinks_lead_inside(tree: Tree) -> None:
    (tree.path / "sh").symlink_to("/bin/sh")
    (tree.path / "out").symlink_to(f"../../../..{os.path.realpath('/bin/sh')}")
    preflight.check(tree.fd, "/sh", "/")
    assert tree.refusal("/out")[0].endswith("does not exist in the container")


def test_cwd(tree: Tree) -> None:
    tree.file("file")
    assert tree.refusal("/bin/sh", "/nowhere") == (
        "action.cwd: /nowhere does not exist in the container",
        "use a directory of an input",
    )
    assert tree.refusal("/bin/sh", "/file")[0] == (
        "action.cwd: /file is not a directory in the container"
    )


def test_bare_name(tree: Tree) -> None:
    tree.file("usr/bin/tool", mode=0o644)
    tree.file("bin/tool")
    assert preflight.find_program(tree.fd, "tool", PATH) == "/bin/tool"
    assert preflight.find_program(tree.fd, "/x", {}) == "/x"


def test_bare_name_not_found(tree: Tree) -> None:
    with pytest.raises(RepeatrError) as caught:
        preflight.find_program(tree.fd, "tool", {"PATH": "/usr/bin:relative::/bin"})
    assert caught.value.exit_code == 40
    assert caught.value.message == "action.exec: no program 'tool' in the PATH of the container"
    assert caught.value.remedy.startswith("looked in /usr/bin, /bin; ")
    with pytest.raises(RepeatrError) as caught:
        preflight.find_program(tree.fd, "tool", {})
    assert caught.value.remedy.startswith("looked in no directory: PATH is empty; ")


def test_loader_absent(tree: Tree) -> None:
    tree.file("bin/p", _elf(b"/lib64/ld-strange.so.9\0"))
    error = tree.explained(errno.ENOENT)
    assert error.exit_code == 40
    assert error.message == (
        "action.exec: /bin/p needs the loader /lib64/ld-strange.so.9, which is not in the container"
    )
    assert "C library" in error.remedy


@pytest.mark.parametrize(
    ("number", "why", "remedy"),
    [
        (errno.EACCES, "Permission denied", "the action's user must be allowed"),
        (errno.ENOEXEC, "Exec format error", "no program of this machine's kind"),
        (errno.E2BIG, "Argument list too long", "shorten the arguments"),
        (errno.ENOENT, "No such file or directory", "check that it runs on this machine"),
    ],
)
def test_explained(tree: Tree, number: int, why: str, remedy: str) -> None:
    error = tree.explained(number)
    assert error.message == f"action.exec: /bin/p can't be executed: {why}"
    assert remedy in error.remedy
    assert error.exit_code == 40


def test_explained_cwd(tree: Tree) -> None:
    error = tree.explained(errno.EACCES, "cwd")
    assert error.message == (
        "action.cwd: /work can't be entered by the action's user: Permission denied"
    )


def test_explained_engine(tree: Tree) -> None:
    error = tree.explained(errno.EPERM, "become")
    assert error.exit_code == 42
    assert error.message == (
        "the container could not start its process (become): Operation not permitted"
    )


def _elf(interpreter: bytes) -> bytes:
    """A program of 64 bits with a PT_INTERP segment and nothing else (elf(5))."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    size = len(interpreter)
    return header + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, size, size, 1) + interpreter
