"""What can go wrong, by category, and the exit code that each category is.

Every error that a user can cause is a `RepeatrError`. It says what was asked, what was
found and, in `remedy`, what to do next. The categories and their exit codes are those of
the original Repeatr and Rio, so that scripts written for them keep working.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Category(Enum):
    """An error category: its name on the wire and its process exit code."""

    exit_code: int

    def __new__(cls, name: str, exit_code: int) -> Category:  # noqa: D102
        member = object.__new__(cls)
        member._value_ = name
        member.exit_code = exit_code
        return member

    @classmethod
    def named(cls, name: str) -> Category:
        """The category whose name on the wire is `name`. Raises ValueError."""
        for category in cls:
            if category.value == name:
                return category
        raise ValueError(f"no category is called {name!r}")

    USAGE = ("repeatr-usage-error", 1)
    BUG = ("repeatr-bug", 2)
    WAREHOUSE_UNAVAILABLE = ("rio-warehouse-unavailable", 3)
    WAREHOUSE_UNWRITABLE = ("rio-warehouse-unwritable", 4)
    WARE_NOT_FOUND = ("rio-ware-not-found", 5)
    WARE_CORRUPT = ("rio-ware-corrupt", 6)
    HASH_MISMATCH = ("rio-hash-mismatch", 7)
    CANCELLED = ("rio-cancelled", 8)
    LOCAL_CACHE = ("rio-local-cache-problem", 9)
    ASSEMBLY_INVALID = ("rio-assembly-invalid", 10)
    PACK_INVALID = ("rio-pack-invalid", 11)
    INOPERABLE_PATH = ("rio-inoperable-path", 12)
    FILTER_REJECTION = ("rio-filter-rejection", 13)
    JOB_UNSUCCESSFUL = ("repeatr-job-unsuccessful", 32)
    JOB_INVALID = ("repeatr-job-invalid", 40)
    STORE = ("repeatr-local-cache-problem", 41)
    EXECUTOR = ("repeatr-executor-problem", 42)
    RPC = ("repeatr-rpc-breakdown", 120)


class RepeatrError(Exception):
    """An error with a category.

    `message` is one line: what was asked and what was found. `remedy`, where there is
    one, is what the user can do next. `details` are the facts behind the message, for
    programs (values are strings).
    """

    def __init__(
        self,
        category: Category,
        message: str,
        *,
        remedy: str = "",
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.category = category
        self.message = message
        self.remedy = remedy
        self.details = dict(details or {})

    @property
    def exit_code(self) -> int:
        """The exit code of a process that ends with this error."""
        return self.category.exit_code
