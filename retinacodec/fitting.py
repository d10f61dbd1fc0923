"""What fits share: checked counts, random numbers of their own, atoms of unit norm."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.errors import Problems

__all__ = ["check_counts", "contained", "count_problems", "local_state", "unit_atoms"]

Array = npt.NDArray[Any]
_ONE_AT_A_TIME = threading.Lock()


def check_counts(method: Any, *names: str) -> None:
    """Raise one `InputError` that names every setting that is below 1."""
    count_problems(method, *names).raise_as(type(method).__name__)


def count_problems(method: Any, *names: str) -> Problems:
    """Return the settings of a method that are given and below 1, as problems."""
    problems = Problems()
    for name in names:
        value = getattr(method, name)
        problems.require(value is None or value >= 1, f"{name} must be at least 1, got {value}")
    return problems


def local_state(seed: int, start: int = 0) -> np.random.RandomState:
    """Return a source of random numbers for scikit-learn that nothing else uses."""
    return np.random.RandomState(np.random.SeedSequence([seed, start]).generate_state(4))


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Keep inside what a fit of scikit-learn does to the whole process.

    Coordinate descent draws from numpy's global random state, whatever its seed, and warns of
    every row that is a little less exact than asked for. The state is put back and the warnings
    are not shown. Only one thread at a time is let in, so that no two undo each other's care.
    """
    from sklearn.exceptions import ConvergenceWarning

    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        state = np.random.get_state()  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def unit_atoms(atoms: Array) -> npt.NDArray[np.float32]:
    """Return atoms (mode, feature) of unit norm, float32; those that are 0 stay 0."""
    norm = np.linalg.norm(np.asarray(atoms, dtype=np.float64), axis=1, keepdims=True)
    return np.asarray(np.divide(atoms, norm, out=np.zeros(atoms.shape), where=norm > 0), np.float32)
