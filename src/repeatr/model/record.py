"""Run records: what happened in one run of a formula."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from repeatr.errors import Category, RepeatrError
from repeatr.model.validation import (
    as_fields,
    as_integer,
    as_map,
    as_text,
    as_text_map,
    key_path,
    with_field,
)
from repeatr.model.wareid import WareID

_FIELDS = ("guid", "time", "formulaID", "exitCode", "results", "hostname", "metadata")
_REQUIRED = ("guid", "time", "formulaID", "exitCode", "results")
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class RunRecord(NamedTuple):
    """What happened.

    `time` is when the run started, in whole seconds since 1970. `formula_id` is the setup
    hash of the formula with defaults filled in. `results` holds the ware of each output by
    its path. `hostname` and `metadata` are for people: nothing may depend on them.
    """

    guid: str
    time: int
    formula_id: str
    exit_code: int
    results: Mapping[str, WareID]
    hostname: str = ""
    metadata: Mapping[str, str] = _NO_METADATA

    def to_json(self) -> dict[str, object]:
        """The record as it is written: keys in the order of the format, paths sorted."""
        return {
            "guid": self.guid,
            "time": self.time,
            "formulaID": self.formula_id,
            "exitCode": self.exit_code,
            "results": {path: str(ware) for path, ware in sorted(self.results.items())},
            "hostname": self.hostname,
            "metadata": dict(sorted(self.metadata.items())),
        }

    @classmethod
    def from_json(cls, value: object, where: str = "runRecord") -> RunRecord:
        """Read a parsed record; `where` is what it is called in errors.

        `hostname` and `metadata` may be missing, and `results` may be null, as in records
        of the original. Raises RepeatrError USAGE where a field is missing, unknown or of the
        wrong kind.
        """
        fields = as_fields(value, where, _FIELDS)
        for key in _REQUIRED:
            if key not in fields:
                raise RepeatrError(Category.USAGE, f"{where}.{key}: missing")
        fields = {key: item for key, item in fields.items() if item is not None}

        def text(key: str) -> str:
            return as_text(fields.get(key, "" if key == "hostname" else None), f"{where}.{key}")

        def integer(key: str) -> int:
            return as_integer(fields.get(key), f"{where}.{key}")

        return cls(
            guid=text("guid"),
            time=integer("time"),
            formula_id=text("formulaID"),
            exit_code=integer("exitCode"),
            results=_results(fields.get("results", {}), f"{where}.results"),
            hostname=text("hostname"),
            metadata=as_text_map(fields.get("metadata", {}), f"{where}.metadata"),
        )


def _results(value: object, where: str) -> dict[str, WareID]:
    results: dict[str, WareID] = {}
    for path, ware in as_map(value, where).items():
        place = key_path(where, path)
        text = as_text(ware, place)
        try:
            results[path] = WareID.parse(text)
        except RepeatrError as error:
            raise with_field(error, place) from None
    return results
