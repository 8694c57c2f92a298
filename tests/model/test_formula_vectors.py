"""Every formula of the vectors has the canonical form and the hash that the original gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.canonical import (
    canonical_cbor,
    canonical_json,
    formula_id,
    setup_hash,
    with_defaults,
)
from repeatr.model.document import parse_document
from repeatr.model.formula import Formula

VECTORS = Path(__file__).parent.parent / "vectors" / "formulas.json"
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads(VECTORS.read_text())["cases"]
}

# Numbers in filters that the original takes by accident: errors here (formats, "Filters").
ACCIDENTS = {
    "output_filter_uid_minus2": "a negative uid means keep",
    "output_filter_uid_leading_zero": "leading zeros are dropped",
}
# The original panics on a negative time when it writes it; the format allows one.
PANICS = {"output_filter_mtime_neg": '"filters":{"mtime":"@-5"}'}

# These are not written out in the vectors.
LONG = "exec_long_string_70k"


def parsed(case: dict[str, Any]) -> Formula:
    text = case["formula_json"]
    if case["name"] == LONG:
        ware = "tar:6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6"
        action = {"exec": ["/bin/sh", "-c", "x" * 70000]}
        text = json.dumps({"inputs": {"/": ware}, "action": action, "outputs": {}})
    return parse_document(text.encode(), "formula").document.formula


@pytest.mark.parametrize("name", sorted(CASES))
def test_vector(name: str) -> None:
    case = CASES[name]
    if name in PANICS:
        formula = parsed(case)
        assert PANICS[name] in canonical_json(formula)
        return
    if "error" in case or name in ACCIDENTS:
        with pytest.raises(RepeatrError) as caught:
            parsed(case)
        assert caught.value.category is Category.USAGE
        return
    formula = parsed(case)
    for expected, found in ((case["raw"], formula), (case["defaulted"], with_defaults(formula))):
        if name == LONG:
            assert canonical_cbor(found).hex().startswith(expected["cbor_hex"].rstrip("."))
        else:
            assert canonical_json(found) == expected["json"]
            assert canonical_cbor(found).hex() == expected["cbor_hex"]
        assert setup_hash(found) == expected["setup_hash"]
    assert formula_id(formula) == case["defaulted"]["setup_hash"]


def test_the_lists_above_name_vectors() -> None:
    assert {*ACCIDENTS, *PANICS, LONG} <= CASES.keys()


@pytest.mark.parametrize(
    "name", [name for name in sorted(CASES) if "error" not in CASES[name] and name not in ACCIDENTS]
)
def test_canonical_json_parses_to_the_same_formula(name: str) -> None:
    formula = parsed(CASES[name])
    again = parse_document(canonical_json(formula).encode(), "again").document.formula
    # Absent filters are null in canonical JSON, and a null that is written means {}.
    for path, output in (formula.outputs or {}).items():
        if output.filters is None:
            assert again.outputs is not None
            assert again.outputs[path].filters is not None
    assert with_defaults(again) == with_defaults(formula)
    assert formula_id(again) == formula_id(formula)
