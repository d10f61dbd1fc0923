"""Modes: the few patterns of interneurons whose sums make the contributions of a layer."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.dictionaries import (
    Decomposition,
    Dictionary,
    DirectPursuit,
    RandomRows,
    RowSplit,
    TimeBlocks,
)
from retinacodec.errors import InputError
from retinacodec.layer_tables import layer_table
from retinacodec.mode_report import ModeReport, report_modes
from retinacodec.rows import Rows
from retinacodec.schema import SIGNS, check_modes

__all__ = ["find_modes", "mode_coding", "mode_rows", "row_split"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
Node = xr.Dataset | xr.DataTree

_FEATURES = ("sign", "channel")


def find_modes(
    node: Node,
    *,
    dictionary: Decomposition | None = None,
    seed: int = 0,
    quantity: str = "contribution",
    target: Any = None,
    inputs: Node | None = None,
    stability_seeds: int = 2,
    halves: bool = True,
    gap: int = 40,
    progress: bool = True,
) -> xr.Dataset:
    """Decompose the contributions of a layer into modes, and say how far they can be trusted.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions, with ``contribution`` (time, sign, channel) to one target, or
        (image, sign, channel). Positions, where they were kept, are summed.
    dictionary : Decomposition, optional
        The method; ``DirectPursuit()`` if left out.
    seed : int, default 0
        Seed of the method, of the further fits and of the nulls.
    quantity : str, default "contribution"
        Variable to decompose: ``"contribution"``, ``"activation"`` or ``"gradient"``.
    target : object, optional
        Which target, by its label, where the contributions were computed for several.
    inputs : xarray.DataTree or xarray.Dataset, optional
        Another layer whose activations the loadings are read from, for a `Transcoder`.
    stability_seeds : int, default 2
        Further fits from other seeds, with which the modes are compared; 0 leaves it out.
    halves : bool, default True
        Fit both halves of the data, and compare them.
    gap : int, default 40
        Times left out between fitted and held-out blocks; at least the history of the model.
        Images are held out at random.
    progress : bool, default True
        Show how far the search has come.

    Returns
    -------
    xarray.Dataset
        Modes, by falling summed loading: ``atom`` (mode, sign, channel), at most 0 in the
        negative and at least 0 in the positive part; ``loading`` (time, mode), at least 0 but
        for methods whose components have no sign. Their product times attribute ``scale``
        approximates the quantity; for methods that subtract a mean, after ``centre`` (sign,
        channel) is added to the product. ``reconstruction_r2`` (time), share of each time's energy
        explained, NaN where all is 0; ``alive`` and ``share`` (mode), whether it is ever active
        and its part of all loadings; ``agreement`` (mode) between the starts of a consensus;
        ``stability`` and ``half_stability`` (mode), matched cosine with fits from other seeds and
        between halves of the data, and the whole tables ``seed_cosine`` and ``half_cosine`` (mode,
        partner) whose diagonals they are; ``gain`` (mode), share of the energy lost without it, and
        ``surplus`` (mode), where the others can replace it, ``stable`` (mode), where it was found
        again with a cosine above 0.9; ``varies`` (sign, channel), False for
        a constant channel. Attributes: ``r2`` of rows held out with ``r2_low`` and ``r2_high``
        (95 %), ``r2_fitted``, ``l0`` (mean number of active modes), ``alive``, ``dead``, the mean
        ``stability`` and ``half_stability``, ``stability_null``, ``gain_null`` (95th percentiles
        of shuffled atoms), ``scale``, ``seed``, ``method``, ``quantity`` and ``report`` in words.

    Raises
    ------
    InputError
        If the node is not one layer and one target, its values are NaN, constant or too few, or
        all atoms are dead.

    Notes
    -----
    The table (time x sign and channel) is divided by its one standard deviation; no mean is
    subtracted (other scalings belong to the method). ``r2 = 1 - mean((x - xh)^2) / var(x)`` with
    one mean over the table, on every fifth of 20 contiguous blocks, fitted on the others.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, arXiv 2603.06557, section on the decomposition of
       contributions.

    Examples
    --------
    >>> table = np.zeros((60, 2, 2))
    >>> table[::2, 0, 0], table[1::3, 1, 1] = -1.0, 2.0
    >>> dims = ("time", "sign", "channel")
    >>> node = xr.Dataset({"contribution": (dims, table)}, {"sign": ["negative", "positive"]})
    >>> modes = find_modes(node, dictionary=DirectPursuit(modes=2), gap=0, progress=False)
    >>> abs(modes["atom"]).round(1).values.tolist()
    [[[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]
    """
    values, rows = mode_rows(node, quantity=quantity, target=target, inputs=inputs)
    sample = str(values.dims[0])
    split = row_split(sample, gap, len(rows))
    method = DirectPursuit(split=split) if dictionary is None else dictionary
    found = rows.fit(method, seed, progress=progress)
    if not len(found.atoms):
        raise InputError(
            f"find_modes: all {found.tried} atoms are dead; use DirectPursuit(), or "
            "PaperSAE(start=Warmup())"
        )
    report = report_modes(method, rows, found, split=split, seeds=stability_seeds, halves=halves)
    _log.log(logging.INFO if progress else logging.DEBUG, "%s", report)
    modes = _dataset(found, values, report, sample)
    return check_modes(modes.assign_attrs(_scores(found, report) | {"quantity": quantity}))


def mode_rows(
    node: Node, *, quantity: str = "contribution", target: Any = None, inputs: Node | None = None
) -> tuple[xr.DataArray, Rows]:
    """Return the table of a layer that a decomposition is fitted to.

    Parameters
    ----------
    node, quantity, target, inputs
        As in `find_modes`.

    Returns
    -------
    values : xarray.DataArray (time, sign, channel)
        The quantity, positions summed.
    rows : Rows
        The same as (time, feature), with the sign of each feature and perhaps the inputs.

    Raises
    ------
    InputError
        If the node is not one layer and one target.
    """
    values = layer_table(node, quantity, target=target)
    features = values.stack(feature=_FEATURES)
    signs = np.where(features["sign"].values == SIGNS[0], -1, 1)
    read = None
    if inputs is not None:
        given = layer_table(inputs, "activation", target=target)
        if given.sizes[given.dims[0]] != values.sizes[values.dims[0]]:
            raise InputError(
                f"find_modes: inputs of {given.shape[0]} samples for contributions of "
                f"{values.shape[0]}; pass layers of one result"
            )
        read = given.stack(feature=_FEATURES).values
    return values, Rows(features.values, signs, read)


def row_split(sample: str, gap: int, rows: int) -> RowSplit:
    """Return how samples of this dimension are held out: blocks of time, or images at random."""
    if sample != "time":
        return RandomRows()
    return TimeBlocks(gap, blocks=max(5, min(20, rows)))


def _scores(found: Dictionary, report: ModeReport) -> dict[str, Any]:
    """Return what is known of all modes together, as attributes."""
    r2 = report.r2
    return {
        "kind": "modes",
        "r2": float(r2.value),
        "r2_low": float(r2.low),
        "r2_high": float(r2.high),
        "r2_fitted": report.r2_fitted,
        "l0": report.l0,
        "alive": report.alive,
        "dead": report.dead,
        "stability": float(np.mean(report.seed_stability)),
        "half_stability": float(np.mean(report.half_stability)),
        "stability_null": report.stability_null,
        "gain_null": report.gain_null,
        "report": str(report),
        "signed": int(found.signed),
        "scale": found.scale.deviation,
        "seed": found.seed,
        "method": found.method,
        "packed": json.dumps(found.pack()[1]),
    }


def _dataset(
    found: Dictionary, values: xr.DataArray, report: ModeReport, sample: str
) -> xr.Dataset:
    """Return atoms, loadings and what describes each of them."""
    total = np.abs(found.loadings).sum(axis=0, dtype=np.float64)
    atoms = found.atoms.reshape(len(found.atoms), *(values.sizes[dim] for dim in _FEATURES))
    scaled = {"units": "1", "long_name": "atom, in units of the scale"}
    data: dict[str, Any] = {
        "atom": (("mode", *_FEATURES), atoms, scaled),
        "loading": ((sample, "mode"), found.loadings, {"units": "1", "long_name": "loading"}),
        "reconstruction_r2": (sample, report.row_r2, {"units": "1"}),
        "alive": ("mode", found.alive),
        "share": ("mode", total / max(total.sum(), 1e-12), {"units": "1"}),
        "agreement": ("mode", found.agreement, {"units": "1"}),
        "stability": ("mode", report.seed_stability, {"units": "1"}),
        "half_stability": ("mode", report.half_stability, {"units": "1"}),
        "seed_cosine": (("mode", "partner"), report.seed_cosine, {"units": "1"}),
        "half_cosine": (("mode", "partner"), report.half_cosine, {"units": "1"}),
        "gain": ("mode", report.gain, {"units": "1", "long_name": "energy lost without it"}),
        "surplus": ("mode", report.surplus),
        "stable": ("mode", report.stable),
        "varies": (_FEATURES, values.values.std(axis=0) > 0),
    }
    if found.centre is not None:
        shape = tuple(values.sizes[dim] for dim in _FEATURES)
        data["centre"] = (_FEATURES, found.centre.reshape(shape), {"units": "1"})
    data |= mode_coding(found)
    kept = {name: values[name] for name in (sample, *_FEATURES) if name in values.coords}
    return xr.Dataset(data, coords=kept | {"mode": np.arange(len(atoms))})


def mode_coding(found: Dictionary) -> dict[str, Any]:
    """Return the variables of a dataset of modes that say how new samples are coded."""
    return {
        name: (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
        for name, array in found.pack()[0].items()
        if name.startswith(("coder_", "log_")) and array is not found.atoms
    }
