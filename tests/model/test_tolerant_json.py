from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeatr.errors import Category, RepeatrError
from repeatr.model.json_text import parse_json
from repeatr.model.text import MAX_BYTES, decode_text
from repeatr.model.tolerant_json import parse_tolerantly

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_valid_json_is_read_as_json_reads_it(value: object, ascii_: bool, indent: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent)
    assert repr(parse_tolerantly(text, "x")) == repr(parse_json(text, "x"))
    assert parse_tolerantly(text, "x").value == json.loads(text)


@given(st.text('{}[]",: \n1-.e\\utrfn/*', max_size=30))
def test_what_json_takes_is_taken_and_the_rest_is_a_usage_error(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        try:
            parse_tolerantly(text, "x")
        except RepeatrError as error:
            assert error.category is Category.USAGE
            assert "line" in error.message
    else:
        assert parse_tolerantly(text, "x").value == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1,}', {"a": 1}),
        ("[1,2 , ]", [1, 2]),
        ('{"a":{"b":1}"c":2}', {"a": {"b": 1}, "c": 2}),
        ('{"a":"x"\n "b":"y",}', {"a": "x", "b": "y"}),
        ('["a" "b"]', ["a", "b"]),
        ('{"a":1,"b":2,"a":3,}', {"a": 3, "b": 2}),
        ('["\\u00e9\\ud83d\\ude00\\/",]', ["é😀/"]),
        ("[-0.5e3,]", [-500.0]),
    ],
)
def test_taken_beyond_json(text: str, value: object) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert parse_json(text, "x") == (value, [])


def test_text_after_the_first_value_is_told() -> None:
    assert parse_json('{"a":1}\n\n{"b":2}', "f") == (
        {"a": 1},
        ["f: text after the first value is ignored, line 3"],
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a" 1}', """f, line 1, column 6: expected ":" after the key "a", found '1}'"""),
        (
            "{\n 'a': 1}",
            """line 2, column 2: expected a key in double quotes or "}", found a sin""",
        ),
        ('{"a": 1', 'line 1, column 8: expected a key, "," or "}", found the end of the text'),
        ("[1,,2]", """line 1, column 4: expected a value, "," or "]", found ',2]'"""),
        ("[,1]", """line 1, column 2: expected a value or "]", found ',1]'"""),
        ('{"a":}', "line 1, column 6: expected a value, found '}'"),
        ('{\n  // no\n  "a": 1}', "line 2, column 3: expected a key in double quotes or"),
        ('["a\tb"]', "line 1, column 4: expected no control character in text"),
        ('["a\nb"]', "line 1, column 2: expected text that ends with a double quote on the same"),
        ('["a', "line 1, column 2: expected text that ends with a double quote"),
        ('["ab\\x"]', "line 1, column 5: expected one of"),
        ("[NaN]", "line 1, column 2: expected a value"),
        ("[nul]", "line 1, column 2: expected a value"),
        ("[+1]", "line 1, column 2: expected a value"),
        ("[" * 5000, "line 1, column 101: expected no more than 100 lists and maps"),
        ("[" + "1" * 5000 + "]", "line 1, column 2: expected a number of a sensible length"),
        ("]", "line 1, column 1: expected a value"),
    ],
)
def test_broken_text(text: str, told: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        parse_json(text, "f")
    assert caught.value.category is Category.USAGE
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_comments_are_named() -> None:
    with pytest.raises(RepeatrError) as caught:
        parse_json('{"a": 1, // why\n"b": 2}', "f")
    assert caught.value.message.endswith("found a comment")
    assert "YAML" in caught.value.remedy


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b" " * (MAX_BYTES + 1), "f is longer than 16 MiB"),
        (b'{"a"\0', "f is not text: there is a zero byte at offset 4"),
        (b'{"' + b"\xff" * 200, "f is not text: the byte at offset 2 is not UTF-8"),
        (b"\xef\xbb\xbf \n", "f is empty"),
    ],
)
def test_what_is_no_text(data: bytes, told: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        decode_text(data, "f")
    assert caught.value.exit_code == 1
    assert told in caught.value.message


def test_bad_bytes_are_read_one_by_one_as_by_the_original() -> None:
    # \xe2\x82 begins a three-byte character: one U+FFFD in Python, two in Go.
    text, warnings = decode_text(b'\xef\xbb\xbf{"a":\n"\xff\xe2\x82x\xc3\xa9"}', "f")
    assert text == '{"a":\n"\ufffd\ufffd\ufffdxé"}'
    assert warnings == ["f: line 2 is not UTF-8; bad bytes are read as \ufffd"]


@pytest.mark.parametrize(
    "text",
    ['{"a":"' + "x" * (8 << 20), '{"a":"' + "\\n" * (4 << 20), '{"a":' * 100_000, "9" * (8 << 20)],
    ids=["open text", "open text of escapes", "deep", "digits"],
)
def test_hostile_text_fails_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(RepeatrError):
        parse_json(text, "f")
    assert time.process_time() - start < 5
