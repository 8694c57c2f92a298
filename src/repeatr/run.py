"""From a formula to a run record.

Assembles the filesets into a root filesystem, runs the process in a container, packs the
outputs, and answers with a run record that names them by hash.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

from repeatr.assembly import paths
from repeatr.assembly.collect import Collected, Collector
from repeatr.assembly.layers import Owner
from repeatr.assembly.root import Root, Source
from repeatr.engines import preflight
from repeatr.engines.choosing import Choice, choose
from repeatr.engines.contract import ExecFailure, Exit, Job
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DIRECTORY, FILE
from repeatr.fileset.filtering import apply_filters
from repeatr.fileset.treehash import kind_words
from repeatr.linux.enclosure import Enclosure
from repeatr.linux.interrupts import Interrupts, cancelled
from repeatr.model.canonical import setup_hash, with_defaults
from repeatr.model.events import Emit, Level, Log
from repeatr.model.filters import OUTPUT_DEFAULTS, Filters
from repeatr.model.formula import Action, Context, Document, Formula, Output
from repeatr.model.guid import new_guid
from repeatr.model.inspection import required_traits
from repeatr.model.policy import capabilities_of
from repeatr.model.record import RunRecord
from repeatr.model.runnable import check_runnable
from repeatr.model.validation import with_field
from repeatr.model.wareid import NOTHING, WareID, split_mount
from repeatr.store.filesets import Store, StoredFileset
from repeatr.store.memos import Memos
from repeatr.store.own_warehouse import sources_of
from repeatr.store.records import Records
from repeatr.warehouses.address import warehouse_at
from repeatr.wares.packing import pack
from repeatr.wares.packtypes import packtype

#: What the process sees as its host's name where the formula does not say.
DEFAULT_HOSTNAME = "repeatr"


class Options(NamedTuple):
    """How a formula is to be run; nothing here may change its result.

    `engine` is the name of one, or "" for the best. `memos` are used where given. `timeout`
    bounds the process, in seconds. `keep` is where to leave a copy of the root, in a directory
    named by the run's guid; None: nowhere.
    """

    engine: str = ""
    memos: Memos | None = None
    timeout: float | None = None
    keep: Path | None = None


class Ran(NamedTuple):
    """A run record, and an error: the process failed (JOB_UNSUCCESSFUL), or the record could
    not be kept (STORE)."""

    record: RunRecord
    error: RepeatrError | None = None


class Place(NamedTuple):
    """Where a run happens: the enclosure, what this machine keeps, who listens and who stops it."""

    enclosure: Enclosure
    store: Store
    emit: Emit
    interrupts: Interrupts | None = None


def run(document: Document, place: Place, options: Options) -> Ran:
    """Run a formula. The caller has entered the enclosure.

    Raises RepeatrError for everything that keeps it from running to its end: see
    docs/exit-codes.md. A process that ran and failed is no such thing: it has a record.
    """
    started = time.time()
    guid = new_guid(started)
    check_runnable(document.formula)
    formula = with_defaults(document.formula)
    formula_id = setup_hash(formula)
    memo = options.memos.load(formula_id) if options.memos else None
    if memo is not None:
        place.emit(Log(Level.INFO, "found a memo, not running", (("formulaID", formula_id),)))
        return Ran(memo)
    outputs = formula.outputs or {}
    _check_outputs(outputs, document.context, place.emit)
    choice = choose(
        options.engine,
        place.enclosure,
        required_traits(document.formula.action),
        place.emit,
    )
    if place.enclosure.idmap.kind == "single":
        detail = (("why", place.enclosure.note),)
        place.emit(Log(Level.INFO, "owners: single (one id owns every file here)", detail))
    owner = _owner(formula.action)
    if not place.enclosure.idmap.holds(*owner) and place.enclosure.idmap.kind != "single":
        raise _no_such_id(owner, place.enclosure)
    hold, resume = _waiting(place.interrupts)
    with ExitStack() as stack:
        try:
            sources = _sources(formula, document.context, place)
            directory = stack.enter_context(place.store.run_directory("run", place.emit)).path
            root = stack.enter_context(Root(directory, place.enclosure, owner, place.emit))
            root.assemble(sources)
            if options.keep is not None:
                stack.callback(_keep, root, options.keep / guid, place.emit)
            ended, isolation = _execute(formula, choice, root, place, options)
            results = _pack_outputs(outputs, document.context, root, place.emit)
            metadata = _metadata(choice, isolation, root, place.enclosure)
        finally:
            # From here on no signal breaks off the cleaning up.
            hold()
    resume()
    record = RunRecord(
        guid=guid,
        time=int(started),
        formula_id=formula_id,
        exit_code=ended.code,
        results=results,
        hostname=os.uname().nodename,
        metadata=metadata,
    )
    try:
        with Records(place.store.home) as records:
            records.save(record)
        if options.memos is not None:
            options.memos.save(record)
    except RepeatrError as problem:
        # What was run is not lost with it.
        return Ran(record, problem)
    return Ran(record, _unsuccessful(ended.code) if ended.code else None)


def _waiting(interrupts: Interrupts | None) -> tuple[Callable[[], None], Callable[[], None]]:
    """How to have signals wait, and no longer."""
    if interrupts is None:
        return lambda: None, lambda: None
    return interrupts.hold, interrupts.resume


def _owner(action: Action) -> Owner:
    info = action.userinfo
    assert info is not None and info.uid is not None and info.gid is not None, "defaults are filled"
    return Owner(info.uid, info.gid)


def _no_such_id(owner: Owner, enclosure: Enclosure) -> RepeatrError:
    return RepeatrError(
        Category.EXECUTOR,
        f"the action's user {owner.uid}:{owner.gid} lies outside the range of ids"
        " that this user may use",
        remedy="give them a longer range in /etc/subuid and /etc/subgid, use a smaller"
        " userinfo.uid, or run as root",
        details={"uids": str(sum(extent.length for extent in enclosure.idmap.uids))},
    )


def _check_outputs(outputs: Mapping[str, Output], context: Context, emit: Emit) -> None:
    """Refuse before the run what would fail after it."""
    for path, output in outputs.items():
        try:
            packtype(output.packtype)
        except RepeatrError as unknown:
            raise with_field(unknown, f'formula.outputs."{path}".packtype') from None
        url = context.save_urls.get(path)
        if url:
            warehouse_at(url, emit).check_save()


def _sources(formula: Formula, context: Context, place: Place) -> dict[str, Source]:
    sources = {}
    for path, ware in (formula.inputs or {}).items():
        if ware.is_mount:
            host = split_mount(ware)
            sources[path] = Source(host=host.path, writable=host.writable)
        else:
            sources[path] = Source(_fileset(ware, context.fetch_urls.get(path, ()), place))
    return sources


def _fileset(ware: WareID, urls: Sequence[str], place: Place) -> StoredFileset:
    found = place.store.find(ware)
    if found is not None:
        return found
    own = sources_of(place.store.home, ware, ())
    return place.store.ensure(ware, (*own, *urls), emit=place.emit)


def _execute(
    formula: Formula, choice: Choice, root: Root, place: Place, options: Options
) -> tuple[Exit, dict[str, str]]:
    action = formula.action
    engine = choice.engine
    if action.cradled and action.userinfo is not None:
        cwd, home = _reached(root, action.cwd), _reached(root, action.userinfo.homedir)
        root.carpenter.cradle(cwd, home, _reached(root, "/tmp"), root.owner)
    root.prepare(engine.mount_points)
    if action.noop:
        return Exit(0), {}
    program = preflight.find_program(root.fd, action.exec[0], action.env)
    preflight.check(root.fd, program, action.cwd)
    interrupts = place.interrupts
    network: Literal["none", "host"] = "host" if action.network == "host" else "none"
    job = Job(
        root=root.path,
        program=program,
        argv=action.exec,
        env=action.env,
        cwd=action.cwd,
        uid=root.owner.uid,
        gid=root.owner.gid,
        hostname=action.hostname or DEFAULT_HOSTNAME,
        capabilities=capabilities_of(action.policy),
        network=network,
        enclosure=place.enclosure,
        emit=place.emit,
        deadline=None if options.timeout is None else time.monotonic() + options.timeout,
        stop=interrupts.take if interrupts else lambda: 0,
        stop_fd=interrupts.fd if interrupts else None,
    )
    detail = (("engine", engine.name), ("exec", " ".join(action.exec)))
    place.emit(Log(Level.INFO, "running", detail))
    try:
        with interrupts.passed_on() if interrupts else nullcontext():
            ended = engine.execute(job)
    except ExecFailure as failure:
        raise preflight.explain(failure, root.fd, program, action.cwd) from None
    if ended.stopped == "deadline":
        raise RepeatrError(
            Category.CANCELLED,
            f"the process was stopped: it ran longer than {options.timeout:g} s",
            remedy="give it more time (--timeout), or none to let it run to its end",
        )
    late = interrupts.take() if interrupts else 0
    if late and not ended.stopped:
        raise cancelled(late)
    if ended.stopped:
        raise RepeatrError(Category.CANCELLED, "the process was stopped by a signal to repeatr")
    return ended, engine.isolation(job)


def _reached(root: Root, path: str) -> bytes:
    try:
        return paths.resolve(root.fd, paths.relative(path), follow_last=True)
    except OSError as problem:
        raise RepeatrError(
            Category.JOB_INVALID,
            f"{path} can't be reached in the container: {problem.strerror}",
            remedy="use a path that leads through directories only",
        ) from None


def _pack_outputs(
    outputs: Mapping[str, Output], context: Context, root: Root, emit: Emit
) -> dict[str, WareID]:
    collector = Collector(root, emit)
    results = {}
    for path, output in sorted(outputs.items()):
        with collector.collect(path) as collected:
            if collected is None:
                emit(Log(Level.WARN, f"the output {path} does not exist after the run"))
                results[path] = WareID(output.packtype, NOTHING)
                continue
            results[path] = _pack(path, output, context.save_urls.get(path), collected, emit)
        emit(Log(Level.INFO, "packed", (("path", path), ("ware", str(results[path])))))
    return results


def _pack(path: str, output: Output, url: str | None, collected: Collected, emit: Emit) -> WareID:
    filters = (output.filters or Filters()).completed(OUTPUT_DEFAULTS)
    entries = apply_filters(collected.manifest, filters, packing=True)
    if not entries or entries[0].path:
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"the output {path} is a device, which its filters leave out",
            remedy="pack the directory that holds it",
        )
    if entries[0].kind not in (DIRECTORY, FILE):
        raise RepeatrError(
            Category.INOPERABLE_PATH,
            f"the output {path} is {kind_words(entries[0].kind)}, and only a directory or a file"
            " can be packed",
            remedy="pack the directory that holds it, or what it points to",
        )
    if not url:
        return pack(output.packtype, entries, collected.open_file, None, emit=emit).ware
    with warehouse_at(url, emit).save() as writer:
        packed = pack(output.packtype, entries, collected.open_file, writer.file, emit=emit)
        writer.commit(packed.ware)
    return packed.ware


def _metadata(
    choice: Choice, isolation: Mapping[str, str], root: Root, enclosure: Enclosure
) -> dict[str, str]:
    """What made this run: for people who ask later why it went as it did."""
    said = {"engine": choice.engine.name, "engine.version": choice.available.version}
    said.update({f"isolation.{name}": how for name, how in isolation.items()})
    said["placement"] = root.placement
    if enclosure.note:
        said["note"] = enclosure.note
    if root.host_mounts:
        mounts = (f"{'rw' if m.writable else 'ro'}:{m.source}" for m in root.host_mounts)
        said["hermetic"] = f"no: the host was mounted ({', '.join(mounts)})"
    elif isolation.get("network") == "host":
        reach = [
            name for name in ("network", "pid", "ipc", "hostname") if isolation.get(name) == "host"
        ]
        said["hermetic"] = f"no: the host's {', '.join(reach)} in reach"
    else:
        said["hermetic"] = "yes"
    return said


def _unsuccessful(code: int) -> RepeatrError:
    return RepeatrError(
        Category.JOB_UNSUCCESSFUL,
        f"the process ended with exit code {code}",
        details={"exitCode": str(code)},
    )


def _keep(root: Root, target: Path, emit: Emit) -> None:
    """Leave a copy of the root in the new directory `target`, owned by the caller."""
    from repeatr.assembly.copying import copy_out

    try:
        target.mkdir(parents=True, mode=0o700)
        with Collector(root, emit, host=False).collect("/") as collected:
            if collected is not None:
                copy_out(collected.manifest, collected.open_file, target / "root")
    except (OSError, RepeatrError) as problem:
        emit(Log(Level.WARN, f"the root could not be kept: {problem}"))
        return
    emit(Log(Level.INFO, f"the root is kept in {target / 'root'}"))
