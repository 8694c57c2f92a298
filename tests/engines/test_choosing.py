from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import callers
from repeatr.engines import choosing
from repeatr.engines.choosing import choose, engine_named, names
from repeatr.engines.contract import Engine
from repeatr.errors import Category, RepeatrError
from repeatr.linux import enclosure
from repeatr.model.events import Event, Level, Log


def refused(name: str, traits: tuple[str, ...] = (), *, can_mount: bool = False) -> RepeatrError:
    here = enclosure.on_host(can_mount=can_mount, note="mounts are forbidden")
    with pytest.raises(RepeatrError) as caught:
        choose(name, here, traits)
    return caught.value


@pytest.mark.parametrize("name", ["namespaces", "chroot"])
def test_built_in(name: str) -> None:
    engine = engine_named(name)
    assert isinstance(engine, Engine)
    assert engine.name == name
    assert name in names()


def test_best_first() -> None:
    assert names().index("namespaces") < names().index("chroot")


def test_unknown_name() -> None:
    error = refused("dockre")
    assert error.exit_code == 1
    assert error.message == "no engine is called 'dockre'"
    assert error.remedy.startswith("known are: namespaces, ")


def test_unavailable_has_cause_and_remedy() -> None:
    error = refused("namespaces")
    assert error.exit_code == 42
    assert error.message == (
        "the engine namespaces can't run here: no mounts can be made here: mounts are forbidden"
    )
    assert "run as a user who may make user namespaces" in error.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root has chroot")
def test_none_available_names_each_cause() -> None:
    error = refused("")
    assert error.exit_code == 42
    assert error.message == (
        "no engine can run this here: namespaces: no mounts can be made here: mounts are"
        " forbidden; chroot: only root may change the root directory"
    )


def test_trait_missing_names_who_has_it() -> None:
    error = refused("chroot", ("hostname",))
    assert error.exit_code == 40
    assert error.message == (
        "the formula asks for the trait hostname, which the engine chroot does not have"
    )
    assert error.remedy.startswith("engines that have it: namespaces")


def test_trait_that_no_engine_has() -> None:
    error = refused("", ("time_travel",))
    assert error.exit_code == 40
    assert error.remedy == "engines that have it: none"


def test_trait_of_an_unavailable_engine() -> None:
    error = refused("", ("pid_isolation",))
    assert error.exit_code == 42
    assert "namespaces: no mounts can be made here" in error.message
    assert "chroot: has no pid_isolation" in error.message


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot is for root")
def test_next_best() -> None:
    choice = choose("", enclosure.on_host(can_mount=False, note="x"), ())
    assert choice.engine.name == "chroot"
    assert choice.available.version == os.uname().release


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot is for root")
def test_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choosing._OLD_NAMES, "nsinit", "chroot")
    events: list[Event] = []
    assert choose("nsinit", enclosure.on_host(can_mount=False), (), events.append).engine.name == (
        "chroot"
    )
    [log] = events
    assert isinstance(log, Log)
    assert (log.level, log.msg) == (Level.WARN, "the engine nsinit is called chroot now")


def test_nsinit() -> None:
    assert engine_named("nsinit").name == "namespaces"


THIRD_PARTY = '''
from repeatr.engines.chroot import Chroot

class Own(Chroot):
    name = "own"

class Broken(Chroot):
    """Claims what it does not do, and isolates nothing."""
    name = "broken"
    traits = Chroot.traits._replace(hostname=True)
    def isolation(self, job):
        return {**super().isolation(job), "hostname": "isolated"}
'''


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH: an installed package that brings engines."""
    (tmp_path / "third_party.py").write_text(THIRD_PARTY)
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[repeatr.engines]\nown = third_party:Own\nbroken = third_party:Broken\n"
        "absent = third_party.absent:Absent\nnamespaces = third_party:Own\n"
    )
    return tmp_path


@pytest.fixture
def installed(third_party: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(third_party))


@pytest.mark.usefixtures("installed")
def test_third_party_engine() -> None:
    assert names()[-3:] == ("absent", "broken", "own")
    engine = engine_named("own")
    assert isinstance(engine, Engine)
    assert engine.name == "own"


@pytest.mark.usefixtures("installed")
def test_built_in_engines_cannot_be_replaced() -> None:
    assert engine_named("namespaces").name == "namespaces"
    assert names().count("namespaces") == 1


@pytest.mark.usefixtures("installed")
def test_third_party_engine_that_cannot_be_loaded() -> None:
    error = refused("absent")
    assert error.category is Category.EXECUTOR
    assert error.message.startswith(
        "the engine absent can't be loaded from third_party.absent:Absent: ModuleNotFoundError: "
    )
    # And it keeps nobody from being told who has a trait.
    assert "broken" in refused("chroot", ("hostname",)).remedy


def conformance(third_party: Path, *arguments: str) -> callers.Done:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{third_party}:{callers.SOURCES}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "200",
    }
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-p", "repeatr.engines.conformance", *arguments),
        ],
        cwd=third_party,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return callers.Done(done.returncode, done.stdout, done.stderr)


SOME = ("-k", "hostname or told or exit_code or nothing_is_left")


def test_conformance_of_a_third_party(third_party: Path) -> None:
    callers.need_root()
    good = conformance(third_party, "--engine=own", *SOME)
    assert good.code == 0, good.out
    assert "passed" in good.out
    bad = conformance(third_party, "--engine=broken", *SOME)
    assert bad.code == 1
    failed = [line for line in bad.out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 3
    assert all("test_hostname[broken" in line for line in failed)


def test_conformance_of_an_unavailable_engine(third_party: Path) -> None:
    done = conformance(third_party, "--engine=absent", "-k", "umask")
    assert done.code == 1
    assert "absent can't run here: the engine absent can't be loaded" in done.out


def test_conformance_tests_are_not_run_unasked(third_party: Path) -> None:
    assert conformance(third_party).code == 5  # pytest's: no tests
