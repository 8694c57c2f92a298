"""Whether a process can start at all, asked of the assembled root before anything runs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from repeatr.assembly import paths
from repeatr.assembly.layers import within
from repeatr.engines.contract import ExecFailure
from repeatr.errors import Category, RepeatrError

# The kernel reads as much of a script's first line (BINPRM_BUF_SIZE), and follows as many
# scripts whose interpreters are scripts.
_FIRST_LINE = 256
_MOST_INTERPRETERS = 5


def find_program(root_fd: int, name: str, env: Mapping[str, str]) -> str:
    """The path of the program `name`: itself, or the first of that name in the action's PATH.

    Raises RepeatrError (JOB_INVALID).
    """
    if name.startswith("/"):
        return name
    tried = []
    for directory in env.get("PATH", "").split(":"):
        if not directory.startswith("/"):
            continue
        path = f"{directory.rstrip('/')}/{name}"
        found = _look(root_fd, path)
        if found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            return path
        tried.append(directory)
    raise _invalid(
        f"action.exec: no program {name!r} in the PATH of the container",
        f"looked in {', '.join(tried) or 'no directory: PATH is empty'};"
        " write its absolute path, or add an input that has it",
    )


def check(root_fd: int, program: str, cwd: str) -> None:
    """Raise RepeatrError (JOB_INVALID) where `cwd` can't be entered or `program` not executed."""
    found = _look(root_fd, cwd)
    if found is None or not stat.S_ISDIR(found.st_mode):
        what = "does not exist" if found is None else "is not a directory"
        raise _invalid(f"action.cwd: {cwd} {what} in the container", "use a directory of an input")
    _check_program(root_fd, program, "action.exec", _MOST_INTERPRETERS)


def explain(failure: ExecFailure, root_fd: int, program: str, cwd: str) -> RepeatrError:
    """The error for a process that did not start although `check` found nothing."""
    why = os.strerror(failure.errno)
    if failure.step == "cwd":
        return _invalid(
            f"action.cwd: {cwd} can't be entered by the action's user: {why}",
            "give that user access, or use another directory",
        )
    if failure.step != "exec":
        return RepeatrError(
            Category.EXECUTOR, f"the container could not start its process ({failure.step}): {why}"
        )
    if failure.errno == errno.ENOENT:
        loader = _loader(root_fd, program)
        if loader and _look(root_fd, loader) is None:
            return _invalid(
                f"action.exec: {program} needs the loader {loader}, which is not in the container",
                "add an input with the C library it was built for, or use a static program",
            )
    remedies = {
        errno.EACCES: "the action's user must be allowed to execute it and to reach it",
        errno.ENOEXEC: "it is no program of this machine's kind, and no script with a #! line",
        errno.E2BIG: "shorten the arguments or the environment",
    }
    return _invalid(
        f"action.exec: {program} can't be executed: {why}",
        remedies.get(failure.errno, "check that it runs on this machine"),
    )


def _check_program(root_fd: int, program: str, what: str, depth: int) -> None:
    inside = _resolved(root_fd, program)
    if within(inside, b"proc"):
        # There the kernel shows Repeatr's own program, until it has started the action's.
        raise _invalid(
            f"{what}: {program} is in /proc, which is no input's", "name a program of an input"
        )
    if within(inside, b"dev"):
        return  # the engine's, and not there yet
    found = _look(root_fd, program)
    if found is None:
        raise _invalid(
            f"{what}: {program} does not exist in the container",
            "check the path, and that an input brings it",
        )
    if stat.S_ISDIR(found.st_mode):
        raise _invalid(f"{what}: {program} is a directory", "name the program in it")
    if not stat.S_ISREG(found.st_mode):
        raise _invalid(f"{what}: {program} is not a file", "name a program")
    if not found.st_mode & 0o111:
        raise _invalid(
            f"{what}: {program} is not executable",
            "give it the mode bit x in its input, or run it through its interpreter",
        )
    interpreter = _interpreter(root_fd, program)
    if interpreter.startswith("/") and depth:
        _check_program(
            root_fd, interpreter, f"{what}: the interpreter that {program} names", depth - 1
        )


def _interpreter(root_fd: int, program: str) -> str:
    """What the first line of a script names, or ""."""
    with _Opened(root_fd, program) as fd:
        start = os.read(fd, _FIRST_LINE) if fd >= 0 else b""
    if not start.startswith(b"#!"):
        return ""
    words = start[2:].split(b"\n", 1)[0].split()
    return os.fsdecode(words[0]) if words else ""


def _loader(root_fd: int, program: str) -> str:
    """The loader that an ELF program names, or ""."""
    from repeatr.base import elf

    with _Opened(root_fd, program) as fd:
        if fd < 0:
            return ""
        try:
            return elf.read(f"/proc/self/fd/{fd}").interpreter
        except (elf.NotElf, OSError):
            return ""


class _Opened:
    """A file of the root, opened for reading; -1 where that can't be."""

    def __init__(self, root_fd: int, path: str) -> None:
        self._root_fd = root_fd
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        try:
            inside = paths.resolve(self._root_fd, paths.relative(self._path), follow_last=True)
            parent, _, name = inside.rpartition(b"/")
            directory = paths.open_directory(self._root_fd, parent)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self._fd = os.open(name, flags, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError:
            self._fd = -1
        return self._fd

    def __exit__(self, *_error: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _resolved(root_fd: int, path: str) -> bytes:
    try:
        return paths.resolve(root_fd, paths.relative(path), follow_last=True)
    except OSError:
        return paths.relative(path)


def _look(root_fd: int, path: str) -> os.stat_result | None:
    try:
        inside = paths.resolve(root_fd, paths.relative(path), follow_last=True)
        return paths.status(root_fd, inside)
    except OSError:
        return None


def _invalid(message: str, remedy: str) -> RepeatrError:
    return RepeatrError(Category.JOB_INVALID, message, remedy=remedy)
