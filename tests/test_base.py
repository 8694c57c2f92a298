"""`repeatr base`: real programs of this host, and made ones for the rules of the search."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import callers
from callers import Caller, Repeatr
from made_elf import ARM, write_elf
from repeatr.base import collect, libraries
from repeatr.base.scripts import Shebang, read_shebang
from repeatr.errors import Category, RepeatrError
from repeatr.fileset.entry import DEFAULT_MTIME, DIRECTORY, FILE, SYMLINK, Entry

# Tests of searches made of real programs want the host's own, not a developer's.
HOST_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def collected(*programs: str | Path, path: str = HOST_PATH) -> dict[str, Entry]:
    """What `collect` answers, by absolute path."""
    found = collect([str(each) for each in programs], path)
    return {"/" + os.fsdecode(entry.path): entry for entry, _ in found}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def refused(*programs: str | Path, path: str = HOST_PATH) -> RepeatrError:
    with pytest.raises(RepeatrError) as caught:
        collected(*programs, path=path)
    return caught.value


def below(entries: dict[str, Entry], place: Path) -> dict[str, Entry]:
    """Those of `entries` that are files or links below `place`, relative to it."""
    return {
        path.removeprefix(f"{place}/"): entry
        for path, entry in entries.items()
        if path.startswith(f"{place}/") and entry.kind != DIRECTORY
    }


# Real programs.


def test_has_what_the_loader_says_it_loads() -> None:
    for program in ("sh", "ls", "git"):
        callers.need_program(program)
        entries = collected(program)
        asked = subprocess.run(
            ["ldd", next(path for path in entries if path.endswith(f"/bin/{program}"))],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": HOST_PATH},
        )
        loaded = {os.path.realpath(path) for path in re.findall(r"(/\S+) \(0x", asked.stdout)}
        libraries_here = {path for path in entries if re.search(r"/[^/]*\.so[.0-9]*$", path)}
        assert loaded
        assert {path for path in libraries_here if entries[path].kind == FILE} == loaded


def test_is_the_same_for_every_host_that_has_the_same_files() -> None:
    for path, entry in collected("sh", "ls").items():
        assert (entry.uid, entry.gid, entry.mtime, entry.mtime_ns) == (0, 0, DEFAULT_MTIME, 0)
        allowed = {DIRECTORY: (0o755, 0o1777), FILE: (0o755, 0o644), SYMLINK: (0o777,)}
        assert entry.mode in allowed[entry.kind], path


def test_links_on_the_way_come_along() -> None:
    entries = collected("/bin/sh")
    if Path("/bin").is_symlink():
        assert entries["/bin"].link == os.fsencode(os.readlink("/bin"))
    if Path("/bin/sh").is_symlink():
        shell = f"{os.path.realpath('/bin')}/sh"
        assert entries[shell].link == os.fsencode(os.readlink("/bin/sh"))
    assert entries[os.path.realpath("/bin/sh")].kind == FILE


def test_a_program_found_in_usr_is_also_reached_by_bin() -> None:
    if not Path("/bin").is_symlink():
        pytest.skip("/bin is no symlink on this host")
    assert collected("sh", path="/usr/bin")["/bin"].kind == SYMLINK


def test_a_static_program_comes_alone() -> None:
    busybox = callers.need_program("busybox")
    files = [path for path, entry in collected(busybox).items() if entry.kind == FILE]
    assert [os.path.basename(path) for path in files] == ["busybox"]


def test_tmp_is_for_everybody() -> None:
    assert collected("sh")["/tmp"].mode == 0o1777


def test_runs_in_a_root_of_its_own(shared_tmp: Path) -> None:
    me = callers.caller("root", shared_tmp)
    tool = script(me.directory / "tool", "#!/usr/bin/env sh\nls -d /usr && echo told\n")
    ware = me.repeatr("base", "sh", "ls", tool)
    assert ware.code == 0, ware.err
    root = me.directory / "root"
    source = f"--source=ca+file://{me.home}/warehouse"
    done = me.repeatr(
        "unpack", ware.out.strip(), root, source, "--placer=direct", "--filters=uid=0,gid=0"
    )
    assert done.code == 0, done.err
    done = me.call("chroot", root, "/bin/sh", "-c", "ls /")
    assert done.out.split() == sorted(each.name for each in root.iterdir()), done.err
    done = me.call("chroot", root, tool)
    assert (done.code, done.out) == (0, "/usr\ntold\n"), done.err


def test_same_id_for_everybody(shared_tmp: Path) -> None:
    told = set()
    for kind in ("root", "range") if os.geteuid() == 0 else (callers.own_kind(),):
        directory = shared_tmp / kind
        directory.mkdir()
        for _ in range(2):
            done = callers.caller(kind, directory).repeatr("base", "sh", "ls")
            assert done.code == 0, done.err
            told.add(done.out)
    assert len(told) == 1
    assert told.pop().startswith("tree:")


def test_saves_where_it_is_told(repeatr: Repeatr, myself: Caller) -> None:
    target = f"file://{myself.directory}/base.tar"
    done = repeatr("base", "sh", f"--target={target}", "--packtype=tar")
    assert done.code == 0, done.err
    assert target in done.err
    scanned = repeatr("scan", "tar", f"--source={target}")
    assert scanned.out == done.out
    assert not (myself.home / "warehouse").exists()


def test_missing_warehouse(repeatr: Repeatr, myself: Caller) -> None:
    done = repeatr("base", "sh", f"--target=ca+file://{myself.directory}/nowhere")
    assert (done.code, done.out) == (3, "")
    assert "nowhere does not exist" in done.err


def test_missing_program(repeatr: Repeatr) -> None:
    done = repeatr("base", "sh", "no-such-program")
    assert (done.code, done.out) == (1, "")
    assert "there is no program 'no-such-program' here: looked in /usr/local/sbin, " in done.err
    assert "try: install it, or name it by its path" in done.err


@pytest.mark.parametrize("kind", ["range", "single"])
def test_program_that_may_not_be_read(kind: str, shared_tmp: Path) -> None:
    me = callers.caller(kind, shared_tmp)
    tool = script(me.directory / "tool", "#!/bin/sh\n")
    os.chown(tool, me.uid, me.gid)
    tool.chmod(0o111)
    done = me.repeatr("base", tool)
    assert done.code == 12
    assert f"'{tool}' cannot be read: Permission denied" in done.err


# Scripts.


def test_a_script_brings_its_interpreter(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "#!/bin/sh -e\necho\n")
    assert os.path.realpath("/bin/sh") in collected(tool)


def test_env_brings_what_it_looks_up(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "#!/usr/bin/env -S A=1 python3 -u\n")
    made = script(tmp_path / "bin" / "python3", "#!/bin/sh\n")
    entries = collected(tool, path=f"{made.parent}:{HOST_PATH}")
    assert {str(tool), str(made), "/usr/bin/env", os.path.realpath("/bin/sh")} <= set(entries)


def test_missing_interpreter(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "#!/no/such/shell\n")
    error = refused(tool)
    assert error.category is Category.USAGE
    assert error.message == (
        f"'/no/such/shell', which '{tool}' needs, is not there: No such file or directory"
    )


def test_interpreter_missing_in_path(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "#!/usr/bin/env no-such-program\n")
    error = refused(tool)
    assert error.message == (
        f"there is no program 'no-such-program' here, which '{tool}' needs:"
        " looked in /usr/sbin, /usr/bin, /sbin, /bin"
    )


def test_scripts_that_interpret_each_other_end(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    script(one, f"#!{other}\n")
    script(other, f"#!{one}\n")
    assert set(below(collected(one), tmp_path)) == {"one", "other"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#!/bin/sh", Shebang("/bin/sh", "")),
        ("#! /bin/sh -e \r", Shebang("/bin/sh", "")),
        ("#!/usr/bin/env python3", Shebang("/usr/bin/env", "python3")),
        ("#!/usr/bin/env\tpython3 -u", Shebang("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -S python3 -u", Shebang("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -Spython3 -u", Shebang("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -i -u HOME A=b python3", Shebang("/usr/bin/env", "python3")),
        ("#!/usr/bin/env", Shebang("/usr/bin/env", "")),
        ("echo", None),
        ("", None),
    ],
)
def test_first_lines(tmp_path: Path, line: str, expected: Shebang | None) -> None:
    path = tmp_path / "script"
    path.write_text(f"{line}\nrest\n", newline="")
    assert read_shebang(str(path)) == expected


# What is no program.


def test_what_is_not_executable(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("#!/bin/sh\n")
    assert refused(path).message == f"'{path}' is not a program: it is not executable"


def test_what_is_no_program(tmp_path: Path) -> None:
    path = script(tmp_path / "notes", "words\n")
    assert "is not a program that can be read: it is not an ELF file" in refused(path).message
    path.write_bytes(b"\x7fELF" + b"\2\1\1" + b"\xff" * 200)
    assert "is not a program that can be read: " in refused(path).message
    assert "is a directory, not a program" in refused(tmp_path).message
    os.mkfifo(tmp_path / "fifo")
    assert "neither a file nor a directory" in refused(tmp_path / "fifo").message
    assert "is not there: No such file or directory" in refused(tmp_path / "nothing").message


def test_every_truncation_of_a_program_is_told(tmp_path: Path) -> None:
    whole = write_elf(tmp_path / "tool", needed=["libone.so"]).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "tool").write_bytes(whole[:size])
        assert refused(tmp_path / "tool").category is Category.USAGE


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert "Too many levels of symbolic links" in refused(tmp_path / "one").message


# The search for libraries.


def test_libraries_of_libraries_by_origin(tmp_path: Path) -> None:
    tool = write_elf(tmp_path / "bin/tool", needed=["libone.so.1"], runpath="$ORIGIN/../lib")
    write_elf(tmp_path / "lib/libone.so.1.2", needed=["libtwo.so"], runpath="${ORIGIN}/own")
    (tmp_path / "lib/libone.so.1").symlink_to("libone.so.1.2")
    write_elf(tmp_path / "lib/own/libtwo.so")
    assert set(below(collected(tool), tmp_path)) == {
        *("bin/tool", "lib/libone.so.1", "lib/libone.so.1.2", "lib/own/libtwo.so")
    }


def test_runpath_is_not_inherited(tmp_path: Path) -> None:
    tool = write_elf(tmp_path / "tool", needed=["libone.so"], runpath=str(tmp_path / "lib"))
    write_elf(tmp_path / "lib/libone.so", needed=["libtwo.so"])
    write_elf(tmp_path / "lib/libtwo.so")
    error = refused(tool)
    assert error.category is Category.USAGE
    assert error.message.startswith(
        f"there is no library 'libtwo.so' here, which '{tmp_path}/lib/libone.so' needs: looked in "
    )
    assert "/usr/lib" in error.message


def test_rpath_is_inherited(tmp_path: Path) -> None:
    tool = write_elf(tmp_path / "tool", needed=["libone.so"], rpath=str(tmp_path / "lib"))
    write_elf(tmp_path / "lib/libone.so", needed=["libtwo.so"])
    write_elf(tmp_path / "lib/libtwo.so")
    assert "lib/libtwo.so" in below(collected(tool), tmp_path)


def test_rpath_beside_a_runpath_counts_for_nothing(tmp_path: Path) -> None:
    tool = write_elf(
        tmp_path / "tool",
        needed=["libone.so"],
        rpath=str(tmp_path / "old"),
        runpath=str(tmp_path / "new"),
    )
    write_elf(tmp_path / "old/libone.so")
    assert "there is no library 'libone.so' here" in refused(tool).message
    write_elf(tmp_path / "new/libone.so")
    assert set(below(collected(tool), tmp_path)) == {"tool", "new/libone.so"}


def test_a_library_of_another_machine_is_passed_over(tmp_path: Path) -> None:
    places = f"{tmp_path}/arm:{tmp_path}/text:{tmp_path}/right"
    tool = write_elf(tmp_path / "tool", needed=["libone.so"], runpath=places)
    write_elf(tmp_path / "arm/libone.so", machine=ARM)
    script(tmp_path / "text/libone.so", "/* GNU ld script */\n")
    write_elf(tmp_path / "right/libone.so")
    assert set(below(collected(tool), tmp_path)) == {"tool", "right/libone.so"}


def test_a_library_that_is_loaded_is_not_searched_again(tmp_path: Path) -> None:
    tool = write_elf(
        tmp_path / "tool", needed=[str(tmp_path / "one.so"), "liba.so"], runpath=str(tmp_path)
    )
    write_elf(tmp_path / "one.so", soname="libone.so.1")
    write_elf(tmp_path / "liba.so", needed=["libone.so.1"])
    assert set(below(collected(tool), tmp_path)) == {"tool", "one.so", "liba.so"}


def test_places_that_depend_on_the_current_directory_count_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = write_elf(tmp_path / "tool", needed=["libone.so"], runpath=":lib:$UNKNOWN/lib")
    write_elf(tmp_path / "lib/libone.so")
    monkeypatch.chdir(tmp_path)
    assert "there is no library" in refused(tool).message


def test_the_environment_of_the_caller_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = write_elf(tmp_path / "tool", needed=["libone.so"])
    write_elf(tmp_path / "lib/libone.so")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    assert "there is no library" in refused(tool).message


def test_a_missing_loader_is_told(tmp_path: Path) -> None:
    tool = write_elf(tmp_path / "tool", interpreter="/lib/ld-none.so.9")
    assert refused(tool).message == (
        f"'/lib/ld-none.so.9', which '{tool}' needs, is not there: No such file or directory"
    )


def test_a_library_of_a_configured_place_is_linked_beside_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the loader has no /etc/ld.so.cache to tell it of that place."""
    loader = write_elf(tmp_path / "usr/lib/own/ld.so")
    (tmp_path / "lib").symlink_to("usr/lib")
    tool = write_elf(
        tmp_path / "tool", interpreter=f"{tmp_path}/lib/own/ld.so", needed=["libone.so", "libc.so"]
    )
    write_elf(tmp_path / "local/libone.so")
    write_elf(tmp_path / "usr/lib/own/libc.so")
    configuration = tmp_path / "ld.so.conf"
    configuration.write_text(f"# places\n{tmp_path}/local\n{tmp_path}/lib/own\n")
    places = libraries.system_places(str(loader), str(configuration))
    monkeypatch.setattr(libraries, "system_places", lambda _loader: places)
    found = below(collected(tool), tmp_path)
    assert found.pop("usr/lib/own/libone.so").link == os.fsencode(tmp_path / "local/libone.so")
    assert set(found) == {
        *("lib", "tool", "local/libone.so", "usr/lib/own/libc.so", "usr/lib/own/ld.so")
    }


def test_configuration_includes_more(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/2.conf").write_text("/two # comment\n")
    (tmp_path / "conf.d/1.conf").write_text("hwcap 0 nosegneg\n/one=libc6\nrelative\n")
    (tmp_path / "ld.so.conf").write_text("/first\ninclude conf.d/*.conf nowhere\n/last\n")
    places = libraries.system_places("/lib64/ld-linux-x86-64.so.2", str(tmp_path / "ld.so.conf"))
    assert places.configured == ("/first", "/one", "/two", "/last")
    assert {"/lib", "/usr/lib"} <= set(places.built_in)


def test_configuration_that_includes_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "ld.so.conf").write_text("/first\ninclude ld.so.conf\n")
    places = libraries.system_places("/lib/ld.so", str(tmp_path / "ld.so.conf"))
    assert set(places.configured) == {"/first"}


def test_places_of_musl() -> None:
    assert "/lib" in libraries.system_places("/lib/ld-musl-none.so.1").built_in
    assert libraries.system_places("/lib/ld-musl-none.so.1").configured == ()
