"""Dictionaries on disk: arrays as safetensors beside a JSON file of settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retinacodec.atomic import check_free, replacing
from retinacodec.atoms import Dictionary
from retinacodec.dictionaries import load_dictionary
from retinacodec.errors import InputError, Problems
from retinacodec.provenance import provenance

__all__ = ["open_dictionary", "save_dictionary"]

Array = npt.NDArray[Any]

_FORMAT = 1
_KIND = "dictionary"


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
    weights, card = _files(path)
    for file in (weights, card):
        check_free(file, overwrite)
    data = save({name: np.array(values, order="C") for name, values in arrays.items()})
    record = {
        "format": _FORMAT,
        "kind": _KIND,
        "config": config,
        "sha256": hashlib.sha256(data).hexdigest(),
        "provenance": provenance(),
    }
    with (
        replacing(weights, overwrite=overwrite) as arrays_file,
        replacing(card, overwrite=overwrite) as settings_file,
    ):
        arrays_file.write_bytes(data)
        settings_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return weights


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
    from safetensors import SafetensorError
    from safetensors.numpy import load

    weights, card = _files(path)
    record = _read_card(card)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(f"{weights}: the arrays cannot be read: {error.strerror}") from error
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{weights}: is not a whole safetensors file; copy it again: {_line(error)}"
        ) from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise InputError(
            f"{weights}: is not the file that {card.name} was written for; copy both again"
        )
    try:
        found = load_dictionary(arrays, record["config"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{card}: does not describe a dictionary: {_line(error)}") from error
    return found


def _storable(name: str, values: Any) -> bool:
    """Return whether an array is of numbers, and finite where it has to be."""
    given = np.asarray(values)
    if given.dtype.kind not in "biuf":
        return False
    return name == "agreement" or name.startswith("log_") or bool(np.isfinite(given).all())


def _files(path: str | Path) -> tuple[Path, Path]:
    """Return the files of arrays and settings."""
    file = Path(path)
    if file.suffix in (".safetensors", ".json"):
        file = file.with_suffix("")
    return file.with_name(f"{file.name}.safetensors"), file.with_name(f"{file.name}.json")


def _read_card(card: Path) -> dict[str, Any]:
    """Read and check the settings."""
    try:
        record = json.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{card}: no such file; save_dictionary writes it beside the arrays"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{card}: is not a JSON file of settings: {_line(error)}") from error
    problems = Problems()
    if problems.require(
        isinstance(record, dict) and record.get("kind") == _KIND,
        "expected the settings of a dictionary",
    ):
        for key, kind in {"format": int, "config": dict, "sha256": str}.items():
            fits = isinstance(record.get(key), kind)
            problems.require(fits, f"{key}: expected {kind.__name__}, got {record.get(key)!r}")
        newer = isinstance(record.get("format"), int) and record["format"] > _FORMAT
        problems.require(not newer, "was written by a newer version of the package; update it")
    problems.raise_as(str(card))
    return dict(record)


def _line(error: Exception) -> str:
    """Return what an error says, on one line."""
    return f"{type(error).__name__} {' '.join(str(error).split())}"
