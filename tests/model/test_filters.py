from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeatr.errors import Category, RepeatrError
from repeatr.model.filters import (
    FOLLOW_ALL,
    KEYS,
    OUTPUT_DEFAULTS,
    PACK_DEFAULTS,
    SCAN_DEFAULTS,
    UNPACK_DEFAULTS,
    Filters,
    Usage,
    parse_filters,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "filters.json").read_text())

# What the original takes with a meaning that nobody asked for. Errors here (formats,
# "Filters": negative, signed, padded and wrapped numbers).
ACCIDENTS = {
    "uid=-1": "negative: reads as the default",
    "uid=-3": "negative: wraps to 4294967293",
    "uid=+5": "signed",
    "uid=4294967296": "wraps to 0",
    "mtime=@-1": "negative: reads as the default",
}
# The original has the word and panics when it should apply it.
PANICS = {"mtime=now"}


@pytest.mark.parametrize("usage", get_args(Usage))
def test_vectors_are_read_or_refused_as_by_the_original(usage: Usage) -> None:
    seen = set()
    for case in VECTORS[usage]:
        text = case["filters"] or ""
        seen.add(text)
        if case["rc"] == 1 or text in ACCIDENTS or text in PANICS:
            with pytest.raises(RepeatrError) as caught:
                parse_filters(text, usage)
            assert caught.value.category is Category.USAGE
        else:
            assert len(parse_filters(text, usage).canonical()) == text.count("=")
    if usage == "pack":
        assert seen >= ACCIDENTS.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Filters()),
        ("uid=0,gid=4294967295", Filters(uid=0, gid=4294967295)),
        (" uid = keep ,gid=7 ", Filters(uid="keep", gid=7)),
        ("mtime=@-5", Filters(mtime=-5)),
        ("mtime=@0", Filters(mtime=0)),
        ("mtime=2010-01-01T05:30:00+05:30", Filters(mtime=1262304000)),
        ("mtime=2010-01-01T00:00:00.999999999Z", Filters(mtime=1262304000)),
        ("mtime=1969-12-31T23:59:57.5Z", Filters(mtime=-3)),
        ("mtime=2024-02-29T00:00:00-01:00", Filters(mtime=1709168400)),
        ("sticky=ignore,setid=reject,dev=ignore,xattr=keep",
         Filters(sticky="ignore", setid="reject", dev="ignore", xattr="keep")),
    ],
)  # fmt: skip
def test_pack_filters(text: str, expected: Filters) -> None:
    assert parse_filters(text, "pack") == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("uid", "expected KEY=VALUE between the commas, found 'uid'"),
        ("uid=keep,", "expected KEY=VALUE between the commas, found ''"),
        ("bogus=1", "'bogus' is not a filter"),
        ("uid=1,uid=1", "uid is given twice"),
        ("uid=mine", "uid=mine: expected keep or a number from 0 to 4294967295"),
        ("uid=007", "uid=007: expected keep or a number"),
        ("uid=-2", "uid=-2: expected keep or a number"),
        ("uid=0x10", "uid=0x10: expected keep or a number"),
        ("uid=\u0665", "expected keep or a number"),
        ("uid=", "uid=: expected keep or a number"),
        ("gid=99999999999999999999", "expected keep or a number"),
        ("mtime=now", "mtime=now: expected keep, @SECONDS or an RFC 3339 time"),
        ("mtime=@05", "expected keep, @SECONDS"),
        ("mtime=@+5", "expected keep, @SECONDS"),
        ("mtime=@9223372036854775808", "expected keep, @SECONDS"),
        ("mtime=2010-02-29T00:00:00Z", "expected keep, @SECONDS"),
        ("mtime=2010-01-01T24:00:00Z", "expected keep, @SECONDS"),
        ("mtime=2010-01-01 00:00:00Z", "expected keep, @SECONDS"),
        ("mtime=2010-01-01T00:00:00", "expected keep, @SECONDS"),
        ("mtime=@-1", "because the original Repeatr silently reads it as the default"),
        ("mtime=1969-12-31T23:59:59Z", "silently reads it as the default"),
        ("sticky=reject", "sticky=reject: expected keep or ignore"),
        ("setid=follow", "setid=follow: expected keep or ignore or reject"),
    ],
)
def test_refused_pack_filters(text: str, told: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        parse_filters(text, "pack")
    assert caught.value.exit_code == 1
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_words_of_the_other_usage_are_told_apart() -> None:
    with pytest.raises(RepeatrError) as caught:
        parse_filters("setid=keep", "unpack")
    assert caught.value.remedy == "keep is for packing; here it is follow"


def test_unpack_filters() -> None:
    assert parse_filters("uid=mine,gid=follow", "unpack") == Filters(uid="mine", gid="follow")


def test_completed_and_canonical() -> None:
    given_ = parse_filters("uid=5,mtime=@7", "pack")
    assert given_.completed(PACK_DEFAULTS).gid == 1000
    assert given_.completed(PACK_DEFAULTS).uid == 5
    assert str(given_) == "mtime=@7,uid=5"
    assert list(PACK_DEFAULTS.canonical()) == [
        "dev",
        "gid",
        "mtime",
        "setid",
        "sticky",
        "uid",
        "xattr",
    ]
    assert FOLLOW_ALL.completed(PACK_DEFAULTS) is FOLLOW_ALL


def test_defaults() -> None:
    assert str(PACK_DEFAULTS) == (
        "dev=reject,gid=1000,mtime=@1262304000,setid=reject,sticky=keep,uid=1000,xattr=ignore"
    )
    assert (OUTPUT_DEFAULTS.setid, OUTPUT_DEFAULTS.dev) == ("keep", "keep")
    assert str(UNPACK_DEFAULTS) == (
        "dev=reject,gid=mine,mtime=follow,setid=reject,sticky=follow,uid=mine,xattr=follow"
    )
    assert (SCAN_DEFAULTS.setid, SCAN_DEFAULTS.dev, SCAN_DEFAULTS.uid) == (
        "reject",
        "reject",
        "follow",
    )


@given(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)))
def test_rfc3339_is_as_datetime_has_it(moment: datetime.datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=datetime.UTC)
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}Z"
    expected = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
    if expected != -1:
        assert parse_filters(f"mtime={text}", "pack").mtime == expected


@given(st.sampled_from([PACK_DEFAULTS, OUTPUT_DEFAULTS]), st.sets(st.sampled_from(KEYS)))
def test_canonical_text_is_read_back(defaults: Filters, keys: set[str]) -> None:
    some = Filters(**{key: getattr(defaults, key) for key in keys})
    assert parse_filters(str(some), "pack") == some
