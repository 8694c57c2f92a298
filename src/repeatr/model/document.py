"""Reading formula files: JSON or YAML in, a `Document` and warnings out.

Files named .yaml or .yml are YAML and files named .json are JSON. Of any other name or
none, what starts like JSON is JSON, and the rest is YAML.
"""

from __future__ import annotations

from typing import NamedTuple

from repeatr.model.formula import Document
from repeatr.model.formula_reader import read_document
from repeatr.model.json_text import parse_json
from repeatr.model.text import Parsed, decode_text


class ParsedDocument(NamedTuple):
    """A document, and what its reader should be told."""

    document: Document
    warnings: list[str]


def parse_document(data: bytes, name: str) -> ParsedDocument:
    """Read a formula file's bytes; `name` is what the file is called, in messages too.

    Bytes beyond `text.MAX_BYTES` are refused, so no more than one above it need
    ever be read. Raises RepeatrError USAGE, with line and column or with the field's path.
    """
    value, warnings = parse_value(data, name)
    return ParsedDocument(read_document(value, warnings), warnings)


def parse_value(data: bytes, name: str) -> Parsed:
    """Read a file's bytes as JSON or YAML of any structure."""
    decoded = decode_text(data, name)
    text = str(decoded.value)
    if _is_json(text, name):
        parsed = parse_json(text, name)
    else:
        from repeatr.model.yaml_text import parse_yaml

        parsed = parse_yaml(text, name)
    return Parsed(parsed.value, decoded.warnings + parsed.warnings)


def _is_json(text: str, name: str) -> bool:
    name = name.lower()
    if name.endswith((".yaml", ".yml")):
        return False
    # A comment as of C is no YAML; let JSON's parser say that it takes none.
    return (
        name.endswith(".json")
        or text.lstrip()[:1] in ("{", "[")
        or text.lstrip()[:2]
        in (
            "//",
            "/*",
        )
    )
