"""Decompositions with one face: fit rows, get atoms, loadings and a way to code new rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from retinacodec.atoms import Array, Coder, Decomposition, Dictionary
from retinacodec.autoencoder import AutoencoderCoder, PaperSAE, Warmup
from retinacodec.codebooks import CodebookCoder, KMeans
from retinacodec.components import ICA, PCA, LinearCoder
from retinacodec.dictionary_learning import DictionaryLearning
from retinacodec.dictionary_scores import (
    fixed_size,
    held_out_r2,
    seed_stability,
    shuffled_stability,
)
from retinacodec.distillation import UnrolledCoder, distil
from retinacodec.errors import InputError
from retinacodec.factorisations import NMF
from retinacodec.matching_autoencoder import MatchingPursuitSAE
from retinacodec.nonnegative_coding import NonnegativeCoder
from retinacodec.pursuit import DirectPursuit, PursuitCoder
from retinacodec.row_splits import RandomRows, RowSplit, TimeBlocks
from retinacodec.scaling import BalancedRows, OneScale, Scale, Scaling, unpack_scale
from retinacodec.semi_nmf import SemiNMF
from retinacodec.sparse_coders import MatchingCoder, TopKCoder
from retinacodec.topk_autoencoder import TopKSAE
from retinacodec.transcoder import Transcoder

__all__ = [
    "ICA",
    "METHODS",
    "NMF",
    "PCA",
    "BalancedRows",
    "Coder",
    "Decomposition",
    "Dictionary",
    "DictionaryLearning",
    "DirectPursuit",
    "KMeans",
    "MatchingPursuitSAE",
    "OneScale",
    "PaperSAE",
    "RandomRows",
    "RowSplit",
    "Scale",
    "Scaling",
    "SemiNMF",
    "TimeBlocks",
    "TopKSAE",
    "Transcoder",
    "Warmup",
    "distil",
    "fixed_size",
    "held_out_r2",
    "load_dictionary",
    "seed_stability",
    "shuffled_stability",
]

METHODS: Mapping[str, Callable[[int], Decomposition]] = {
    "DirectPursuit": DirectPursuit,
    "DirectPursuit, sparse": lambda modes: DirectPursuit(modes, gain=0.2),
    "PaperSAE": lambda _: PaperSAE(),
    "PaperSAE, mended": lambda _: PaperSAE(learning_rate=1e-3, start=Warmup()),
    "TopKSAE": TopKSAE,
    "MatchingPursuitSAE": MatchingPursuitSAE,
    "NMF": NMF,
    "SemiNMF": lambda modes: SemiNMF(modes, active=5),
    "SemiNMF, constrained": lambda modes: SemiNMF(modes, active=5, constrained=True),
    "DictionaryLearning": DictionaryLearning,
    "PCA": PCA,
    "ICA": ICA,
    "KMeans": KMeans,
    "KMeans, gain": lambda modes: KMeans(modes, gain=True),
}
"""Every decomposition by the name that tables give it: the method with so many modes."""

_CODERS: dict[str, Any] = {
    "pursuit": PursuitCoder,
    "autoencoder": AutoencoderCoder,
    "topk": TopKCoder,
    "matching": MatchingCoder,
    "unrolled": UnrolledCoder,
    "nonnegative": NonnegativeCoder,
    "linear": LinearCoder,
    "codebook": CodebookCoder,
}


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
        scale=unpack_scale(config["scale"]),
        method=str(config["method"]),
        seed=int(config["seed"]),
        coder=_CODERS[settings["kind"]].unpack(coded, settings),
        agreement=np.asarray(arrays["agreement"]),
        tried=int(config["tried"]),
        log=_part(arrays, "log_"),
        centre=np.asarray(arrays["centre"]) if "centre" in arrays else None,
        reads=unpack_scale(config["reads"]) if config.get("reads") else None,
    )


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): np.asarray(values)
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
