from __future__ import annotations

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.canonical import setup_hash
from repeatr.model.document import parse_document
from repeatr.model.formula import Context, Document, Formula
from repeatr.model.wareid import WareID

JSON = b"""
{"formula": {
    "inputs": {"/": "tar:abc", "/d": "mount:ro:/srv"},
    "action": {"exec": ["/bin/sh", "-c", "echo\\n"], "userinfo": {"uid": 5}, "noop": true},
    "outputs": {"/out": {"packtype": "tar", "filters": {"uid": "keep", "mtime": "@7"}}}},
 "context": {
    "fetchUrls": {"/": ["file://a", "http://b"], "/d": []},
    "saveUrls": {"/out": "ca+file://c"}}}
"""
YAML = b"""
# The same as in JSON.
formula:
  inputs: {/: "tar:abc", /d: "mount:ro:/srv"}
  action:
    exec: [/bin/sh, -c, "echo\\n"]
    userinfo: {uid: 5}
    noop: true
  outputs:
    /out: {packtype: tar, filters: {uid: keep, mtime: "@7"}}
context:
  fetchUrls:
    /: [file://a, &b http://b]
    /d: []
  saveUrls: {/out: ca+file://c}
"""


def parsed(text: str | bytes, name: str = "f") -> Document:
    data = text.encode() if isinstance(text, str) else text
    document, warnings = parse_document(data, name)
    assert warnings == []
    return document


def refused(text: str, name: str = "f") -> RepeatrError:
    with pytest.raises(RepeatrError) as caught:
        parse_document(text.encode(), name)
    assert caught.value.category is Category.USAGE
    assert "\n" not in caught.value.message
    return caught.value


def test_json_and_yaml_say_the_same() -> None:
    document = parsed(JSON)
    assert parsed(YAML) == document
    assert parsed(YAML, "f.YML") == document
    assert document.context == Context(
        fetch_urls={"/": ("file://a", "http://b"), "/d": ()}, save_urls={"/out": "ca+file://c"}
    )
    assert document.formula.inputs == {
        "/": WareID("tar", "abc"),
        "/d": WareID("mount", "ro:/srv"),
    }


def test_a_bare_formula() -> None:
    bare = parsed('{"inputs": {}, "action": {"exec": ["/a"]}, "outputs": {}}')
    whole = parsed('{"formula": {"inputs": {}, "action": {"exec": ["/a"]}, "outputs": {}}}')
    assert bare == whole
    assert parsed("{}") == Document(Formula())


def test_null_stands_for_absent_except_where_it_is_hashed() -> None:
    nulls = (
        '{"inputs":null,"action":{"exec":null,"env":null,"userinfo":null},"outputs":{"/a":null}}'
    )
    absent = '{"outputs":{"/a":{}}}'
    assert setup_hash(parsed(nulls).formula) == setup_hash(parsed(absent).formula)
    written = parsed('{"outputs":{"/a":{"filters":null}}}').formula
    assert setup_hash(written) != setup_hash(parsed(absent).formula)


def test_warnings() -> None:
    text = """{"formula": {"inputs": {"/": "tar:a"},
                "outputs": {"/o": {"packtype": "tar", "filters": {"bogus": 1, "uid": "5"}}}},
               "context": {"fetchUrls": {"/x": ["file://x"]}, "saveUrls": {"/": "file://y"}}}
               more"""
    document, warnings = parse_document(text.encode(), "f")
    assert document.formula.outputs is not None
    assert str(document.formula.outputs["/o"].filters) == "uid=5"
    assert warnings == [
        "f: text after the first value is ignored, line 4",
        'formula.outputs."/o".filters.bogus: unknown filter, dropped; '
        "there are dev, gid, mtime, setid, sticky, uid, xattr",
        'context.fetchUrls."/x": the formula has no such input, ignored',
        'context.saveUrls."/": the formula has no such output, ignored',
    ]
    assert parse_document(b"action: {}\n---\n}", "f").warnings == [
        "f: text after the first YAML document is ignored"
    ]


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ('{"action":{"userinfo":{"uid":1.0}}}',
         "formula.action.userinfo.uid: expected an integer, found 1.0"),
        ('{"action":{"userinfo":{"uid":1e3}}}', "expected an integer, found 1000.0"),
        ('{"action":{"userinfo":{"uid":"0"}}}', "expected an integer, found the text '0'"),
        ('{"action":{"userinfo":{"gid":true}}}', "expected an integer, found true"),
        ('{"action":{"userinfo":{"gid":9223372036854775808}}}', "an integer of 64 bits"),
        ('{"action":{"userinfo":5}}', "formula.action.userinfo: expected a map, found 5"),
        ('{"action":{"exec":"/bin/true"}}',
         "formula.action.exec: expected a list of text, found the text '/bin/true'"),
        ('{"action":{"exec":["a",1]}}', "formula.action.exec[1]: expected text, found 1"),
        ('{"action":{"noop":"true"}}', "formula.action.noop: expected true or false"),
        ('{"action":{"noop":null}}', "formula.action.noop: expected true or false, found null"),
        ('{"action":{"cwd":null}}', "formula.action.cwd: expected text, found null"),
        ('{"action":{"env":{"A":1}}}', "formula.action.env.A: expected text, found 1"),
        ('{"action":{"env":{"a b":[]}}}', 'formula.action.env."a b": expected text, found a list'),
        ('{"action":{"command":[]}}', "formula.action.command: unknown field"),
        ('{"Inputs":{}}', "formula.Inputs: unknown field"),
        ('{"context":{}}', "formula.context: unknown field"),
        ('{"inputs":[]}', "formula.inputs: expected a map, found a list"),
        ('{"inputs":{"/":"abc"}}',
         "formula.inputs.\"/\": malformed WareID 'abc': expected PACKTYPE:HASH, found no colon"),
        ('{"inputs":{"/":{}}}', 'formula.inputs."/": expected text, found a map'),
        ('{"outputs":{"/":"tar"}}', 'formula.outputs."/": expected a map, found the text'),
        ('{"outputs":{"/":{"filter":{}}}}', 'formula.outputs."/".filter: unknown field'),
        ('{"outputs":{"/":{"filters":{"uid":5}}}}',
         'formula.outputs."/".filters.uid: expected text, found 5'),
        ('{"outputs":{"/":{"filters":{"uid":"-2"}}}}',
         'formula.outputs."/".filters.uid=-2: expected keep or a number'),
    ],
)  # fmt: skip
def test_errors_name_the_field(formula: str, told: str) -> None:
    assert told in refused(f'{{"formula":{formula}}}').message


