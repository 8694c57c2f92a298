"""`make demo`: what Repeatr does, in a minute, told step by step.

Everything it makes is in demo-work/ (or the directory named as argument), its store too.
Exits nonzero where two runs of one formula differ, which is what must not happen.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

CHECKOUT = Path(__file__).absolute().parent.parent
WORK = Path(sys.argv[1]).absolute() if sys.argv[1:] else CHECKOUT / "demo-work"
HOME = WORK / "home"

#: What the formula's script uses. Any host has them.
PROGRAMS = ("sh", "mkdir", "cat", "ls", "id", "ln")

NUMBERS = itertools.count(1)

#: The exit code for an engine that this host does not allow (docs/exit-codes.md).
NO_ENGINE = 42

SCRIPT = (
    "echo building as $(id -u) in $PWD, on a host that has:; ls /; "
    "mkdir out; echo 'same in, same out' > out/greeting; ln -s greeting out/link"
)


class Ended(NamedTuple):
    """How a command ended: exit code, standard output, seconds it took."""

    code: int
    out: str
    seconds: float
    err: str


def main() -> int:
    """Run the demo."""
    prepare()

    step("A fileset to work in: a few programs of this host, with what they need to start")
    base = repeatr("base", *PROGRAMS).out.strip()
    say(f"{base}\n\nThat is a WareID: it names these files by hash, wherever they are.")

    step("A formula: which filesets, which process, which paths to keep")
    formula = {
        "inputs": {"/": base},
        "action": {"exec": ["/bin/sh", "-ec", SCRIPT]},
        "outputs": {"/task/out": {"packtype": "tree"}},
    }
    context = {"saveUrls": {"/task/out": "ca+file://./wares"}}
    text = json.dumps({"formula": formula, "context": context}, indent=4) + "\n"
    (WORK / "hello.formula").write_text(text)
    say(indented(text))

    step("Run it")
    first = result_of(repeatr("run", "hello.formula"))

    step("Run it again: the process runs anew, in a new container")
    second = result_of(repeatr("run", "hello.formula", quiet=True))
    compare(first, second)

    step("The result is a fileset like any other: by its WareID it can be had anywhere")
    repeatr("unpack", first, "out", "--source=ca+file://./wares")
    command("ls", "-l", "out")
    command("cat", "out/greeting")

    step("Nothing changed? Then it need not run: with --memo, what was done is remembered")
    ran = repeatr("run", "hello.formula", "--memo", quiet=True)
    remembered = repeatr("run", "hello.formula", "--memo", quiet=True)
    say(remembered.err.splitlines()[0])
    compare(first, result_of(remembered))
    say(f"Run: {ran.seconds:.2f} s, remembered: {remembered.seconds:.2f} s.")

    step("The same in every container engine that works here")
    for engine in engines():
        ended = repeatr("run", "hello.formula", f"--engine={engine}", quiet=True, allow=NO_ENGINE)
        if ended.code == NO_ENGINE:
            say(f"Not here:\n{indented(ended.err)}")
        else:
            compare(first, result_of(ended))

    step("Done")
    say(
        f"All of it is in {WORK.name}/ (`make clean` removes it). Go on with README.md,\n"
        f"or change {WORK.name}/hello.formula and run it:\n\n"
        f"    cd {WORK.name}\n"
        "    export REPEATR_HOME=$PWD/home PATH=$PWD/../.venv/bin:$PATH\n"
        "    repeatr run hello.formula"
    )
    return 0


def prepare() -> None:
    """Make an empty demo-work."""
    try:
        if WORK.exists():
            shutil.rmtree(WORK)
        (WORK / "wares").mkdir(parents=True)
    except OSError as error:
        fail(f"{WORK} cannot be made anew: {error.strerror}; remove it, or make it yours")


def repeatr(*words: str, quiet: bool = False, allow: int = 0) -> Ended:
    """Run `repeatr`, and show it; `quiet` shows the command alone.

    Stops the demo if it fails, but for the exit code `allow`.
    """
    say(f"$ repeatr {' '.join(words)}")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("REPEATR_")
    }
    environment["REPEATR_HOME"] = str(HOME)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "repeatr", *words],
        cwd=WORK,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    ended = Ended(done.returncode, done.stdout, time.monotonic() - started, done.stderr)
    failed = ended.code not in (0, allow)
    shown = done.stderr + (done.stdout if words[0] == "run" else "")
    if shown and (failed or not quiet):
        say(shown.rstrip())
    if failed:
        fail(f"`repeatr {words[0]}` failed with exit code {ended.code}")
    return ended


def command(*words: str) -> None:
    """Run a program in demo-work, and show it."""
    say(f"$ {' '.join(words)}")
    subprocess.run(words, cwd=WORK, check=True)


def engines() -> list[str]:
    """The engines that Repeatr knows, best first."""
    from repeatr.engines.choosing import names

    return list(names())


def result_of(ended: Ended) -> str:
    """The WareID of the output in a run record."""
    return str(json.loads(ended.out)["results"]["/task/out"])


def compare(first: str, other: str) -> None:
    """Stop the demo where two results differ."""
    if first != other:
        fail(f"the same formula gave {first} and then {other}")
    say(f"The same result: {other}")


def step(text: str) -> None:
    """A headline."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    say(f"\n{bold}{next(NUMBERS)}. {text}{plain}")


def say(text: str) -> None:
    """Tell the reader."""
    print(text, flush=True)


def indented(text: str) -> str:
    """Text as a quotation."""
    return "".join(f"    {line}\n" for line in text.splitlines()).rstrip()


def fail(text: str) -> NoReturn:
    """End the demo as failed."""
    say(f"\ndemo: {text}")
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
