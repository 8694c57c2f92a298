"""Warehouses in the filesystem: `file://PATH` is one ware, `ca+file://PATH` a directory of many."""

from __future__ import annotations

import errno
import io
import os
import stat
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from repeatr.errors import Category, RepeatrError
from repeatr.model.wareid import WareID
from repeatr.warehouses.layout import absent, check_named, path_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: Bytes read ahead. Wares are read in big pieces, which pass this buffer by.
_READ_AHEAD = 256 * 1024


class FileWarehouse:
    """A ware in a file, or a directory of wares laid out by hash."""

    def __init__(self, path: str, *, by_hash: bool, url: str = "") -> None:
        self._path = path
        self._by_hash = by_hash
        self.url = url or f"{'ca+' if by_hash else ''}file://{path}"

    def open(self, ware: WareID) -> BinaryIO:
        """See `Warehouse.open`. A missing directory is an unavailable warehouse."""
        check_named(ware)
        path = f"{self._path}/{path_of(ware)}" if self._by_hash else self._path
        try:
            source = _Source(path, self.url)
        except FileNotFoundError:
            self._check_place()
            raise absent(ware, self.url, f"{path} does not exist") from None
        except IsADirectoryError:
            raise RepeatrError(
                Category.WAREHOUSE_UNAVAILABLE,
                f"{self.url} should be a ware in a file, but {path} is a directory",
                remedy=f"for a directory laid out by hash write ca+file://{self._path}",
            ) from None
        except OSError as error:
            raise _unavailable(self.url, error) from error
        return io.BufferedReader(source, _READ_AHEAD)

    def save(self) -> FileWriter:
        """See `Warehouse.save`."""
        return FileWriter(self)

    def check_save(self) -> None:
        """See `Warehouse.check_save`."""
        directory = self._check_place()
        self._check_target()
        if not os.access(directory, os.W_OK | os.X_OK):
            raise _unwritable(self.url, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def _check_place(self) -> str:
        """The directory that files go to; raises WAREHOUSE_UNAVAILABLE where it is missing."""
        directory = self._path
        if not self._by_hash:
            directory = os.path.dirname(self._target()) or "."
        try:
            if stat.S_ISDIR(os.stat(directory).st_mode):
                return directory
            found = "is not a directory"
        except FileNotFoundError:
            found = "does not exist"
        except OSError as error:
            raise _unavailable(self.url, error) from error
        raise RepeatrError(
            Category.WAREHOUSE_UNAVAILABLE,
            f"{self.url} is not there: {directory} {found}",
            remedy=f"check the path, or make it: mkdir -p {directory}",
        )

    def _target(self) -> str:
        # A link to the file stays a link: what it points to is what gets replaced.
        return os.path.realpath(self._path) if os.path.islink(self._path) else self._path

    def _check_target(self) -> None:
        """Refuse to rename over anything but a file: /dev/null, a fifo, a directory."""
        if self._by_hash:
            return
        try:
            mode = os.stat(self._target()).st_mode
        except OSError:
            return
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            remedy = "name a file"
            if stat.S_ISDIR(mode):
                remedy += f" in it, or write ca+file://{self._path}"
            raise RepeatrError(
                Category.WAREHOUSE_UNWRITABLE,
                f"{self.url} cannot take a ware: {self._path} is {what}",
                remedy=remedy,
            )


class FileWriter:
    """See `Writer`: writes to a temporary name in the warehouse's directory, then renames."""

    file: BinaryIO

    def __init__(self, warehouse: FileWarehouse) -> None:
        self._warehouse = warehouse
        self._temporary = ""
        self._directory = ""

    def __enter__(self) -> FileWriter:
        self._directory = self._warehouse._check_place()
        self._warehouse._check_target()
        name = f".repeatr-{os.getpid()}-{os.urandom(6).hex()}.tmp"
        self._temporary = os.path.join(self._directory, name)
        try:
            self.file = _Sink(self._temporary, self._warehouse.url)
        except OSError as error:
            raise _unwritable(self._warehouse.url, error) from error
        return self

    def commit(self, ware: WareID) -> None:
        """See `Writer.commit`. The bytes are on the disk before the name is."""
        house = self._warehouse
        check_named(ware)
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            if house._by_hash:
                target = os.path.join(self._directory, path_of(ware))
                os.makedirs(os.path.dirname(target), exist_ok=True)
            else:
                target = house._target()
            os.rename(self._temporary, target)
        except OSError as error:
            raise _unwritable(house.url, error) from error
        self._temporary = ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        if self._temporary:
            os.unlink(self._temporary)


class _Source(io.FileIO):
    """A file whose read errors are a warehouse's."""

    def __init__(self, path: str, url: str) -> None:
        super().__init__(path, "rb")
        self._url = url

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return super().readinto(buffer) or 0
        except OSError as error:
            raise _unavailable(self._url, error) from error


class _Sink(io.FileIO):
    """A new file whose write errors are a warehouse's, and which writes all it is given."""

    def __init__(self, path: str, url: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        super().__init__(os.open(path, flags, 0o666), "wb")
        self._url = url

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            raise _unwritable(self._url, error) from error
        return done


def _unavailable(url: str, error: OSError) -> RepeatrError:
    return RepeatrError(
        Category.WAREHOUSE_UNAVAILABLE,
        f"{url} cannot be read: {error.strerror}",
        remedy="check the path and its permissions",
    )


def _unwritable(url: str, error: OSError) -> RepeatrError:
    remedy = "check the permissions of the directory, or save somewhere else"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room there, or save somewhere else"
    return RepeatrError(
        Category.WAREHOUSE_UNWRITABLE,
        f"{url} cannot be written: {error.strerror}",
        remedy=remedy,
    )
