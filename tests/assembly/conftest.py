"""Labs: roots assembled as root, as a user with a range of ids and as one without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import callers
from assembly_lab import Lab


@pytest.fixture(scope="module", params=["root", "range", "single"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as stack:
        directory = callers.directory_for_all()
        stack.callback(callers.remove, directory)
        yield stack.enter_context(Lab(callers.caller(request.param, directory)))
