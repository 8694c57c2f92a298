"""The conformance suite: what every container engine must do, as a pytest plugin.

    pytest -p repeatr.engines.conformance --engine=NAME

runs the suite over the engine NAME, built in or added through the entry-point group
`repeatr.engines`. Each test states one feature in its docstring. Standard features are asked
of every engine. Optional traits are tested where the engine claims them; where it does not,
its `isolation()` must say `host`.

This package alone imports pytest, which Repeatr itself does not need.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from repeatr.engines.conformance.harness import Container, why_unavailable

_HERE = pathlib.Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --engine."""
    parser.getgroup("repeatr").addoption(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="run Repeatr's conformance suite over this engine (may be given several times)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """With --engine, and no tests named on the command line, run the suite."""
    if not config.getoption("engine"):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = [str(_HERE)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once for each --engine."""
    if "engine_name" in metafunc.fixturenames:
        metafunc.parametrize("engine_name", metafunc.config.getoption("engine"), scope="session")


@pytest.fixture(scope="session")
def usable_engine(engine_name: str) -> str:
    """The engine's name, after it was probed: a suite over an engine that can't run proves nothing.

    Fails with the engine's own cause and remedy.
    """
    why = why_unavailable(engine_name)
    if why is not None:
        pytest.fail(f"{engine_name} can't run here: {why.cause} ({why.remedy})", pytrace=False)
    return engine_name


@pytest.fixture
def container(usable_engine: str) -> Iterator[Container]:
    """Runs processes in containers of the engine under test."""
    with Container(usable_engine) as made:
        yield made
