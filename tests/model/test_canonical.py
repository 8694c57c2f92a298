from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from repeatr.model import base58, cbor
from repeatr.model.canonical import canonical_json, formula_id, setup_hash, with_defaults
from repeatr.model.document import parse_document
from repeatr.model.filters import Filters
from repeatr.model.formula import Action, Formula, Output, UserInfo
from repeatr.model.wareid import WareID

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
IDS = st.none() | st.integers(-(2**63), 2**63 - 1)
WARES = st.builds(WareID, TEXT.filter(lambda t: ":" not in t), TEXT.filter(bool))
FILTERS = st.builds(
    Filters,
    uid=st.none() | st.just("keep") | st.integers(0, 2**32 - 1),
    mtime=st.none() | st.just("keep") | st.integers(-(2**63), 2**63 - 1).filter(lambda n: n != -1),
    gid=st.none() | st.just("keep") | st.integers(0, 2**32 - 1),
    sticky=st.sampled_from([None, "keep", "ignore"]),
    setid=st.sampled_from([None, "keep", "ignore", "reject"]),
    dev=st.sampled_from([None, "keep", "ignore", "reject"]),
    xattr=st.sampled_from([None, "keep", "ignore"]),
)
ACTIONS = st.builds(
    Action,
    exec=st.lists(TEXT, max_size=3).map(tuple),
    noop=st.booleans(),
    policy=TEXT,
    cwd=TEXT,
    env=st.dictionaries(TEXT, TEXT, max_size=4),
    userinfo=st.none() | st.builds(UserInfo, IDS, IDS, TEXT, TEXT),
    cradle=st.sampled_from(["", "disable", "other"]),
    hostname=TEXT,
    network=st.sampled_from(["", "none", "host"]),
)
FORMULAS = st.builds(
    Formula,
    st.none() | st.dictionaries(TEXT, WARES, max_size=3),
    ACTIONS,
    st.none() | st.dictionaries(TEXT, st.builds(Output, TEXT, FILTERS), max_size=3),
)


@given(FORMULAS)
def test_canonical_json_and_the_hash_survive_parsing(formula: Formula) -> None:
    again = parse_document(canonical_json(formula).encode(), "x.json").document.formula
    assert canonical_json(again) == canonical_json(formula)
    assert setup_hash(again) == setup_hash(formula)


@given(FORMULAS)
def test_defaults_are_filled_in_once(formula: Formula) -> None:
    once = with_defaults(formula)
    assert with_defaults(once) == once
    assert formula_id(once) == formula_id(formula)


@given(st.binary(max_size=80))
def test_base58_is_undone(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data


def test_base58_known_answers() -> None:
    assert base58.encode(b"") == ""
    assert base58.encode(b"\0\0\1") == "112"
    assert base58.encode(b"hello world") == "StV1DL6CwTryKyV"


def test_cbor_heads_are_as_short_as_they_can_be() -> None:
    # RFC 7049, appendix A.
    for value, encoded in (
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-1, "20"),
        (-1000, "3903e7"),
        ("\u6c34", "63e6b0b4"),
        (b"\1\2", "420102"),
    ):
        assert cbor.encode(value).hex() == encoded
    assert cbor.encode({"a": [None, True, False]}).hex() == "a1616183f6f5f4"


def test_network_follows_hostname_and_is_left_out_when_absent() -> None:
    action = Action(exec=("/a",), hostname="h", network="none")
    assert '"hostname":"h","network":"none"}' in canonical_json(Formula(action=action))
    assert "network" not in canonical_json(Formula(action=action._replace(network="")))
