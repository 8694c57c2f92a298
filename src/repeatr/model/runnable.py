"""Whether a formula can run: what parsing lets through, because it can be hashed, and a run
must not.

The formats decide what hashes; this decides what is safe to hand to a container.
"""

from __future__ import annotations

import re
from typing import NoReturn

from repeatr.errors import Category, RepeatrError
from repeatr.model.formula import (
    NETWORKS,
    POLICIES,
    Action,
    Formula,
    UserInfo,
)
from repeatr.model.validation import key_path, with_field
from repeatr.model.wareid import WareID, shortened, split_mount

# The highest id of Linux is 2^32-2: 2^32-1 is -1, which system calls read as "leave it".
_MAX_ID = 2**32 - 2

# HOST_NAME_MAX of Linux.
_MAX_HOSTNAME = 64
_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", re.ASCII)
_USERNAME = re.compile(r"[^\x00-\x20:/,\x7f-][^\x00-\x20:/,\x7f]*")


def check_runnable(formula: Formula, where: str = "formula") -> None:
    """Refuse a formula that may be hashed but not run; `where` is the path of its field.

    Raises RepeatrError USAGE naming the field, or JOB_INVALID where there is nothing to
    execute.
    """
    for path, ware in (formula.inputs or {}).items():
        place = key_path(f"{where}.inputs", path)
        _check_path(path, place)
        _check_ware(ware, place)
    for path, output in (formula.outputs or {}).items():
        place = key_path(f"{where}.outputs", path)
        _check_path(path, place)
        if not output.packtype:
            _refuse(f"{place}.packtype", "expected a packtype, found none", "write for example tar")
    _check_action(formula.action, f"{where}.action")


def _check_ware(ware: WareID, place: str) -> None:
    if not ware.packtype and not ware.hash:
        _refuse(place, "expected a WareID, found empty text", "write the ware as PACKTYPE:HASH")
    try:
        if ware.is_mount:
            _check_path(split_mount(ware).path, place)
        else:
            WareID.parse(str(ware))
    except RepeatrError as error:
        if error.message.startswith(place):
            raise
        raise with_field(error, place) from None


def _check_path(path: str, place: str) -> None:
    """A path inside the root. The original normalizes it when it runs, and so do we."""
    if not path.startswith("/"):
        _refuse(
            place,
            f"expected an absolute path, found {shortened(path)}",
            "start the path with /",
        )
    _check_no_nul(path, place)


def _check_directory(path: str, place: str) -> None:
    """A path that is only looked up, so that a "/" too many does no harm."""
    if not path.startswith("/"):
        _refuse(
            place,
            f"expected an absolute path, found {shortened(path)}",
            "start the path with /",
        )
    _check_no_nul(path, place)
    if ".." in path.split("/"):
        _refuse(place, f"the path {shortened(path)} has .. in it", "write the path without ..")


def _check_no_nul(text: str, place: str) -> None:
    if "\0" in text:
        _refuse(place, f"a zero character in {shortened(text)}", "no process can be given one")


def _check_action(action: Action, where: str) -> None:
    _check_exec(action, f"{where}.exec")
    _check_choice(action.policy, POLICIES, f"{where}.policy")
    _check_choice(action.network, NETWORKS, f"{where}.network")
    if action.cwd:
        _check_directory(action.cwd, f"{where}.cwd")
    for name, value in action.env.items():
        place = key_path(f"{where}.env", name)
        if not name or "=" in name:
            _refuse(place, f"{shortened(name)} can't be a variable's name", "no name has = in it")
        _check_no_nul(name, place)
        _check_no_nul(value, place)
    if action.userinfo is not None:
        _check_userinfo(action.userinfo, f"{where}.userinfo")
    if action.hostname and (
        len(action.hostname) > _MAX_HOSTNAME or not _HOSTNAME.fullmatch(action.hostname)
    ):
        _refuse(
            f"{where}.hostname",
            f"{shortened(action.hostname)} can't be a host name",
            f"take letters, digits, - and . only, {_MAX_HOSTNAME} of them at most",
        )


def _check_exec(action: Action, where: str) -> None:
    if action.noop:
        return
    if not action.exec:
        raise RepeatrError(
            Category.JOB_INVALID,
            f"{where}: there is nothing to execute",
            remedy='write the command as a list, or "noop": true to only pack the inputs',
        )
    program = action.exec[0]
    if not program or ("/" in program and not program.startswith("/")):
        _refuse(
            f"{where}[0]",
            f"expected an absolute path or a bare name, found {shortened(program)}",
            "start the path with /, or write a name that is looked up in the action's PATH",
        )
    for index, argument in enumerate(action.exec):
        _check_no_nul(argument, f"{where}[{index}]")


def _check_choice(value: str, choices: tuple[str, ...], place: str) -> None:
    if value and value not in choices:
        _refuse(
            place,
            f"expected {' or '.join(choices)}, found {shortened(value)}",
            "write one of these, or leave the field out",
        )


def _check_userinfo(info: UserInfo, where: str) -> None:
    for name, number in (("uid", info.uid), ("gid", info.gid)):
        if number is not None and not 0 <= number <= _MAX_ID:
            _refuse(
                f"{where}.{name}",
                f"expected a number from 0 to {_MAX_ID}, found {number}",
                "Linux has no other ids",
            )
    if info.username and not _USERNAME.fullmatch(info.username):
        _refuse(
            f"{where}.username",
            f"{shortened(info.username)} can't be a user name",
            "it must not have blanks, colons, commas or slashes in it, or start with -",
        )
    if info.homedir:
        _check_directory(info.homedir, f"{where}.homedir")


def _refuse(place: str, problem: str, remedy: str) -> NoReturn:
    raise RepeatrError(Category.USAGE, f"{place}: {problem}", remedy=remedy)
