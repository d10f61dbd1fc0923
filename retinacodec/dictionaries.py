"""Decompositions with one face: fit rows, get atoms, loadings and a way to code new rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from retinacodec.atoms import Array, Coder, Decomposition, Dictionary
from retinacodec.autoencoder import AutoencoderCoder, PaperSAE, Warmup
from retinacodec.dictionary_scores import (
    fixed_size,
    held_out_r2,
    seed_stability,
    shuffled_stability,
)
from retinacodec.errors import InputError
from retinacodec.pursuit import DirectPursuit, PursuitCoder

__all__ = [
    "Coder",
    "Decomposition",
    "Dictionary",
    "DirectPursuit",
    "PaperSAE",
    "Warmup",
    "fixed_size",
    "held_out_r2",
    "load_dictionary",
    "seed_stability",
    "shuffled_stability",
]

_CODERS: dict[str, Any] = {"pursuit": PursuitCoder, "autoencoder": AutoencoderCoder}


def load_dictionary(arrays: Mapping[str, Array], config: Mapping[str, Any]) -> Dictionary:
    """Return the dictionary that `Dictionary.pack` took apart.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays, as packed.
    config : mapping
        Settings, as packed; survives JSON.

    Returns
    -------
    Dictionary
        A dictionary with the same atoms, loadings and transform.

    Raises
    ------
    InputError
        If the settings name no known coder.
    """
    settings = dict(config["coder"])
    if settings.get("kind") not in _CODERS:
        raise InputError(
            f"load_dictionary: expected a coder of {sorted(_CODERS)}, got {settings.get('kind')!r}"
        )
    coded = _part(arrays, "coder_")
    return Dictionary(
        atoms=np.asarray(arrays["atoms"]),
        loadings=np.asarray(arrays["loadings"]),
        scale=float(config["scale"]),
        method=str(config["method"]),
        seed=int(config["seed"]),
        coder=_CODERS[settings["kind"]].unpack(coded, settings),
        agreement=np.asarray(arrays["agreement"]),
        tried=int(config["tried"]),
        log=_part(arrays, "log_"),
    )


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): np.asarray(values)
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
