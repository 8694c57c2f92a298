"""Hypothesis strategies for filesets, and running as a user without rights."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from hashlib import sha384
from typing import Any

from hypothesis import strategies as st

from repeatr.fileset.entry import Entry

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
ids = st.integers(0, 2**32 - 2)
contents = st.one_of(st.binary(max_size=40), st.sampled_from([b"x" * 70_000, b"y" * 1_100_000]))


def _metadata(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "mode": st.just(0o777) if kind == "L" else st.integers(0, 0o7777),
            "uid": ids,
            "gid": ids,
            # What ext4 keeps (at its very first second it keeps no nanoseconds).
            "mtime": st.integers(1 - 2**31, 2**33),
            "mtime_ns": st.sampled_from([0, 1, 500_000_000, 999_999_999]),
        }
    )


@st.composite
def trees(draw: st.DrawFn, kinds: str = "fdLpDc") -> list[tuple[Entry, bytes | None]]:
    """A fileset as (entry with digest, content), in an order in which parents come first."""
    tree: list[tuple[Entry, bytes | None]] = [(Entry(b"", "d", **draw(_metadata("d"))), None)]
    directories = [b""]
    taken = {b""}
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(directories))
        name = draw(names)
        path = parent + b"/" + name if parent else name
        if path in taken:
            continue
        taken.add(path)
        kind = draw(st.sampled_from(kinds))
        entry = Entry(path, kind, **draw(_metadata(kind)))
        content = None
        match kind:
            case "d":
                directories.append(path)
            case "f":
                content = draw(contents)
                entry = entry._replace(size=len(content), digest=sha384(content).digest())
            case "L":
                entry = entry._replace(link=draw(names))
            case "D" | "c":
                # 0:0 of c is overlayfs's whiteout; some kernels treat it apart.
                major, minor = draw(st.integers(1, 4095)), draw(st.integers(0, 2**20 - 1))
                entry = entry._replace(major=major, minor=minor)
        tree.append((entry, content))
    return tree


NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """What `work` returns when done by a user who owns nothing, in a process of its own.

    As root that is `nobody`; anyone else is that user already, as far as rights go.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                result = (True, work())
            except BaseException:
                result = (False, traceback.format_exc())
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        good, value = pickle.load(pipe)
    os.waitpid(child, 0)
    assert good, value
    return value
