"""From parsed JSON or YAML to formulas: structure and kinds of values.

Whatever the original can hash is read, also where it could not run (see `runnable`).
Unknown fields are refused, except in filters, where the original drops them; here with a
warning.
"""

from __future__ import annotations

from repeatr.errors import RepeatrError
from repeatr.model.filters import KEYS, Filters, filters_from_map
from repeatr.model.formula import Action, Context, Document, Formula, Output, UserInfo
from repeatr.model.validation import (
    as_boolean,
    as_fields,
    as_integer,
    as_map,
    as_text,
    as_text_list,
    as_text_map,
    key_path,
    refuse,
    with_field,
)
from repeatr.model.wareid import WareID

_FORMULA_FIELDS = ("inputs", "action", "outputs")
_DOCUMENT_FIELDS = ("formula", "context")
_CONTEXT_FIELDS = ("fetchUrls", "saveUrls")
_OUTPUT_FIELDS = ("packtype", "filters")
_USERINFO_FIELDS = ("uid", "gid", "username", "homedir")
_ACTION_FIELDS = (
    "exec",
    "noop",
    "policy",
    "cwd",
    "env",
    "userinfo",
    "cradle",
    "hostname",
    "network",
)


def read_document(value: object, warnings: list[str]) -> Document:
    """A document: a formula with its context, or a bare formula.

    Appends to `warnings`. Raises RepeatrError USAGE naming the field that is wrong.
    """
    if not isinstance(value, dict):
        refuse("", "a map", value, 'a formula looks like {"inputs": {...}, "action": {...}}')
    fields = as_map(value, "")
    if any(key in fields for key in _FORMULA_FIELDS):
        return Document(formula=read_formula(value, "", warnings))
    fields = as_fields(value, "", _DOCUMENT_FIELDS + _FORMULA_FIELDS)
    formula = read_formula(fields.get("formula"), "formula", warnings)
    context = read_context(fields.get("context"), "context")
    _compare_paths(formula, context, warnings)
    return Document(formula=formula, context=context)


def read_formula(value: object, where: str, warnings: list[str]) -> Formula:
    """A formula; `where` is the path of its field. Null is an empty one."""
    if value is None:
        return Formula()
    fields = as_fields(value, where, _FORMULA_FIELDS)
    return Formula(
        inputs=_inputs(fields.get("inputs"), key_path(where, "inputs")),
        action=read_action(fields.get("action"), key_path(where, "action")),
        outputs=_outputs(fields.get("outputs"), key_path(where, "outputs"), warnings),
    )


def _inputs(value: object, where: str) -> dict[str, WareID] | None:
    if value is None:
        return None
    inputs: dict[str, WareID] = {}
    for path, ware in as_map(value, where).items():
        place = key_path(where, path)
        text = as_text(ware, place)
        try:
            inputs[path] = WareID.parse_input(text)
        except RepeatrError as error:
            raise with_field(error, place) from None
    return inputs


def _outputs(value: object, where: str, warnings: list[str]) -> dict[str, Output] | None:
    if value is None:
        return None
    return {
        path: _output(output, key_path(where, path), warnings)
        for path, output in as_map(value, where).items()
    }


def _output(value: object, where: str, warnings: list[str]) -> Output:
    if value is None:
        return Output()
    fields = as_fields(value, where, _OUTPUT_FIELDS)
    packtype = as_text(fields["packtype"], f"{where}.packtype") if "packtype" in fields else ""
    # Null that is written out is {}, and hashed so; only absence is null.
    filters = None
    if "filters" in fields:
        filters = read_filters(fields["filters"], f"{where}.filters", warnings)
    return Output(packtype=packtype, filters=filters)


def read_filters(value: object, where: str, warnings: list[str]) -> Filters:
    """Pack filters as a map; null is {}."""
    known: dict[str, str] = {}
    for key, item in as_map({} if value is None else value, where).items():
        if key in KEYS:
            known[key] = as_text(item, key_path(where, key))
        else:
            place = key_path(where, key)
            warnings.append(f"{place}: unknown filter, dropped; there are {', '.join(KEYS)}")
    return filters_from_map(known, "pack", f"{where}.")


def read_action(value: object, where: str) -> Action:
    """An action; `where` is the path of its field. Null is an empty one."""
    if value is None:
        return Action()
    fields = as_fields(value, where, _ACTION_FIELDS)
    exec_, env, userinfo = fields.get("exec"), fields.get("env"), fields.get("userinfo")
    return Action(
        exec=() if exec_ is None else as_text_list(exec_, f"{where}.exec"),
        noop=as_boolean(fields.get("noop", False), f"{where}.noop"),
        policy=_text(fields, "policy", where),
        cwd=_text(fields, "cwd", where),
        env={} if env is None else as_text_map(env, f"{where}.env"),
        userinfo=None if userinfo is None else _userinfo(userinfo, f"{where}.userinfo"),
        cradle=_text(fields, "cradle", where),
        hostname=_text(fields, "hostname", where),
        network=_text(fields, "network", where),
    )


def _userinfo(value: object, where: str) -> UserInfo:
    fields = as_fields(value, where, _USERINFO_FIELDS)
    uid, gid = fields.get("uid"), fields.get("gid")
    return UserInfo(
        uid=None if uid is None else as_integer(uid, f"{where}.uid"),
        gid=None if gid is None else as_integer(gid, f"{where}.gid"),
        username=_text(fields, "username", where),
        homedir=_text(fields, "homedir", where),
    )


def _text(fields: dict[str, object], key: str, where: str) -> str:
    return as_text(fields[key], f"{where}.{key}") if key in fields else ""


def read_context(value: object, where: str) -> Context:
    """A context; null is an empty one."""
    if value is None:
        return Context()
    fields = as_fields(value, where, _CONTEXT_FIELDS)
    fetch, save = fields.get("fetchUrls"), fields.get("saveUrls")
    fetch_at, save_at = f"{where}.fetchUrls", f"{where}.saveUrls"
    fetch_urls = {} if fetch is None else as_map(fetch, fetch_at)
    return Context(
        fetch_urls={
            path: () if urls is None else as_text_list(urls, key_path(fetch_at, path))
            for path, urls in fetch_urls.items()
        },
        save_urls={} if save is None else as_text_map(save, save_at),
    )


def _compare_paths(formula: Formula, context: Context, warnings: list[str]) -> None:
    """Warn of URLs for paths that the formula does not have: mostly a typing error."""
    for field, urls, paths in (
        ("fetchUrls", context.fetch_urls, formula.inputs),
        ("saveUrls", context.save_urls, formula.outputs),
    ):
        kind = "input" if field == "fetchUrls" else "output"
        warnings.extend(
            f"{key_path(f'context.{field}', path)}: the formula has no such {kind}, ignored"
            for path in urls
            if path not in (paths or {})
        )
