"""A progress bar on the terminal, for work that takes long enough to ask."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NoReturn

from repeatr.model.events import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

#: Work shorter than this, in seconds, shows no bar.
_DELAY = 0.5
#: One bar at a time: another kind of work takes it over when it was quiet for this long.
_QUIET = 0.5


class ProgressBar:
    """Shows one bar at the bottom of the terminal. Not for several threads at once."""

    def __init__(self) -> None:
        self._what = ""
        self._since = 0.0
        self._last = 0.0
        self._bar: tqdm[NoReturn] | None = None

    def update(self, event: Progress) -> None:
        """Show how far work is."""
        now = time.monotonic()
        if event.what != self._what:
            if self._what and now - self._last < _QUIET:
                return
            self.close()
            self._what, self._since = event.what, now
        self._last = now
        if event.total is not None and event.done >= event.total:
            self.close()
            return
        if self._bar is None:
            if now - self._since < _DELAY:
                return
            self._bar = _new_bar(event)
        self._bar.update(event.done - self._bar.n)

    def hide(self) -> None:
        """Make room for a line of text; the next update shows the bar again."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
        self._what = ""


def _new_bar(event: Progress) -> tqdm[NoReturn]:
    from tqdm import tqdm

    # Its monitor is a thread, and entering namespaces and forking want none.
    tqdm.monitor_interval = 0
    what = event.what if len(event.what) <= 40 else event.what[:39] + "…"
    return tqdm(
        desc=what,
        total=event.total,
        initial=event.done,  # the rate is counted from here
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
    )
