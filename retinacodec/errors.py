"""Errors that tell a user what was expected, what came and what to do."""

from __future__ import annotations

from pathlib import Path

__all__ = ["InputError", "Problems", "RecordingError", "RetinacodecError", "printable"]


def printable(words: str) -> str:
    r"""Return words on one line without anything that a terminal would act on.

    Examples
    --------
    >>> printable("cell\x1b[31m\n7")
    'cell?[31m 7'
    """
    line = words.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


class RetinacodecError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(RetinacodecError, ValueError):
    """A call was given something it cannot use; the message is one line."""


class RecordingError(RetinacodecError):
    """A file of a recording cannot be used.

    Parameters
    ----------
    path : str or Path
        The file.
    what : str
        What is wrong with it.
    hint : str, optional
        What the user can do about it.
    """

    def __init__(self, path: str | Path, what: str, hint: str = "") -> None:
        self.path = str(path)
        self.what = what
        self.hint = hint
        super().__init__(printable(f"{self.path}: {what}" + (f"; {hint}" if hint else "")))

    def __reduce__(self) -> tuple[type[RecordingError], tuple[str, str, str]]:
        """Rebuild from all three parts, so that the error survives a process boundary."""
        return type(self), (self.path, self.what, self.hint)


class Problems:
    """A list of problems found in one object, raised together in one message.

    Examples
    --------
    >>> problems = Problems()
    >>> problems.add("no variable 'contrast'")
    >>> problems.raise_as("stimulus")
    Traceback (most recent call last):
        ...
    retinacodec.errors.InputError: stimulus: no variable 'contrast'
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.found.append(problem)

    def require(self, condition: bool, problem: str) -> bool:
        """Note the problem unless the condition holds, and return the condition."""
        if not condition:
            self.add(problem)
        return bool(condition)

    def raise_as(self, subject: str) -> None:
        """Raise one `InputError` that names every problem, or do nothing if there is none."""
        if self.found:
            raise InputError(f"{subject}: " + "; ".join(self.found))
