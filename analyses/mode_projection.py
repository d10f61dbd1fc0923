"""Known modes on other samples: their loadings, and encoders that find them one at a time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from retinacodec.analyses.modes import mode_coding, row_split
from retinacodec.dictionaries import Dictionary, distil, load_dictionary
from retinacodec.errors import InputError
from retinacodec.layer_tables import layer_table
from retinacodec.schema import check_modes

__all__ = ["distil_modes", "modes_dictionary", "project_modes"]

Node = xr.Dataset | xr.DataTree

_FEATURES = ("sign", "channel")


def project_modes(modes: xr.Dataset, node: Node, *, target: Any = None) -> xr.DataArray:
    """Return the loadings of known modes on other contributions of the same layer.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returned, also after it was saved and opened.
    node : xarray.DataTree or xarray.Dataset
        The same layer and quantity, for other times; for modes of a `Transcoder`, the layer whose
        activations they read.
    target : object, optional
        As in `find_modes`.

    Returns
    -------
    xarray.DataArray (time, mode)
        Loadings, with the scale and the settings of the modes.

    Raises
    ------
    InputError
        If the channels are not those of the modes.
    """
    known = modes_dictionary(modes)
    quantity = modes.attrs["quantity"] if known.reads is None else "activation"
    values = layer_table(node, quantity, target=target)
    sample = str(values.dims[0])
    if known.reads is None and values.sizes["channel"] != modes.sizes["channel"]:
        raise InputError(
            f"project_modes: the modes have {modes.sizes['channel']} channels, the contributions "
            f"{values.sizes['channel']}; pass the same layer"
        )
    loadings = known.transform(values.stack(feature=_FEATURES).values)
    coords = {sample: values[sample]} if sample in values.coords else {}
    return xr.DataArray(
        loadings,
        dims=(sample, "mode"),
        coords=coords | {"mode": modes["mode"]},
        name="loading",
        attrs=modes["loading"].attrs,
    )


def distil_modes(
    modes: xr.Dataset, node: Node, *, target: Any = None, gap: int = 40, seed: int = 0
) -> xr.Dataset:
    """Teach an encoder to find the loadings of modes, for samples that come one at a time.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returned for `DirectPursuit`.
    node : xarray.DataTree or xarray.Dataset
        The layer to learn from, such as the one they were found in.
    target : object, optional
        As in `find_modes`.
    gap : int, default 40
        Times left out between rows to learn from and rows to score on.
    seed : int, default 0
        Seed of the training.

    Returns
    -------
    xarray.Dataset
        The same modes, coded by the encoder from now on: `project_modes` uses it. Its
        ``log_encoder_r2``, ``log_pursuit_r2`` and ``log_support_f1`` say, on samples held out,
        what that costs; ``loading`` stays that of the pursuit.

    Raises
    ------
    InputError
        If the modes cannot be coded by an encoder or the node has other channels.
    """
    values = layer_table(node, modes.attrs["quantity"], target=target)
    rows = values.stack(feature=_FEATURES).values
    split = row_split(str(values.dims[0]), gap, len(rows))
    found = distil(modes_dictionary(modes), rows, seed=seed, split=split, progress=False)
    kept = [name for name in modes if not str(name).startswith(("coder_", "log_"))]
    taught = modes[kept].assign(mode_coding(found))
    return taught.assign_attrs(packed=json.dumps(found.pack()[1]))


def modes_dictionary(modes: xr.Dataset) -> Dictionary:
    """Return modes as the dictionary that they were, without the loadings of its samples.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returned, also after it was saved and opened.

    Returns
    -------
    Dictionary
        Atoms, scale and how rows are coded.
    """
    check_modes(modes)
    coded = {str(name): modes[name].values for name in modes if str(name).startswith("coder_")}
    if "centre" in modes:
        coded["centre"] = modes["centre"].transpose(*_FEATURES).values.ravel()
    config = json.loads(modes.attrs["packed"])
    atoms = modes["atom"].stack(feature=_FEATURES).transpose("mode", "feature").values
    arrays = {"atoms": atoms, "loadings": np.zeros((0, len(atoms))), "agreement": np.zeros(0)}
    return load_dictionary({"coder_atoms": atoms} | arrays | coded, config)
