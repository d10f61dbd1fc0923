"""What is found out about a file while it is gone through: errors, warnings and notes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from retinacodec.errors import InputError, RecordingError, printable
from retinacodec.hdf5_safety import explained

__all__ = ["Finding", "Findings", "Level"]

Level = Literal["error", "warning", "note"]
Result = TypeVar("Result")

_PACKAGE = "retinacodec"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing about a file.

    Parameters
    ----------
    level : {"error", "warning", "note"}
        An error stops the readers of this package; a warning is read in a way that should be
        known; a note is worth knowing.
    place : str
        Where in the file.
    what : str
        What was found, in one line.
    hint : str
        What can be done about it; may be empty.
    """

    level: Level
    place: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """Return the finding as one line."""
        words = f"{self.what}; {self.hint}" if self.hint else self.what
        return printable(f"{self.level}: {self.place}: {words}")


class Findings:
    """Findings while a file is gone through, without stopping at the first.

    Parameters
    ----------
    path : str
        The file, whose name the messages leave out.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: dict[Finding, None] = {}

    def __iter__(self) -> Iterator[Finding]:
        """Yield what was found, each once, errors first."""
        order = ("error", "warning", "note")
        yield from sorted(self._found, key=lambda finding: order.index(finding.level))

    def add(self, level: Level, place: str, what: str, hint: str = "") -> None:
        """Note something."""
        self._found[Finding(level, place, what, hint)] = None

    def attempt(
        self, place: str, action: Callable[[], Result], level: Level = "error"
    ) -> Result | None:
        """Return what an action returns; note why it cannot, and what it logs, and go on.

        Parameters
        ----------
        place : str
            Where in the file it looks.
        action : callable () -> object
            What to do: a reader of this package.
        level : {"error", "warning", "note"}, default "error"
            How bad a failure is.

        Returns
        -------
        object or None
            The result, None where the action failed.
        """
        with self._listening(place):
            try:
                return action()
            except RecordingError as error:
                self.add(level, place, error.what, error.hint)
            except InputError as error:
                self.add(level, place, str(error))
            except MemoryError:
                self.add(level, place, "does not fit into memory")
            except Exception as error:  # the library has no end of errors for damaged files
                self.add(level, place, *explained(error))
        return None

    @contextmanager
    def _listening(self, place: str) -> Iterator[None]:
        """Turn the notices of readers in this thread into warnings."""
        handler = _Listener(lambda words: self.add("warning", place, words), self._path)
        logger = logging.getLogger(_PACKAGE)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Listener(logging.Handler):
    """A handler that hands on the notices of one thread and marks them as heard."""

    def __init__(self, tell: Callable[[str], None], path: str) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._path, self._thread = tell, path, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a notice, without the name of the file."""
        if record.thread == self._thread:
            record.heard = True
            self._tell(record.getMessage().removeprefix(f"{self._path}: "))
