from __future__ import annotations

import pytest

from repeatr.errors import RepeatrError
from repeatr.model.wareid import HostMount, WareID, split_mount

HASH = "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6"


@pytest.mark.parametrize(
    "text", [f"tar:{HASH}", "tree:-", "git:" + "0f" * 20, "tar:x", "oci:a.b_c"]
)
def test_parse(text: str) -> None:
    assert str(WareID.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "tar", "tar:", ":x", "tar:a/b", "tar:..", "tar:.x", "tar:a b", "tar:a\n", "TAR:a",
     "tar:a%2f", "tar:a:b", "tar:é", "../x:a", "tar:--", f"tar:{'a' * 129}", " tar:a",
     "mount:ro:/x", "tar:a\0"],
)  # fmt: skip
def test_parse_refuses(text: str) -> None:
    with pytest.raises(RepeatrError) as caught:
        WareID.parse(text)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message


def test_a_mount_is_no_ware() -> None:
    with pytest.raises(RepeatrError, match="is not a ware"):
        WareID.parse("mount:x")


def test_inputs_are_read_as_by_the_original() -> None:
    assert WareID.parse_input("") == ("", "")
    assert str(WareID.parse_input("")) == ""
    assert str(WareID.parse_input("tar:")) == "tar:-"
    assert WareID.parse_input("mount:ro:/a:b") == ("mount", "ro:/a:b")
    with pytest.raises(RepeatrError, match="found no colon"):
        WareID.parse_input("abc")


def test_split_mount() -> None:
    assert split_mount(WareID.parse_input("mount:ro:/a:b")) == HostMount(False, "/a:b")
    assert split_mount(WareID.parse_input("mount:rw:/")) == HostMount(True, "/")
    for text in ("mount:/a", "mount:ro:a", "mount:", "mount:xx:/a", f"tar:{HASH}"):
        with pytest.raises(RepeatrError, match="malformed mount"):
            split_mount(WareID.parse_input(text))


def test_oddity() -> None:
    assert WareID("tar", HASH).oddity == ""
    assert WareID("git", "0f" * 20).oddity == ""
    assert WareID("other", "x").oddity == ""
    assert "this one is of 1" in WareID("tar", "x").oddity
    assert "'0' is not a base58 character" in WareID("zip", "0").oddity
    assert "whole commit id" in WareID("git", "abc").oddity


def test_nothing() -> None:
    assert WareID.parse("tar:-").is_nothing
    assert not WareID.parse("tar:x").is_nothing
