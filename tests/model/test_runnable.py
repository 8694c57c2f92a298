from __future__ import annotations

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.document import parse_document
from repeatr.model.formula import Formula
from repeatr.model.runnable import check_runnable

WARE = "tar:6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6"


def formula(text: str) -> Formula:
    text = text.replace("WARE", WARE)
    return parse_document(text.encode(), "f").document.formula


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs":{"/":"WARE","/m":"mount:rw:/srv/x"},"action":{"exec":["/bin/true"]}}',
        '{"action":{"exec":["true","--","rel/ative"]}}',
        '{"action":{"noop":true}}',
        '{"action":{"exec":["/a"],"cwd":"/task/","policy":"sysad","cradle":"disable",'
        '"hostname":"h-1.example","network":"host","env":{"A_B":"","é":"ü"},'
        '"userinfo":{"uid":0,"gid":4294967294,"username":"a.b","homedir":"/home//x/"}}}',
        '{"action":{"exec":["/a"]},"outputs":{"/":{"packtype":"tree"}}}',
        '{"inputs":{"/..foo/...":"tar:-"},"action":{"exec":["/a"]}}',
    ],
)
def test_runnable(text: str) -> None:
    check_runnable(formula(text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"inputs":{"rel":"WARE"}}', "formula.inputs.rel: expected an absolute path, found 'rel'"),
        ('{"inputs":{"":"WARE"}}', 'formula.inputs."": expected an absolute path'),
        ('{"inputs":{"/a\\u0000":"WARE"}}', "a zero character in"),
        ('{"inputs":{"/":""}}', 'formula.inputs."/": expected a WareID, found empty text'),
        ('{"inputs":{"/":":x"}}', "formula.inputs.\"/\": malformed WareID ':x'"),
        ('{"inputs":{"/":"tar:../../etc"}}', "malformed WareID 'tar:../../etc'"),
        ('{"inputs":{"/m":"mount:/x"}}', "malformed mount 'mount:/x'"),
        ('{"inputs":{"/m":"mount:rx:/x"}}', "malformed mount"),
        ('{"inputs":{"/m":"mount:ro:x"}}', "malformed mount"),
        ('{"outputs":{"out":{"packtype":"tar"}}}', "formula.outputs.out: expected an absolute"),
        ('{"outputs":{"/o":{}}}', 'formula.outputs."/o".packtype: expected a packtype, found none'),
        ('{"action":{"exec":["./x"]}}', "formula.action.exec[0]: expected an absolute path or a"),
        ('{"action":{"exec":[""]}}', "formula.action.exec[0]: expected an absolute path or a bare"),
        ('{"action":{"exec":["/a","x\\u0000"]}}', "formula.action.exec[1]: a zero character in"),
        ('{"action":{"exec":["/a"],"policy":"king"}}',
         "formula.action.policy: expected routine or governor or sysad, found 'king'"),
        ('{"action":{"exec":["/a"],"network":"x"}}', "network: expected none or host, found 'x'"),
        ('{"action":{"exec":["/a"],"cwd":"x"}}', "formula.action.cwd: expected an absolute path"),
        ('{"action":{"exec":["/a"],"cwd":"/a/../b"}}', "cwd: the path '/a/../b' has .. in it"),
        ('{"action":{"exec":["/a"],"env":{"":"x"}}}', "formula.action.env.\"\": '' can't be"),
        ('{"action":{"exec":["/a"],"env":{"A=B":"x"}}}', "'A=B' can't be a variable's name"),
        ('{"action":{"exec":["/a"],"env":{"A":"\\u0000"}}}', "env.A: a zero character in"),
        ('{"action":{"exec":["/a"],"hostname":"a b"}}', "'a b' can't be a host name"),
        ('{"action":{"exec":["/a"],"hostname":"' + "a" * 65 + '"}}', "can't be a host name"),
        ('{"action":{"exec":["/a"],"userinfo":{"uid":-1}}}',
         "formula.action.userinfo.uid: expected a number from 0 to 4294967294, found -1"),
        ('{"action":{"exec":["/a"],"userinfo":{"gid":4294967295}}}',
         "formula.action.userinfo.gid: expected a number from 0 to 4294967294, found 4294967295"),
        ('{"action":{"exec":["/a"],"userinfo":{"username":"a:b"}}}', "'a:b' can't be a user name"),
        ('{"action":{"exec":["/a"],"userinfo":{"username":"../x"}}}', "can't be a user name"),
        ('{"action":{"exec":["/a"],"userinfo":{"homedir":"x"}}}', "userinfo.homedir: expected an"),
    ],
)  # fmt: skip
def test_not_runnable(text: str, told: str) -> None:
    if '"exec"' not in text:
        text = text[:-1] + ',"action":{"exec":["/a"]}}'
    with pytest.raises(RepeatrError) as caught:
        check_runnable(formula(text))
    assert caught.value.category is Category.USAGE
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_nothing_to_execute_is_an_invalid_job() -> None:
    with pytest.raises(RepeatrError) as caught:
        check_runnable(formula('{"action":{}}'))
    assert caught.value.exit_code == 40
    assert caught.value.message == "formula.action.exec: there is nothing to execute"