def test_errors_of_contexts_and_wholes() -> None:
    error = refused('{"formula":{},"context":{"fetchUrls":{"/":"file://x"}}}')
    assert error.message == (
        "context.fetchUrls.\"/\": expected a list of text, found the text 'file://x'"
    )
    assert error.remedy == 'write it as a list: ["file://x"]'
    error = refused('{"formula":{},"context":{"saveUrls":{"/":["file://x"]}}}')
    assert error.message == 'context.saveUrls."/": expected text, found a list'
    assert refused('{"Formula":{}}').message == "Formula: unknown field"
    assert refused('{"Formula":{}}').remedy.startswith("did you mean formula?")
    for text in ("[]", "hello", "null", '"x"'):
        assert refused(text).message.startswith("the document: expected a map, found ")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("yes", "'yes', which without quotes is a boolean in YAML"),
        ("true", "true"),
        ("1", "1"),
        ("1.50", "1.5"),
        ("010", "'010', which without quotes is a number in YAML"),
        ("12:30", "'12:30', which without quotes is a number in YAML"),
        ("2020-01-01", "'2020-01-01', which without quotes is a date in YAML"),
        ("~", "null"),
    ],
)
def test_yaml_scalars_that_are_not_text(value: str, found: str) -> None:
    error = refused(f"action: {{env: {{A: {value}}}}}", "f.yaml")
    assert error.message == f"action.env.A: expected text, found {found}"
    assert "quote it" in error.remedy or value == "~"
    assert parsed(f"action: {{env: {{A: '{value}'}}}}").formula.action.env == {"A": value}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("action:\n\texec: [a]", "f.yaml, line 2, column 1: broken YAML: "),
        ("action: {noop: yes}", "action.noop: expected true or false, found 'yes'"),
        ("action: {userinfo: {uid: 010}}", "action.userinfo.uid: expected an integer, found '010'"),
        ("action: {env: {1: a}}", "f.yaml, line 1, column 16: a key must be text"),
        ("action: {env: {[a]: a}}", "line 1, column 16: a key must be text"),
        ("action: {env: {<<: {A: b}}}", "a key must be text"),
        ("action: !!python/object:os.x {}", "the tag tag:yaml.org,2002:python/object:os.x means"),
        ("action: {env: {A: !!int 5}}", "the tag tag:yaml.org,2002:int means"),
        ("action: {env: {A: *x}}", "*x has no anchor before it"),
        ("action: &a {env: *a}", "*a has no anchor before it"),
        ("a: " + "[" * 5000, "more than 100 lists and maps inside each other"),
        ("- " * 5000, "more than 100 lists and maps inside each other"),
        ("#" * (1 << 21), "f.yaml is longer than 1 MiB of YAML"),
    ],
)
def test_yaml_that_is_refused(text: str, told: str) -> None:
    assert told in refused(text, "f.yaml").message


def test_yaml_anchors_cannot_grow_without_limit() -> None:
    lines = [f"a0: &a0 [{'x' * 1000}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "this is over 16 MiB" in refused("\n".join(lines), "f.yaml").message


def test_comments_in_json_are_not_taken_for_yaml() -> None:
    assert refused('// a formula\n{"inputs": {}}').message.endswith("found a comment")
    assert refused("inputs: {}", "f.json").message.startswith("f.json, line 1, column 1: expected")


def test_half_surrogates_are_read_as_by_the_original() -> None:
    action = parsed(
        '{"action":{"exec":["\\ud800x"],"env":{"\\udc00":"\\ud83d\\ude00"}}}'
    ).formula.action
    assert action.exec == ("\ufffdx",)
    assert action.env == {"\ufffd": "😀"}
