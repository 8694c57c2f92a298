"""Tar archives as others write them, and as nobody should."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from pathlib import Path

import pytest

from callers import need_program
from repeatr.errors import Category, RepeatrError
from repeatr.model.events import Event, Level, Log, ignore
from repeatr.wares.tar_fields import decimal, number, parse_records, pax_time, text_of_time
from repeatr.wares.tar_reader import HEADER_LIMIT, SMALL, read_tar
from tar_archives import (
    END,
    contents,
    entries,
    file,
    gnu_tar,
    header,
    padded,
    pax,
    record,
    small_pieces,
    whole,
)

GNU = b"ustar  \0"
V7 = bytes(8)


def refused(data: bytes, match: str | None = None) -> None:
    with pytest.raises(RepeatrError, match=match) as caught:
        contents(data + END)
    assert caught.value.category is Category.WARE_CORRUPT
    assert "\n" not in caught.value.message


# What the fields say


def test_an_entry_has_what_its_header_says() -> None:
    data = header(
        b"./x/y",
        mode=b"0104755\0",
        uid=b"0001750\0",
        gid=b"   144 \0",
        size=5,
        mtime=b"00000000017 ",
    )
    ((entry, content),) = contents(data + padded(b"hello") + END)
    assert entry.path == b"x/y"
    assert (entry.kind, entry.mode, entry.uid, entry.gid) == ("f", 0o4755, 1000, 100)
    assert (entry.mtime, entry.mtime_ns, entry.size) == (15, 0, 5)
    assert content == b"hello"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"  644  \0", 0o644),
        (b"644\0 junk", 0o644),
        (bytes(8), 0),
        (b"        ", 0),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff" * 8, -1),
        (b"\xff" * 11 + b"\xfe", -2),
        (b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7, 2**63 - 1),
        (b"\xff" * 4 + b"\x80" + bytes(7), -(2**63)),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert number(field) == value


@pytest.mark.parametrize(
    "field", [b"0000648\0", b"-0000644", b"0x1\0", b"6_4\0", b"\x80" + b"\xff" * 11, b"+4\0"]
)
def test_bad_numbers(field: bytes) -> None:
    with pytest.raises(RepeatrError):
        number(field)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"1.5", (1, 500_000_000)),
        (b"-1.5", (-2, 500_000_000)),
        (b"-0.5", (-1, 500_000_000)),
        (b"-1", (-1, 0)),
        (b"-1.000000000", (-1, 0)),
        (b"7.", (7, 0)),
        (b"7.12345678999", (7, 123_456_789)),
        (b"-7.12345678999", (-8, 876_543_211)),
    ],
)
def test_times(text: bytes, time: tuple[int, int]) -> None:
    assert pax_time(text) == time
    assert pax_time(text_of_time(*time)) == time


@pytest.mark.parametrize(
    "value", [b"", b"x", b"1.x", b".5", b"1e3", b"99999999999999999999", b"+1"]
)
def test_bad_times(value: bytes) -> None:
    with pytest.raises(RepeatrError):
        pax_time(value)
    with pytest.raises(RepeatrError):
        decimal(value)


def test_owners_wrap_at_32_bits() -> None:
    found = entries(
        header(b"a", uid=b"\xff" * 8, gid=b"\x80\0\0\x01\0\0\0\x05")
        + pax((b"uid", b"-1"), (b"gid", b"4294967297"))
        + header(b"b")
        + END
    )
    assert (found[b"a"].uid, found[b"a"].gid) == (2**32 - 1, 5)
    assert (found[b"b"].uid, found[b"b"].gid) == (2**32 - 1, 1)


def test_signed_checksums_are_taken() -> None:
    block = header(b"\xe9\xff", checksum=0)
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + b" " * 8 + block[156:])
    assert b"\xe9\xff" in entries(header(b"\xe9\xff", checksum=signed) + END)
    refused(header(b"\xe9\xff", checksum=signed + 1), "checksum")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"),
        (b"./a", b"a"),
        (b".//a", b"a"),
        (b"././a", b"a"),
        (b"a/../b", b"b"),
        (b"a//b/./c", b"a/b/c"),
        (b"..foo", b"..foo"),
        (b"./..foo/...", b"..foo/..."),
        (b".", b""),
        (b"./", b""),
        (b"a/..", b""),
        (b"./.hidden", b".hidden"),
        (b"\xe9\x01\x7f", b"\xe9\x01\x7f"),
        (b"n" * 100, b"n" * 100),
    ],
)
def test_names(name: bytes, path: bytes) -> None:
    assert list(entries(header(name) + END)) == [path]
    assert list(entries(header(name, flag=b"5") + END)) == [path]


@pytest.mark.parametrize(
    "name",
    [b"", b"/", b"/a", b"//a", b"..", b"../a", b"a/../../b", b"./../a", b".//..", b"../", b"./.."],
)
@pytest.mark.parametrize("flag", [b"0", b"5", b"2"])
def test_names_that_leave_the_root(name: bytes, flag: bytes) -> None:
    refused(header(name, flag=flag, link=b"x"))
    refused(pax((b"path", name or b"/")) + header(b"a", flag=flag, link=b"x"))


def test_a_prefix_is_ustars_only() -> None:
    assert list(entries(header(b"name", tail=b"some/where") + END)) == [b"some/where/name"]
    assert list(entries(header(b"name", tail=b"x", magic=GNU) + END)) == [b"name"]
    assert list(entries(header(b"name", tail=b"x", magic=V7) + END)) == [b"name"]
    star = b"p" * 131 + b"00000000000 00000000000 ".ljust(32, b"\0") + b"tar\0"
    assert list(entries(header(b"name", tail=star) + END)) == [b"p" * 131 + b"/name"]


def test_kinds() -> None:
    data = (
        header(b"d/", flag=b"5")
        + header(b"old/", flag=b"\0")
        + header(b"old", flag=b"\0")
        + header(b"file/", flag=b"0")
        + header(b"l", flag=b"2", link=b"/etc/passwd", size=700)
        + header(b"c", flag=b"3", major=b"0000001\0", minor=b"0000003\0")
        + header(b"b", flag=b"4", major=b"0000010\0", magic=GNU)
        + header(b"v7", flag=b"3", major=b"0000010\0", magic=V7)
        + header(b"p", flag=b"6", link=b"kept")
    )
    found = [(e.path, e.kind, e.link, e.major, e.minor, c) for e, c in contents(data + END)]
    assert found == [
        (b"d", "d", b"", 0, 0, None),
        (b"old", "d", b"", 0, 0, None),
        (b"old", "f", b"", 0, 0, b""),
        (b"file", "f", b"", 0, 0, b""),
        (b"l", "L", b"/etc/passwd", 0, 0, None),
        (b"c", "c", b"", 1, 3, None),
        (b"b", "D", b"", 8, 0, None),
        (b"v7", "c", b"", 0, 0, None),
        (b"p", "p", b"kept", 0, 0, None),
    ]


@pytest.mark.parametrize("flag", [b"7", b"X", b"D", b"M", b"V", b"9", b"A", b"\xff"])
def test_unknown_kinds(flag: bytes) -> None:
    refused(header(b"a", flag=flag), "not a known tar entry type")


def test_hard_links_name_their_target() -> None:
    (_, link) = contents(file(b"a", b"x") + header(b"b", flag=b"1", link=b"./a", size=1) + END)
    assert link[1] == b"=> a"
    refused(header(b"b", flag=b"1", link=b"../a"), "outside of the fileset")
    refused(header(b"b", flag=b"1", link=b"/a"), "outside of the fileset")
    refused(header(b"b", flag=b"1"), "outside of the fileset")


def test_a_directory_with_data_is_corrupt() -> None:
    refused(header(b"d", flag=b"5", size=4) + padded(b"data"), "no tar header")
    refused(header(b"d/", flag=b"\0", size=4) + padded(b"data"), "no tar header")
    assert list(entries(header(b"d", flag=b"5", size=4) + header(b"a") + END)) == [b"d", b"a"]


def test_a_symlink_to_nothing_is_corrupt() -> None:
    refused(header(b"l", flag=b"2"), "points to nothing")


# Extended headers


def test_pax_overrides() -> None:
    data = pax(
        (b"path", b"p" * 300),
        (b"linkpath", b"l" * 300),
        (b"size", b"3"),
        (b"uid", b"70000"),
        (b"gid", b"70001"),
        (b"mtime", b"-1.5"),
        (b"atime", b"junk"),
        (b"ctime", b""),
        (b"comment", b"a\nb=c"),
    ) + header(b"short", size=1, link=b"x")
    ((entry, content),) = contents(data + padded(b"abc") + END)
    assert entry.path == b"p" * 300
    assert entry.link == b"l" * 300
    assert (entry.uid, entry.gid, entry.size, content) == (70000, 70001, 3, b"abc")
    assert (entry.mtime, entry.mtime_ns) == (-2, 500_000_000)


def test_pax_empty_values_count_as_absent_and_the_last_one_counts() -> None:
    found = entries(
        pax((b"path", b"x"), (b"path", b""), (b"uid", b"1"), (b"uid", b"2"), (b"mtime", b""))
        + header(b"a", mtime=b"5")
        + END
    )
    assert found[b"a"].uid == 2
    assert found[b"a"].mtime == 5


def test_pax_holds_for_one_entry() -> None:
    found = entries(pax((b"uid", b"9")) + header(b"a") + header(b"b") + END)
    assert (found[b"a"].uid, found[b"b"].uid) == (9, 0)


def test_xattrs_as_the_original_reads_them_and_exactly() -> None:
    data = (
        pax(
            (b"SCHILY.xattr.user.b%3Dc%25", b"2\n\0"),
            (b"SCHILY.xattr.user.a", b"1"),
            (b"SCHILY.xattr.user.empty", b""),
        )
        + header(b"a")
        + END
    )
    assert entries(data)[b"a"].xattrs == ((b"user.a", b"1"), (b"user.b%3Dc%25", b"2\n\0"))
    assert entries(data, exact=True)[b"a"].xattrs == (
        (b"user.a", b"1"),
        (b"user.b=c%", b"2\n\0"),
        (b"user.empty", b""),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"12345678901 path=a\n",
        b"0 \n",
        b"6 a=b ",
        b"99 a=b\n",
        b"6 ab=\n\n",
        b"5 =b\n",
        b" 6 a=b\n",
        b"-6 a=b\n",
        b"+6 a=b\n",
        b"6 a=b\n\0",
        b"10 pa\0h=a\n",
        b"11 path=a\0\n",
        b"1 a=b\n",
        b"3 =\n",
        record(b"GNU.sparse.offset", b"0"),
        record(b"GNU.sparse.numbytes", b"0") + record(b"GNU.sparse.offset", b"0"),
    ],
)
def test_malformed_records(data: bytes) -> None:
    with pytest.raises(RepeatrError):
        parse_records(data)
    for flag in (b"x", b"g"):
        refused(header(b"pax", flag=flag, size=len(data)) + padded(data) + header(b"a"))


def test_global_headers_are_skipped_with_a_warning() -> None:
    told: list[Event] = []
    data = pax((b"mtime", b"1"), flag=b"g") + header(b"a", mtime=b"5") + END
    assert entries(data, told.append)[b"a"].mtime == 5
    (event,) = told
    assert isinstance(event, Log)
    assert event.level is Level.WARN
    assert event.msg == "unpacking: skipping an entry: tar type 'g' header entries ignored"


def test_gnu_long_names() -> None:
    name, link = b"n" * 200 + b"/", b"k" * 600
    data = (
        header(b"././@LongLink", flag=b"L", size=202, magic=GNU)
        + padded(name + b"\0")
        + header(b"././@LongLink", flag=b"K", size=601, magic=GNU)
        + padded(link + b"\0")
        + header(b"nnn", flag=b"2", link=b"kkk", magic=GNU)
    )
    found = entries(data + END)
    assert found[b"n" * 200].link == link


def test_an_extended_header_of_nothing_is_corrupt() -> None:
    refused(header(b"a") + pax((b"uid", b"1")), "after an extended header")
    with pytest.raises(RepeatrError):
        contents(pax((b"uid", b"1")))


@pytest.mark.parametrize("flag", [b"x", b"g", b"L", b"K"])
def test_extended_headers_are_bounded(flag: bytes) -> None:
    refused(header(b"a", flag=flag, size=HEADER_LIMIT + 1), "too big")
    refused(header(b"a", flag=flag, size=b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7), "too big")


# The end of an archive


def test_no_bytes_and_only_zeros() -> None:
    with pytest.raises(RepeatrError):
        contents(b"")
    assert contents(bytes(512)) == []
    assert contents(END * 10) == []
    with pytest.raises(RepeatrError):
        contents(bytes(100))


def test_what_follows_the_end_is_ignored() -> None:
    assert list(entries(header(b"a") + bytes(512) + header(b"b") + b"junk")) == [b"a"]
    assert list(entries(header(b"a"))) == [b"a"]


def test_sizes_that_lie_are_corrupt_at_once() -> None:
    for size in (b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7, b"77777777777\0", b"00004000000\0"):
        refused(header(b"a", size=size) + b"x" * 2000, "ends in the middle")
        refused(header(b"a", flag=b"S", size=size, magic=GNU) + b"x" * 2000)
    refused(header(b"a", size=b"\xff" * 12), "negative size")
    refused(pax((b"size", b"-1")) + header(b"a"), "negative size")
    refused(pax((b"size", b"9999999999999999999")) + header(b"a"))


def test_every_truncation_is_corrupt_or_a_shorter_archive() -> None:
    data = (
        header(b"./", flag=b"5")
        + file(b"./a", b"x" * 700)
        + pax((b"path", b"./p"))
        + file(b"./b", b"y" * 512)
    )
    # Offsets where a whole number of entries has gone by.
    ends = {512: 1, 512 + 512 + 1024: 2, len(data): 3}
    for cut in itertools.chain(range(1, len(data), 31), range(0, len(data) + 1, 512), ends):
        if cut in ends:
            assert len(contents(data[:cut])) == ends[cut]
        else:
            with pytest.raises(RepeatrError) as caught:
                contents(data[:cut])
            assert caught.value.category is Category.WARE_CORRUPT


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4096])
def test_pieces_may_be_of_any_size(size: int) -> None:
    data = file(b"a", b"x" * 5000) + pax((b"uid", b"5")) + file(b"b", b"y" * 512) + END
    found = [(e.path, e.uid, whole(c)) for e, c in read_tar(small_pieces(data, size), ignore)]
    assert found == [(b"a", 0, b"x" * 5000), (b"b", 5, b"y" * 512)]


def test_large_files_are_streams_which_may_be_left_unread() -> None:
    big = os.urandom(SMALL + 700)
    data = file(b"big", big) + file(b"small", b"x") + END
    for take in (0, 1, 10_000):
        seen = []
        for entry, content in read_tar(small_pieces(data, 70_000), ignore):
            seen.append(entry.path)
            if entry.path == b"big":
                assert not isinstance(content, bytes | None)
                list(itertools.islice(content, take))
        assert seen == [b"big", b"small"]
    assert contents(data)[0][1] == big
    with pytest.raises(RepeatrError, match="ends in the middle"):
        contents(data[: SMALL - 5])


# Sparse files

SPARSE = [(0, b"hello"), (4096, b"x" * 600), (9000, b"end")]
SPARSE_SIZE = 10_000
SPARSE_WHOLE = (
    b"hello".ljust(4096, b"\0") + (b"x" * 600).ljust(9000 - 4096, b"\0") + b"end"
).ljust(SPARSE_SIZE, b"\0")
SPARSE_DATA = b"".join(data for _, data in SPARSE)


def sparse_1_0(text: bytes, size: int, data: bytes, name: bytes = b"s") -> bytes:
    return (
        pax(
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.realsize", b"%d" % size),
        )
        + header(b"GNUSparseFile.0/s", size=len(padded(text)) + len(data))
        + padded(text)
        + padded(data)
    )


def sparse_0_1(numbers: bytes, size: int, data: bytes, count: bytes = b"") -> bytes:
    return (
        pax(
            (b"GNU.sparse.size", b"%d" % size),
            (b"GNU.sparse.numblocks", count),
            (b"GNU.sparse.name", b"s"),
            (b"GNU.sparse.map", numbers),
        )
        + header(b"GNUSparseFile.0/s", size=len(data))
        + padded(data)
    )


def sparse_s(parts: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    fields = [b"%011o\0%011o\0" % part for part in parts]
    extensions = [fields[start : start + 21] for start in range(4, len(fields), 21)]
    tail = bytes(41) + b"".join(fields[:4]).ljust(96, b"\0") + bytes([bool(extensions)])
    blocks = header(b"s", flag=b"S", magic=GNU, size=len(data), tail=tail + b"%011o\0" % size)
    for number_, extension in enumerate(extensions):
        more = number_ + 1 < len(extensions)
        blocks += (b"".join(extension).ljust(504, b"\0") + bytes([more])).ljust(512, b"\0")
    return blocks + padded(data)


PARTS = [(offset, len(data)) for offset, data in SPARSE]
FLAT_PARTS = b",".join(b"%d,%d" % part for part in PARTS)


def test_sparse_files_in_all_four_formats() -> None:
    lines = b"3\n" + b"".join(b"%d\n%d\n" % part for part in PARTS)
    records = [(b"GNU.sparse.size", b"%d" % SPARSE_SIZE), (b"GNU.sparse.numblocks", b"3")]
    for offset, length in PARTS:
        records.append((b"GNU.sparse.offset", b"%d" % offset))
        records.append((b"GNU.sparse.numbytes", b"%d" % length))
    archives = [
        sparse_1_0(lines, SPARSE_SIZE, SPARSE_DATA),
        sparse_0_1(FLAT_PARTS, SPARSE_SIZE, SPARSE_DATA, b"3"),
        pax(*records) + header(b"s", size=len(SPARSE_DATA)) + padded(SPARSE_DATA),
        sparse_s(PARTS, SPARSE_SIZE, SPARSE_DATA),
    ]
    for archive in archives:
        found = contents(archive + file(b"next", b"n") + END)
        assert [(e.path, e.kind, e.size, c) for e, c in found] == [
            (b"s", "f", SPARSE_SIZE, SPARSE_WHOLE),
            (b"next", "f", 1, b"n"),
        ]


def test_old_sparse_maps_go_on_in_further_blocks() -> None:
    parts = [(n * 1000, 3) for n in range(70)]
    found = contents(sparse_s(parts, 100_000, b"abc" * 70) + file(b"next", b"n") + END)
    expected = bytearray(100_000)
    for n in range(70):
        expected[n * 1000 : n * 1000 + 3] = b"abc"
    assert found[0][1] == bytes(expected)
    assert found[1][1] == b"n"


def test_large_sparse_files_are_streams() -> None:
    size = 3 * SMALL
    archive = sparse_0_1(b"5,3,%d,1" % (size - 1), size, b"abcd")
    (found,) = contents(archive + END)
    assert found[1] == b"\0" * 5 + b"abc" + bytes(size - 9) + b"d"
    assert found[0].size == size


@pytest.mark.parametrize(
    "archive",
    [
        sparse_0_1(b"0,5,3,5", 100, b"x" * 10),  # overlap
        sparse_0_1(b"10,5,0,5", 100, b"x" * 10),  # out of order
        sparse_0_1(b"0,5", 4, b"x" * 5),  # past the end
        sparse_0_1(b"0,5", 100, b"x" * 4),  # more than is stored
        sparse_0_1(b"0,5", 100, b"x" * 6),  # less than is stored
        sparse_0_1(b"0,5,", 100, b"x" * 5),
        sparse_0_1(b"0", 100, b""),
        sparse_0_1(b"-1,5", 100, b"x" * 5),
        sparse_0_1(b"5,-5", 100, b""),
        sparse_0_1(b"0,5", -1, b"x" * 5),
        sparse_0_1(b"0,5", 1 << 50, b"x" * 5),
        sparse_0_1(b"0,5", 100, b"x" * 5, b"2"),
        sparse_0_1(b"9223372036854775807,9223372036854775807", 100, b"x" * 5),
        sparse_1_0(b"1\n0\n", 100, b""),
        sparse_1_0(b"99999999999999\n0\n1\n", 100, b"x"),
        sparse_1_0(b"-1\n", 100, b""),
        sparse_1_0(b"\n", 100, b""),
        sparse_1_0(b"x\n", 100, b""),
        sparse_1_0(b"1" * 2000, 100, b""),
        sparse_1_0(b"", 100, b""),
        sparse_1_0(b"1\n0\n5\n", 100, b"x" * 4),
        sparse_1_0(b"1\n0\n1\n", 100, b"x", name=b"../s"),
        sparse_s([(0, 5), (3, 5)], 100, b"x" * 10),
        sparse_s([(0, 5)], 4, b"x" * 5),
        sparse_s([(0, 5)], 100, b"x" * 6),
        sparse_s([(n, 1) for n in range(30)], 30, b"x" * 30)[:1024],
        pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + header(b"a"),
    ],
)
def test_sparse_maps_that_lie(archive: bytes) -> None:
    refused(archive)


# What others write


def tree(directory: Path) -> None:
    (directory / "sub").mkdir()
    (directory / "sub" / "file").write_bytes(b"content")
    (directory / "empty").write_bytes(b"")
    (directory / "big").write_bytes(b"0123456789" * 150_000)
    (directory / "link").symlink_to("sub/file")
    os.link(directory / "sub" / "file", directory / "sub" / "hard")
    os.mkfifo(directory / "fifo")
    os.utime(directory / "empty", ns=(0, 1_500_000_000))


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("compression", ["", "--gzip", "--bzip2", "--xz", "--zstd"])
def test_what_gnu_tar_writes(tmp_path: Path, form: str, compression: str) -> None:
    need_program(compression.lstrip("-") or "tar")
    tree(tmp_path)
    if form not in ("v7", "ustar"):
        deep = tmp_path / ("d" * 120) / ("e" * 120)
        deep.mkdir(parents=True)
        (deep / ("f" * 120)).symlink_to("t" * 200)
    options = [f"--format={form}", "--sort=name", *([compression] if compression else [])]
    if form == "v7":
        options.append("--exclude=./fifo")
    found = {e.path: (e, c) for e, c in contents(gnu_tar(tmp_path, *options))}
    assert found[b"big"][1] == b"0123456789" * 150_000
    assert found[b"sub/file"][1] == b"content"
    assert found[b"sub/hard"][1] == b"=> sub/file"
    assert found[b"link"][0].link == b"sub/file"
    assert found[b"sub"][0].kind == found[b""][0].kind == "d"
    assert found[b"empty"][0].uid == os.getuid()
    assert found[b"empty"][0].mtime == 1
    assert found[b"empty"][0].mtime_ns == (500_000_000 if form == "posix" else 0)
    if form != "v7":
        assert found[b"fifo"][0].kind == "p"
    if form not in ("v7", "ustar"):
        path = b"/".join([b"d" * 120, b"e" * 120, b"f" * 120])
        assert found[path][0].link == b"t" * 200


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_what_gnu_tar_writes_of_sparse_files(tmp_path: Path, options: list[str]) -> None:
    with open(tmp_path / "sparse", "wb") as out:
        for n in range(40):
            out.seek(n * 65536)
            out.write(b"data %d" % n)
        out.truncate(64 * 65536 + 17)
    archive = gnu_tar(tmp_path, "--sparse", "--hole-detection=raw", *options)
    assert len(archive) < 1_000_000
    found = {e.path: c for e, c in contents(archive)}
    assert found[b"sparse"] == (tmp_path / "sparse").read_bytes()


def test_numbers_too_big_for_octal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.utime(tmp_path / "a", (0, -1000))
    for form in ("gnu", "posix"):
        archive = gnu_tar(
            tmp_path, f"--format={form}", "--owner=x:4000000000", "--group=y:3000000000"
        )
        found = entries(archive)[b"a"]
        assert (found.uid, found.gid, found.mtime) == (4_000_000_000, 3_000_000_000, -1000)


# Anything at all


def test_random_changes_of_archives_never_panic() -> None:
    rng = random.Random(11)
    base = (
        header(b"./", flag=b"5")
        + file(b"./a", b"x" * 700)
        + pax((b"path", b"./p"), (b"mtime", b"-1.5"), (b"SCHILY.xattr.user.a", b"b"))
        + file(b"./b", b"y" * 512)
        + sparse_1_0(b"1\n0\n5\n", 100, b"x" * 5)
        + sparse_s(PARTS, SPARSE_SIZE, SPARSE_DATA)
        + header(b"l", flag=b"2", link=b"a")
        + header(b"h", flag=b"1", link=b"a")
        + END
    )
    outcomes = {True: 0, False: 0}
    for _ in range(3000):
        data = bytearray(base)
        for _ in range(rng.randint(1, 3)):
            block = rng.randrange(len(data) // 512) * 512
            at = block + rng.choice([rng.randrange(512), rng.randrange(100, 160)])
            data[at] = rng.choice([0, 0x20, 0x2D, 0x30, 0x37, 0x39, 0x80, 0xFF, rng.randrange(256)])
            # Mend the checksum, or hardly anything would get past it.
            if rng.random() < 0.9:
                head = data[block : block + 148] + b" " * 8 + data[block + 156 : block + 512]
                data[block + 148 : block + 156] = b"%06o\0 " % sum(head)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            contents(bytes(data))
            outcomes[True] += 1
        except RepeatrError as error:
            assert error.category is Category.WARE_CORRUPT, error
            outcomes[False] += 1
    assert min(outcomes.values()) > 100


def test_gnu_tar_is_there_to_compare_with() -> None:
    assert b"GNU tar" in subprocess.run(["tar", "--version"], capture_output=True).stdout
