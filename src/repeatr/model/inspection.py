"""What can be said of a formula without running it."""

from __future__ import annotations

from repeatr.model.canonical import canonical_cbor, canonical_map, setup_hash, with_defaults
from repeatr.model.formula import Action, Document, Formula


def inspect_document(document: Document) -> dict[str, object]:
    """A document's canonical form, its hashes and what a run of it needs, as JSON values.

    `setupHash` is of the formula as written, `formulaID` with defaults filled in: the id
    in run records.
    """
    formula = document.formula
    defaulted = with_defaults(formula)
    return {
        "formula": canonical_map(formula),
        "cbor": canonical_cbor(formula).hex(),
        "setupHash": setup_hash(formula),
        "formulaID": setup_hash(defaulted),
        "needs": _needs(defaulted),
    }


def required_traits(action: Action) -> tuple[str, ...]:
    """The optional traits of engines that an action asks for explicitly, by their names."""
    traits = []
    if action.hostname:
        traits.append("hostname")
    if action.network:
        traits.append("network_deny" if action.network == "none" else "network_host")
    return tuple(traits)


def _needs(formula: Formula) -> dict[str, object]:
    action = formula.action
    info = action.userinfo
    inputs = list((formula.inputs or {}).values())
    return {
        "wares": sorted({str(ware) for ware in inputs if not ware.is_mount and str(ware)}),
        "mounts": sorted({str(ware) for ware in inputs if ware.is_mount}),
        "network": action.network or "none",
        "traits": list(required_traits(action)),
        "policy": action.policy or "routine",
        "uid": info.uid if info else None,
        "gid": info.gid if info else None,
    }
