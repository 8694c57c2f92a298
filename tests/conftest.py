"""Fixtures that all tests share.

Being here, this file also puts tests/ on the import path: tests share modules from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import callers
from callers import Caller, Repeatr

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """In CI a missing program ends the tests before they begin, instead of skipping some."""
    if callers.in_ci():
        absent = [each for each in callers.PROGRAMS if not shutil.which(each, path=callers.PATH)]
        if absent:
            pytest.exit(f"these are not here: {' '.join(absent)} (see .ci/run)", returncode=4)


@pytest.fixture
def shared_tmp() -> Iterator[Path]:
    """A new directory that every user can go through (pytest's own `tmp_path` is 0700)."""
    directory = callers.directory_for_all()
    yield directory
    callers.remove(directory)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new REPEATR_HOME, for code that is called in the test process itself."""
    path = tmp_path / "repeatr-home"
    monkeypatch.setenv("REPEATR_HOME", str(path))
    return path


@pytest.fixture
def myself(shared_tmp: Path) -> Caller:
    """The user who runs the tests, with a directory and a REPEATR_HOME of their own."""
    return callers.caller(callers.own_kind(), shared_tmp)


@pytest.fixture
def repeatr(myself: Caller) -> Repeatr:
    """The real program, run as whoever runs the tests: `repeatr("scan", "tar", ...) -> Done`."""
    return myself.repeatr


@pytest.fixture(params=["root", "range", "single"])
def as_user(request: pytest.FixtureRequest, shared_tmp: Path) -> Caller:
    """Root, a user with a range of subordinate ids and one without, in turn.

    `as_user.repeatr(...)` runs the real program, `as_user.call(...)` any other.
    """
    return callers.caller(request.param, shared_tmp)
