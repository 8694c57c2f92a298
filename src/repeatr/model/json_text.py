"""From text to JSON values.

The standard library's parser goes first, for speed; what it refuses goes to `tolerant_json`,
which takes a little more and tells what is wrong with the rest.
"""

from __future__ import annotations

import json
from typing import NoReturn

from repeatr.model.text import Parsed


def parse_json(text: str, name: str) -> Parsed:
    """Read one JSON value; `name` is what the text is called in errors and warnings.

    Raises RepeatrError USAGE with line and column where the text is broken.
    """
    try:
        return Parsed(json.loads(text, parse_constant=_no_constant), [])
    except (ValueError, RecursionError):
        from repeatr.model.tolerant_json import parse_tolerantly

        return parse_tolerantly(text, name)


def _no_constant(name: str) -> NoReturn:
    # json.loads knows NaN and Infinity, which are no JSON.
    raise ValueError(name)
