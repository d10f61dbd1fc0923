"""Sampled responses of cells (potentials, fluorescence) on the frames of a movie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError
from retinacodec.schema import response_dataset

__all__ = ["make_traces"]


def make_traces(
    trace: npt.ArrayLike,
    *,
    time: npt.ArrayLike,
    frame_rate: float,
    cells: Sequence[str],
    units: str,
    repeats: npt.ArrayLike | None = None,
    name: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Put sampled responses on the frames of a stimulus into a dataset of traces.

    Parameters
    ----------
    trace : array_like (time, cell)
        Membrane potential, fluorescence or the like in each frame; NaN where nothing was sampled.
        With repeats it is their mean.
    time : array_like (time,)
        Onset of each frame, s.
    frame_rate : float
        Frames per second, Hz.
    cells : sequence of str
        Names of the cells, as the file has them.
    units : str
        Unit of the values.
    repeats : array_like (repeat, time, cell), optional
        Values in each repeat of the same stimulus.
    name : str, optional
        Name of the series.
    parameters : mapping, optional
        Whatever else should travel with it; kept as JSON.

    Returns
    -------
    xarray.Dataset
        ``trace`` (time, cell) and, with repeats, ``repeats`` (repeat, time, cell).

    Raises
    ------
    InputError
        If the arrays do not fit each other or times do not rise.
    """
    variable = {"units": units, "long_name": name}
    dataset = response_dataset(
        {"trace": trace, "repeats": repeats},
        words={"trace": variable, "repeats": variable},
        time=time,
        cells=cells,
        attrs={
            "kind": "traces",
            "name": name,
            "units": units,
            "parameters": json.dumps(dict(parameters or {}), sort_keys=True),
            "frame_rate": float(frame_rate),
        },
    )
    onsets = dataset["time"].values
    if not (np.isfinite(onsets).all() and (np.diff(onsets) > 0).all()):
        raise InputError(f"traces {name!r}: time must rise from frame to frame")
    return dataset
