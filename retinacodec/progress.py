"""Progress of long computations: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["track"]

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


def track(
    items: Iterable[_Item], description: str, *, total: int | None = None, enabled: bool = True
) -> Iterator[_Item]:
    """Yield the items and show how far the loop has come.

    Parameters
    ----------
    items : iterable
        What is worked through.
    description : str
        The words beside the bar.
    total : int, optional
        Number of items, where ``len(items)`` is not known.
    enabled : bool, default True
        Yield silently when False.

    Yields
    ------
    object
        The items, in their order.
    """
    if not enabled:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description, total=total, console=Console(stderr=True))
        return
    yield from _plain(items, description, total)


def _plain(items: Iterable[_Item], description: str, total: int | None) -> Iterator[_Item]:
    """Log a line every ten seconds, and one at the end of a loop longer than two."""
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > 10:
            share = f"{done}/{total}" if total else str(done)
            _log.info("%s: %s, %.0f s", description, share, now - start)
            last = now
    if time.monotonic() - start > 2:
        _log.info("%s: done, %.0f s", description, time.monotonic() - start)
