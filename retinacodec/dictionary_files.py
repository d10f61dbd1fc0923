"""Dictionaries on disk: arrays as safetensors beside a JSON file of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atoms import Dictionary
from retinacodec.card_files import CardFormat, both_files, one_line, read_both, write_both
from retinacodec.dictionaries import load_dictionary
from retinacodec.errors import InputError, Problems
from retinacodec.provenance import provenance

__all__ = ["open_dictionary", "save_dictionary"]

Array = npt.NDArray[Any]

_FORMAT = CardFormat(
    noun="dictionary",
    arrays="arrays",
    card="file of settings",
    writer="save_dictionary",
    keys={"config": dict},
    kind="dictionary",
)


def save_dictionary(found: Dictionary, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a dictionary: arrays to ``path.safetensors``, settings to ``path.json``.

    Parameters
    ----------
    found : Dictionary
        What a method found.
    path : str or Path
        Where to; ``.safetensors`` and ``.json`` take the place of these two suffixes, and follow
        any other name.
    overwrite : bool, default False
        Replace earlier files.

    Returns
    -------
    Path
        The file of the arrays.

    Raises
    ------
    InputError
        If an array is not finite or no numbers, the folder does not exist, or a file is in the
        way.

    Notes
    -----
    Both files are written under other names first. The settings hold the hash of the arrays, so
    that two files of different runs are never taken for one dictionary.
    """
    from safetensors.numpy import save

    arrays, config = found.pack()
    problems = Problems()
    for name, values in arrays.items():
        problems.require(
            _storable(name, values), f"{name} holds what is NaN, infinite or no number"
        )
    problems.raise_as("save_dictionary")
    data = save({name: np.array(values, order="C") for name, values in arrays.items()})
    record = {"config": config, "provenance": provenance()}
    return write_both(_FORMAT, path, data, record, overwrite=overwrite)


def open_dictionary(path: str | Path) -> Dictionary:
    """Open a dictionary that `save_dictionary` wrote. Nothing in the files is ever executed.

    Parameters
    ----------
    path : str or Path
        The path it was saved to, with or without one of the two suffixes.

    Returns
    -------
    Dictionary
        A dictionary with the same atoms, loadings and transform.

    Raises
    ------
    InputError
        If a file is missing, was changed or cut short, belongs to another one, or was written by
        a newer version.
    """
    from safetensors.numpy import load

    arrays, record = read_both(_FORMAT, path, load)
    card = both_files(path)[1]
    try:
        found = load_dictionary(arrays, record["config"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{card}: does not describe a dictionary: {one_line(error)}") from error
    return found


def _storable(name: str, values: Any) -> bool:
    """Return whether an array is of numbers, and finite where it has to be."""
    given = np.asarray(values)
    if given.dtype.kind not in "biuf":
        return False
    return name == "agreement" or name.startswith("log_") or bool(np.isfinite(given).all())
