"""Which engine a run gets: the one that was named, or the best that this host allows."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from repeatr.engines.contract import Available, Engine, Unavailable
from repeatr.errors import Category, RepeatrError
from repeatr.linux.enclosure import Enclosure
from repeatr.model.events import Emit, Level, Log, ignore

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The environment variable that names an engine, where no option does.
VARIABLE = "REPEATR_ENGINE"

#: The entry-point group through which other packages add engines.
ENTRY_POINTS = "repeatr.engines"

# The built-in engines, best first: by isolation, among those of near-native speed.
_BUILT_IN = {
    "namespaces": "repeatr.engines.namespaces:Namespaces",
    "chroot": "repeatr.engines.chroot:Chroot",
}

# What the original called them.
_OLD_NAMES = {"nsinit": "namespaces"}


class Choice(NamedTuple):
    """An engine that works here, and how it said so."""

    engine: Engine
    available: Available


def names() -> tuple[str, ...]:
    """The engines that can be named, best first; those of other packages last."""
    return (*_BUILT_IN, *sorted(_added()))


def engine_named(name: str) -> Engine:
    """The engine called `name`.

    Raises RepeatrError: USAGE for an unknown name, EXECUTOR where a package's engine can't
    be loaded.
    """
    name = _OLD_NAMES.get(name, name)
    where = _BUILT_IN.get(name)
    if where is not None:
        module, _, member = where.partition(":")
        engine: Engine = getattr(import_module(module), member)()
        return engine
    added = _added().get(name)
    if added is None:
        raise RepeatrError(
            Category.USAGE,
            f"no engine is called {name!r}",
            remedy=f"known are: {', '.join(names())}",
        )
    try:
        found: Engine = added.load()()
    except Exception as problem:  # whatever another package's module may raise
        raise RepeatrError(
            Category.EXECUTOR,
            f"the engine {name} can't be loaded from {added.value}:"
            f" {type(problem).__name__}: {problem}",
            remedy="mend or remove the package that brings it",
        ) from problem
    return found


def choose(name: str, enclosure: Enclosure, traits: Collection[str], emit: Emit = ignore) -> Choice:
    """The engine `name`, or with "" the best built-in one; it must have the `traits`.

    An engine's old name is taken, with a note to `emit`.

    Raises RepeatrError: USAGE for an unknown name, EXECUTOR where the engine (or every
    engine) is unavailable, with cause and remedy, JOB_INVALID where a trait is missing,
    naming the engines that have it.
    """
    if name:
        engine = engine_named(name)
        if name in _OLD_NAMES:
            emit(Log(Level.WARN, f"the engine {name} is called {engine.name} now"))
        missing = _missing(engine, traits)
        if missing:
            raise _lacks(engine.name, missing)
        answer = engine.probe(enclosure)
        if isinstance(answer, Unavailable):
            raise RepeatrError(
                Category.EXECUTOR,
                f"the engine {engine.name} can't run here: {answer.cause}",
                remedy=answer.remedy,
            )
        return Choice(engine, answer)
    refusals: list[tuple[str, Unavailable]] = []
    lacking: list[tuple[str, str]] = []
    for each in _BUILT_IN:
        engine = engine_named(each)
        missing = _missing(engine, traits)
        if missing:
            lacking.append((engine.name, missing))
            continue
        answer = engine.probe(enclosure)
        if isinstance(answer, Available):
            return Choice(engine, answer)
        refusals.append((engine.name, answer))
    if not refusals:
        raise _lacks(*lacking[0])
    raise RepeatrError(
        Category.EXECUTOR,
        "no engine can run this here: "
        + "; ".join(
            [f"{each}: {answer.cause}" for each, answer in refusals]
            + [f"{each}: has no {trait}" for each, trait in lacking]
        ),
        remedy=refusals[0][1].remedy,
        details={each: answer.cause for each, answer in refusals},
    )


def _missing(engine: Engine, traits: Collection[str]) -> str:
    return next((trait for trait in traits if not getattr(engine.traits, trait, False)), "")


def _lacks(name: str, trait: str) -> RepeatrError:
    having = [each for each in names() if _has(each, trait)]
    return RepeatrError(
        Category.JOB_INVALID,
        f"the formula asks for the trait {trait}, which the engine {name} does not have",
        remedy=f"engines that have it: {', '.join(having) or 'none'}",
    )


def _has(name: str, trait: str) -> bool:
    try:
        return not _missing(engine_named(name), (trait,))
    except RepeatrError:
        return False


def _added() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in found if point.name not in _BUILT_IN}
