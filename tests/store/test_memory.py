"""Memos and run records: what is remembered of runs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from repeatr.errors import Category, RepeatrError
from repeatr.model.record import RunRecord
from repeatr.model.wareid import WareID
from repeatr.store.memos import Memos, memos_of
from repeatr.store.records import Records

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
RESULT = WareID("tar", "6q7G4hWr283FpTa5Lf8heVqw9t97b5VoMU6AGszuBYAz9EzQdeHVFAou7c4W9vFcQ6")


def _record(guid: str = "n84s48fd-0w1gta7e-of69fqvd", **changes: object) -> RunRecord:
    record = RunRecord(guid, 1500000000, "9mgF4ej", 0, {"/out": RESULT}, "höst", {"k": "v"})
    return record._replace(**changes)  # type: ignore[arg-type]


class TestMemos:
    def test_what_is_kept_is_found(self, tmp_path: Path) -> None:
        memos = memos_of(tmp_path / "home", {})
        assert memos.load("9mgF4ej") is None
        assert memos.save(_record())
        assert memos.load("9mgF4ej") == _record()
        assert memos.load("9mgF4eK") is None
        assert os.listdir(tmp_path / "home/memos") == ["9mgF4ej"]

    def test_failures_are_not_kept(self, tmp_path: Path) -> None:
        memos = memos_of(tmp_path, {})
        assert not memos.save(_record(exit_code=1))
        assert memos.load("9mgF4ej") is None

    def test_the_environment_says_where(self, tmp_path: Path) -> None:
        environment = {"REPEATR_MEMODIR": str(tmp_path)}
        assert memos_of(tmp_path / "home", environment).save(_record())
        assert os.listdir(tmp_path) == ["9mgF4ej"]

    def test_memos_of_the_original_are_read(self, tmp_path: Path) -> None:
        text = (
            '{"guid":"n84s48fd-0w1gta7e-of69fqvd","time":1500000000,"formulaID":"9mgF4ej",'
            f'"exitCode":0,"results":{{"/out":"{RESULT}"}}}}'
        )
        (tmp_path / "9mgF4ej").write_text(text)
        record = Memos(tmp_path).load("9mgF4ej")
        assert record is not None and record.results == {"/out": RESULT}

    @pytest.mark.parametrize("found", ["does not exist", "is not a directory"])
    def test_a_directory_that_is_none(self, tmp_path: Path, found: str) -> None:
        directory = tmp_path / "memos"
        if "not a" in found:
            directory.touch()
        with pytest.raises(RepeatrError, match=found) as caught:
            memos_of(tmp_path, {"REPEATR_MEMODIR": str(directory)})
        assert caught.value.category is Category.STORE
        assert f"mkdir -p {directory}" in caught.value.remedy

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", '"x"', "{}", "\udcff", "[" * 100_000, '{"guid": 1}',
         json.dumps({**_record().to_json(), "formulaID": "another"}),
         json.dumps({**_record().to_json(), "results": {"/out": "no ware"}})],
    )  # fmt: skip
    def test_a_broken_memo_says_what_to_remove(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "9mgF4ej"
        path.write_bytes(os.fsencode(text))
        with pytest.raises(RepeatrError, match="is broken") as caught:
            Memos(tmp_path).load("9mgF4ej")
        assert caught.value.category is Category.STORE
        assert str(path) in caught.value.message and f"rm {path}" in caught.value.remedy
        assert "\n" not in caught.value.message

    def test_a_directory_in_place_of_a_memo(self, tmp_path: Path) -> None:
        (tmp_path / "9mgF4ej").mkdir()
        for ask in (
            lambda: Memos(tmp_path).load("9mgF4ej"),
            lambda: Memos(tmp_path).save(_record()),
        ):
            with pytest.raises(RepeatrError) as caught:
                ask()
            assert caught.value.category is Category.STORE
        assert os.listdir(tmp_path) == ["9mgF4ej"]

    @pytest.mark.parametrize("formula_id", ["", "../x", "a/b", ".", "a b"])
    def test_no_id_leads_out(self, tmp_path: Path, formula_id: str) -> None:
        with pytest.raises(ValueError, match="not a formula id"):
            Memos(tmp_path).load(formula_id)


class TestRecords:
    def test_what_is_saved_is_found(self, tmp_path: Path) -> None:
        with Records(tmp_path / "home") as records:
            records.save(_record())
            assert records.get("n84s48fd-0w1gta7e-of69fqvd") == _record()
        with Records(tmp_path / "home") as records:
            assert records.list(10) == [_record()]

    def test_the_newest_come_first(self, tmp_path: Path) -> None:
        with Records(tmp_path) as records:
            for i in (3, 1, 2):
                records.save(_record(f"g{i}", time=i, formula_id="odd" if i % 2 else "even"))
            assert [r.guid for r in records.list(10)] == ["g3", "g2", "g1"]
            assert [r.guid for r in records.list(2)] == ["g3", "g2"]
            assert [r.guid for r in records.list(10, "odd")] == ["g3", "g1"]
            assert records.list(10, "none") == []

    def test_a_prefix_is_enough_where_it_is_unique(self, tmp_path: Path) -> None:
        with Records(tmp_path) as records:
            for guid in ("abc", "abcd", "abx", "b_z", "bzz"):
                records.save(_record(guid))
            assert [records.get(guid).guid for guid in ("abc", "abcd", "abx", "b_")] == [
                "abc", "abcd", "abx", "b_z",
            ]  # fmt: skip
            with pytest.raises(RepeatrError, match=r"several.*abc, abcd, abx") as caught:
                records.get("ab")
            assert caught.value.category is Category.USAGE
            with pytest.raises(RepeatrError, match="no run record 'c'") as caught:
                records.get("c")
            assert caught.value.category is Category.USAGE

    def test_saving_again_replaces(self, tmp_path: Path) -> None:
        with Records(tmp_path) as records:
            records.save(_record())
            records.save(_record(exit_code=5))
            assert [r.exit_code for r in records.list(10)] == [5]

    def test_a_store_that_has_none(self, tmp_path: Path) -> None:
        with Records(tmp_path / "home") as records:
            assert records.list(10) == []
            with pytest.raises(RepeatrError):
                records.get("x")
        assert not (tmp_path / "home").exists()

    @pytest.mark.parametrize("data", [b"nonsense" * 1000, b""])
    def test_a_broken_database(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "records.sqlite").write_bytes(data)
        with Records(tmp_path) as records:
            if not data:  # as an interrupted creation leaves it
                records.save(_record())
                return
            for ask in (lambda: records.list(1), lambda: records.save(_record())):
                with pytest.raises(RepeatrError) as caught:
                    ask()
                assert caught.value.category is Category.STORE
                assert "records.sqlite" in caught.value.message

    def test_a_newer_schema_is_left_alone(self, tmp_path: Path) -> None:
        with Records(tmp_path) as records:
            records.save(_record())
        database = sqlite3.connect(tmp_path / "records.sqlite")
        with database:
            database.execute("UPDATE schema SET version = 99")
        database.close()
        with Records(tmp_path) as records, pytest.raises(RepeatrError, match="newer") as caught:
            records.save(_record("other"))
        assert caught.value.category is Category.STORE

    def test_many_processes_save_at_once(self, tmp_path: Path) -> None:
        code = """
import sys
from pathlib import Path
from repeatr.model.record import RunRecord
from repeatr.store.records import Records
for i in range(10):
    with Records(Path(sys.argv[1])) as records:
        records.save(RunRecord(f"{sys.argv[2]}-{i}", i, "f", 0, {}))
"""
        processes = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)], env=ENVIRONMENT)
            for n in range(4)
        ]
        assert [process.wait(60) for process in processes] == [0] * 4
        with Records(tmp_path) as records:
            assert len(records.list(1000)) == 40

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
    def test_a_store_that_may_only_be_read(self, tmp_path: Path) -> None:
        for parent in (tmp_path, *tmp_path.parents):
            if str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o055)
        home = tmp_path / "home"
        with Records(home) as records:
            records.save(_record())
        home.chmod(0o755)
        code = """
import sys
from pathlib import Path
from repeatr.errors import RepeatrError
from repeatr.store.records import Records
with Records(Path(sys.argv[1])) as records:
    found = records.list(10)
    print(found[0].guid)
    try:
        records.save(found[0])
    except RepeatrError as error:
        print(error.exit_code, error.message)
"""
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)],
            env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
            user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines[0] == _record().guid, done
        assert lines[1].startswith("41 "), done
