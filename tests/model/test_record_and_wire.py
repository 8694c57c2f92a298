from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeatr.errors import Category, RepeatrError
from repeatr.model.document import parse_document
from repeatr.model.events import Level, Log, Output
from repeatr.model.guid import new_guid
from repeatr.model.inspection import inspect_document
from repeatr.model.record import RunRecord
from repeatr.model.wareid import WareID
from repeatr.model.wire import event_to_json, json_line, pretty_json, result_to_json

RECORD = RunRecord(
    guid="n84s48fd-0w1gta7e-of69fqvd",
    time=1262304000,
    formula_id="51Beac",
    exit_code=3,
    results={"/b": WareID("tar", "x"), "/a": WareID("zip", "-")},
    hostname="here",
    metadata={"engine": "none"},
)


def test_record_is_written_in_order() -> None:
    assert json_line(RECORD.to_json()) == (
        '{"guid":"n84s48fd-0w1gta7e-of69fqvd","time":1262304000,"formulaID":"51Beac",'
        '"exitCode":3,"results":{"/a":"zip:-","/b":"tar:x"},"hostname":"here",'
        '"metadata":{"engine":"none"}}'
    )
    assert pretty_json(RECORD.to_json()).startswith('{\n    "guid": "n84s48fd-')


def test_record_is_read_back() -> None:
    assert RunRecord.from_json(json.loads(json_line(RECORD.to_json()))) == RECORD


def test_record_of_the_original() -> None:
    text = """{"guid": "g", "time": 1, "formulaID": "f", "results": null, "exitCode": 0,
               "hostname": "h", "metadata": null}"""
    record = RunRecord.from_json(json.loads(text))
    assert record == RunRecord("g", 1, "f", 0, {}, "h", {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"time": "1"}, "memo.time: expected an integer, found the text '1'"),
        ({"results": {"/a": "x"}}, "memo.results.\"/a\": malformed WareID 'x'"),
        ({"results": {"/a": 1}}, 'memo.results."/a": expected text, found 1'),
        ({"extra": 1}, "memo.extra: unknown field"),
        ({"guid": None}, "memo.guid: expected text, found null"),
    ],
)
def test_broken_records(change: dict[str, object], told: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        RunRecord.from_json({**RECORD.to_json(), **change}, "memo")
    assert caught.value.message.startswith(told)


def test_a_record_without_its_fields_is_none() -> None:
    with pytest.raises(RepeatrError, match=r"memo\.guid: missing"):
        RunRecord.from_json({}, "memo")


@given(st.integers(0, 2**35), st.integers(0, 2**35))
def test_guids_sort_by_time(first: int, second: int) -> None:
    early, late = new_guid(min(first, second)), new_guid(max(first, second))
    assert re.fullmatch(r"[0-9a-z]{8}(-[0-9a-z]{8}){2}", early)
    if first != second:
        assert early < late


def test_guids_differ() -> None:
    assert len({new_guid(5) for _ in range(1000)}) == 1000


def test_events() -> None:
    log = Log(Level.WARN, "höm", (("path", "/a"),), when=5)
    assert json_line(event_to_json(log)) == (
        '{"log":{"t":5,"lvl":3,"msg":"höm","detail":[["path","/a"]]}}'
    )
    output = Output(b"a\n\xff\xc3\xa9", when=6)
    assert json_line(event_to_json(output)) == '{"txt":{"t":6,"msg":"a\\n\ufffdé"}}'


def test_results() -> None:
    error = RepeatrError(
        Category.HASH_MISMATCH, "no match", remedy="look again", details={"ware": "tar:x"}
    )
    assert result_to_json(None, error)["result"] == {
        "runRecord": None,
        "error": {
            "category": "rio-hash-mismatch",
            "message": "no match",
            "details": {"ware": "tar:x", "remedy": "look again"},
        },
    }
    assert result_to_json(RECORD, None) == {
        "result": {"runRecord": RECORD.to_json(), "error": None}
    }


def test_lines_hold_no_surrogates() -> None:
    assert json_line({"msg": "a\udcffb"}) == '{"msg":"a?b"}'
    json_line({"msg": "a\udcffb\n"}).encode()


def test_inspection() -> None:
    text = """{"formula": {
        "inputs": {"/": "tar:x", "/a": "tar:x", "/b": "zip:y", "/m": "mount:rw:/srv"},
        "action": {"exec": ["/a"], "policy": "governor", "hostname": "h", "network": "host"},
        "outputs": {"/o": {"packtype": "tar"}}}}"""
    said = inspect_document(parse_document(text.encode(), "f").document)
    assert list(said) == ["formula", "cbor", "setupHash", "formulaID", "needs"]
    assert said["setupHash"] != said["formulaID"]
    assert said["needs"] == {
        "wares": ["tar:x", "zip:y"],
        "mounts": ["mount:rw:/srv"],
        "network": "host",
        "traits": ["hostname", "network_host"],
        "policy": "governor",
        "uid": 1000,
        "gid": 1000,
    }
    json.dumps(said)
