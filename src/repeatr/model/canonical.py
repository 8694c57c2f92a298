"""The canonical form of a formula: its JSON, its CBOR, its hash; and its defaults.

Keys stand in a fixed order, which is no sorted one: inputs, action, outputs; in the action
exec, noop, policy, cwd, env, userinfo, cradle, hostname, and after them the fields that
this project added, in the order in which they came: network. Maps with free keys are
sorted by the bytes of their keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TypeVar

from repeatr.model import base58, cbor
from repeatr.model.filters import Filters
from repeatr.model.formula import Action, Formula, Output, UserInfo

#: The search path of an action that sets none.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_DEFAULT_ID = 1000

_T = TypeVar("_T")


def canonical_map(formula: Formula) -> dict[str, cbor.Value]:
    """The formula as maps in canonical order; JSON and CBOR are both written from it."""
    inputs = formula.inputs
    outputs = formula.outputs
    return {
        "inputs": None if inputs is None else {p: str(w) for p, w in _sorted(inputs)},
        "action": action_map(formula.action),
        "outputs": None if outputs is None else {p: _output_map(o) for p, o in _sorted(outputs)},
    }


def action_map(action: Action) -> dict[str, cbor.Value]:
    """An action as a map in canonical order: only the fields that are given."""
    info = action.userinfo
    fields: dict[str, cbor.Value] = {
        "exec": list(action.exec) or None,
        "noop": action.noop or None,
        "policy": action.policy or None,
        "cwd": action.cwd or None,
        "env": dict(_sorted(action.env)) or None,
        # An empty userinfo that is there stays, unlike everything else that is empty.
        "userinfo": None if info is None else _userinfo_map(info),
        "cradle": action.cradle or None,
        "hostname": action.hostname or None,
        "network": action.network or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _userinfo_map(info: UserInfo) -> dict[str, cbor.Value]:
    fields: dict[str, cbor.Value] = {
        "uid": info.uid,
        "gid": info.gid,
        "username": info.username or None,
        "homedir": info.homedir or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _output_map(output: Output) -> dict[str, cbor.Value]:
    filters = output.filters
    return {
        "packtype": output.packtype,
        "filters": None if filters is None else dict(filters.canonical()),
    }


def _sorted(items: Mapping[str, _T]) -> list[tuple[str, _T]]:
    # In UTF-8, order by bytes is order by code point, which is how Python compares text.
    return sorted(items.items())


def canonical_json(formula: Formula) -> str:
    """The canonical JSON: no spaces, non-ASCII characters as they are."""
    return json.dumps(canonical_map(formula), ensure_ascii=False, separators=(",", ":"))


def canonical_cbor(formula: Formula) -> bytes:
    """The canonical CBOR: what is hashed."""
    return cbor.encode(canonical_map(formula))


def setup_hash(formula: Formula) -> str:
    """The hash of a formula as it is: base58 of the SHA-384 of its canonical CBOR."""
    return base58.encode(hashlib.sha384(canonical_cbor(formula)).digest())


def formula_id(formula: Formula) -> str:
    """The id in run records: the setup hash with defaults filled in."""
    return setup_hash(with_defaults(formula))


def with_defaults(formula: Formula) -> Formula:
    """The formula with everything filled in that a run takes for granted.

    Filling in twice changes nothing. The values of default filters are not filled in: they
    are never hashed.
    """
    outputs = formula.outputs
    if outputs is not None:
        outputs = {
            path: output if output.filters is not None else output._replace(filters=Filters())
            for path, output in outputs.items()
        }
    return formula._replace(action=_action_with_defaults(formula.action), outputs=outputs)


def _action_with_defaults(action: Action) -> Action:
    info = action.userinfo or UserInfo()
    uid = _DEFAULT_ID if info.uid is None else info.uid
    gid = _DEFAULT_ID if info.gid is None else info.gid
    if not action.cradled:
        return action._replace(cwd=action.cwd or "/", userinfo=info._replace(uid=uid, gid=gid))
    username = info.username or ("root" if uid == 0 else "reuser")
    homedir = info.homedir or ("/root" if uid == 0 else f"/home/{username}")
    env = {"HOME": homedir, "USER": username, "PATH": DEFAULT_PATH, **action.env}
    return action._replace(
        cwd=action.cwd or "/task",
        env=env,
        userinfo=UserInfo(uid=uid, gid=gid, username=username, homedir=homedir),
    )
