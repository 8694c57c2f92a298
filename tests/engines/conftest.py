"""The conformance suite over the built-in engines, as every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

import callers
from becoming import becoming

pytest.register_assert_rewrite("repeatr.engines.conformance")

from repeatr.engines.conformance.harness import Container, why_unavailable  # noqa: E402
from repeatr.engines.contract import Unavailable  # noqa: E402

#: The built-in engines, and who can use them.
ENGINES = [
    ("namespaces", "root"),
    ("namespaces", "range"),
    ("namespaces", "single"),
    ("chroot", "root"),
]


@cache
def refusal(engine: str, kind: str) -> Unavailable | None:
    """Why the engine can't run as `kind` here."""
    return why_unavailable(engine, becoming(kind))


@pytest.fixture(params=ENGINES, ids=["-".join(pair) for pair in ENGINES])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    """Runs processes in containers, in each engine and as each kind of caller in turn."""
    engine, kind = request.param
    become = becoming(kind)
    if (why := refusal(engine, kind)) is not None:
        callers.missing(f"{engine} can't run as {kind}: {why.cause}", why.remedy)
    with Container(engine, become) as made:
        yield made
