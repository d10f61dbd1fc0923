"""Modes: the few patterns of interneurons whose sums make the contributions of a layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.dictionaries import (
    Decomposition,
    Dictionary,
    DirectPursuit,
    TimeBlocks,
    fixed_size,
    held_out_r2,
    load_dictionary,
    seed_stability,
    shuffled_stability,
)
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance
from retinacodec.plotting import COLOURS, heat, raster_map, trace
from retinacodec.schema import SIGNS, check_modes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_atoms",
    "draw_mode_loadings",
    "draw_modes_raster",
    "find_modes",
    "project_modes",
]

Array = npt.NDArray[Any]

_FEATURES = ("sign", "channel")
_SPACE = ("y", "x")


def find_modes(
    node: xr.Dataset | xr.DataTree,
    *,
    dictionary: Decomposition | None = None,
    seed: int = 0,
    quantity: str = "contribution",
    target: Any = None,
    stability_seeds: int = 2,
    gap: int = 40,
    progress: bool = True,
) -> xr.Dataset:
    """Decompose the contributions of a layer into modes.

    Parameters
    ----------
    node : xarray.DataTree or xarray.Dataset
        A layer of Contributions, with ``contribution`` (time, sign, channel) to one target.
        Positions, where they were kept, are summed.
    dictionary : Decomposition, optional
        The method; ``DirectPursuit()`` if left out.
    seed : int, default 0
        Seed of the method, of the further fits and of the null.
    quantity : str, default "contribution"
        Variable to decompose, such as ``"activation"``.
    target : object, optional
        Which target, by its label, where the contributions were computed for several.
    stability_seeds : int, default 2
        Further fits from other seeds, with which the modes are compared; 0 leaves it out.
    gap : int, default 40
        Times left out between fitted and held-out blocks; at least the history of the model.
    progress : bool, default True
        Show how far the search has come.

    Returns
    -------
    xarray.Dataset
        Modes, by falling summed loading: ``atom`` (mode, sign, channel), at most 0 in the
        negative and at least 0 in the positive part; ``loading`` (time, mode), at least 0. Their
        product times attribute ``scale`` approximates the quantity. ``reconstruction_r2`` (time),
        share of each time's energy explained, NaN where all is 0; ``alive`` and ``share`` (mode),
        whether it is ever active and its part of all loadings; ``agreement`` (mode) between the
        starts of a consensus, and ``stability`` (mode), matched cosine with fits from other
        seeds; ``varies`` (sign, channel), False for a constant channel. Attributes: ``r2`` on
        held-out blocks and ``r2_fitted``, ``l0`` (mean number of active modes), ``alive``,
        ``dead``, ``stability`` and ``stability_null`` (95th percentile of the null), ``scale``,
        ``seed``, ``method``, ``quantity``.

    Raises
    ------
    InputError
        If the node is not one layer and one target, or its values are NaN, constant or too few.

    Notes
    -----
    The table (time x sign and channel) is divided by its one standard deviation; no mean is
    subtracted. ``r2 = 1 - mean((x - xh)^2) / var(x)`` with one mean over the table, on every
    fifth of 20 contiguous blocks, fitted on the others. In the null of the stability each
    feature's entries are dealt out to other modes.

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
    values = _table(node, quantity, target)
    features = values.stack(feature=_FEATURES)
    sample = str(features.dims[0])
    x = features.values
    signs = np.where(features["sign"].values == SIGNS[0], -1, 1)
    method = dictionary or DirectPursuit()
    found = method.fit(x, signs=signs, seed=seed, progress=progress)
    if not len(found.atoms):
        raise InputError(
            f"find_modes: all {found.tried} atoms are dead; use DirectPursuit(), or "
            "PaperSAE(start=Warmup())"
        )
    same = fixed_size(method, len(found.atoms))
    stability = seed_stability(same, x, found, signs=signs, seeds=stability_seeds)
    attrs = _scores(found, x) | {
        "r2": held_out_r2(same, x, signs=signs, seed=seed, split=TimeBlocks(gap)),
        "stability": float(np.mean(stability)),
        "stability_null": float(np.quantile(shuffled_stability(found.atoms, seed=seed), 0.95)),
        "quantity": quantity,
    }
    modes = _dataset(found, values, x, stability, sample).assign_attrs(attrs)
    return check_modes(modes)


def project_modes(modes: xr.Dataset, node: xr.Dataset | xr.DataTree, *, target: Any = None) -> Any:
    """Return the loadings of known modes on other contributions of the same layer.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returned, also after it was saved and opened.
    node : xarray.DataTree or xarray.Dataset
        The same layer and quantity, for other times.
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
    check_modes(modes)
    values = _table(node, modes.attrs["quantity"], target)
    sample = str(values.dims[0])
    if values.sizes["channel"] != modes.sizes["channel"]:
        raise InputError(
            f"project_modes: the modes have {modes.sizes['channel']} channels, the contributions "
            f"{values.sizes['channel']}; pass the same layer"
        )
    prefix = "coder_"
    coded = {str(name): modes[name].values for name in modes if str(name).startswith(prefix)}
    config = json.loads(modes.attrs["packed"])
    atoms = modes["atom"].stack(feature=_FEATURES).transpose("mode", "feature").values
    arrays = {"atoms": atoms, "loadings": np.zeros((0, len(atoms))), "agreement": np.zeros(0)}
    known = load_dictionary({"coder_atoms": atoms} | arrays | coded, config)
    loadings = known.transform(values.stack(feature=_FEATURES).values)
    coords = {sample: values[sample]} if sample in values.coords else {}
    return xr.DataArray(
        loadings,
        dims=(sample, "mode"),
        coords=coords | {"mode": modes["mode"]},
        name="loading",
        attrs=modes["loading"].attrs,
    )


def draw_modes_raster(modes: xr.Dataset, ax: Axes) -> Axes:
    """Draw the loadings of all modes over time, a row for each mode.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode).
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``. Each mode is shown relative to its 99th
        percentile, white is 0.
    """
    loading = modes["loading"].transpose("mode", ...)
    strong = np.quantile(loading.values, 0.99, axis=1, keepdims=True)
    top = np.maximum(loading.values.max(axis=1, keepdims=True), 1e-12)
    rows = np.clip(loading.values / np.where(strong > 0, strong, top), 0, 1)
    heat(ax, rows, limits=(0.0, 1.0))
    image = ax.images[-1]
    time = loading[loading.dims[1]].values
    image.set_extent((float(time[0]), float(time[-1]), len(rows) - 0.5, -0.5))
    ax.set(xlabel="Time (s)" if loading.dims[1] == "time" else str(loading.dims[1]).capitalize())
    ax.set(ylabel="Mode")
    return ax


def draw_atoms(modes: xr.Dataset, ax: Axes) -> Axes:
    """Draw the atoms, a row for each mode, negative channels left of positive ones.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``atom`` (mode, sign, channel).
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``, coloured symmetrically about 0.
    """
    atoms = modes["atom"].transpose("mode", "sign", "channel")
    channels = atoms.sizes["channel"]
    raster_map(ax, atoms.values.reshape(atoms.sizes["mode"], -1), cmap="bam")
    ax.axvline(channels - 0.5, color=COLOURS.quiet, linewidth=0.6)
    ax.set_xticks(
        [(channels - 1) / 2, channels + (channels - 1) / 2], labels=["negative", "positive"]
    )
    for label, colour in zip(
        ax.get_xticklabels(), (COLOURS.negative, COLOURS.positive), strict=True
    ):
        label.set_color(colour)
    ax.tick_params(axis="x", length=0)
    ax.set(xlabel="Channel", ylabel="Mode")
    return ax


def draw_mode_loadings(modes: xr.Dataset, ax: Axes, *, mode: list[int] | None = None) -> Axes:
    """Draw the loadings of some modes as lines over time.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode).
    ax : matplotlib.axes.Axes
        Where to draw.
    mode : list of int, optional
        Names of the modes; the first two if left out.

    Returns
    -------
    matplotlib.axes.Axes
        The axis, with a legend.
    """
    shown = modes["mode"].values[:2] if mode is None else mode
    for number, name in enumerate(shown):
        loading = modes["loading"].sel(mode=name)
        colour = COLOURS.series[number % len(COLOURS.series)]
        trace(ax, loading["time"], loading, colour=colour, label=f"mode {name}", fill=True)
    ax.set(xlabel="Time (s)", ylabel="Loading")
    ax.legend(loc="upper right")
    return ax


def _table(node: xr.Dataset | xr.DataTree, quantity: str, target: Any) -> xr.DataArray:
    """Return the quantity of one target as (sample, sign, channel)."""
    dataset = node.to_dataset() if isinstance(node, xr.DataTree) else node
    if quantity not in dataset:
        children = list(node.children) if isinstance(node, xr.DataTree) else []
        hint = f"; pass one layer, such as parts[{children[0]!r}]" if children else ""
        raise InputError(
            f"find_modes: no variable {quantity!r} among {[str(name) for name in dataset]}{hint}"
        )
    values = dataset[quantity]
    if not set(_FEATURES) <= set(values.dims) or tuple(values["sign"].values) != SIGNS:
        raise InputError(
            f"find_modes: expected {quantity} (time, sign, channel) with signs {SIGNS}, got dims "
            f"{values.dims}"
        )
    values = _one_target(values, target).sum([dim for dim in _SPACE if dim in values.dims])
    rest = [dim for dim in values.dims if dim not in _FEATURES]
    if len(rest) != 1:
        raise InputError(f"find_modes: expected one dimension of samples, got {rest}")
    return values.transpose(rest[0], *_FEATURES)


def _one_target(values: xr.DataArray, target: Any) -> xr.DataArray:
    if "target" not in values.dims:
        return values
    labels = values["target"].values.tolist()
    if target is None or target not in labels:
        raise InputError(
            f"find_modes: contributions to {len(labels)} targets; choose one with target=, of "
            f"{labels[:8]}"
        )
    return values.sel(target=target, drop=True)


def _scores(found: Dictionary, x: Array) -> dict[str, Any]:
    """Return what the dictionary says about itself, as attributes."""
    return {
        "kind": "modes",
        "r2_fitted": explained_variance(x, found.reconstruct()),
        "l0": found.l0,
        "alive": int(found.alive.sum()),
        "dead": found.dead,
        "scale": found.scale.deviation,
        "seed": found.seed,
        "method": found.method,
        "packed": json.dumps(found.pack()[1]),
    }


def _dataset(
    found: Dictionary, values: xr.DataArray, x: Array, stability: Array, sample: str
) -> xr.Dataset:
    """Return atoms, loadings and what describes each of them."""
    left = ((x - found.reconstruct()) ** 2).sum(axis=1)
    energy = (x.astype(np.float64) ** 2).sum(axis=1)
    explained = np.where(energy > 0, 1 - left / np.where(energy > 0, energy, 1), np.nan)
    total = found.loadings.sum(axis=0, dtype=np.float64)
    atoms = found.atoms.reshape(len(found.atoms), *(values.sizes[dim] for dim in _FEATURES))
    scaled = {"units": "1", "long_name": "of unit norm, in units of the scale"}
    data: dict[str, Any] = {
        "atom": (("mode", *_FEATURES), atoms, scaled),
        "loading": ((sample, "mode"), found.loadings, {"units": "1", "long_name": "loading"}),
        "reconstruction_r2": (sample, explained, {"units": "1"}),
        "alive": ("mode", found.alive),
        "share": ("mode", total / max(total.sum(), 1e-12), {"units": "1"}),
        "agreement": ("mode", found.agreement, {"units": "1"}),
        "stability": ("mode", stability, {"units": "1"}),
        "varies": (_FEATURES, values.values.std(axis=0) > 0),
    }
    for name, array in found.pack()[0].items():
        if name.startswith("coder_") and array is not found.atoms:
            data[name] = (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
    kept = {name: values[name] for name in (sample, *_FEATURES) if name in values.coords}
    return xr.Dataset(data, coords=kept | {"mode": np.arange(len(atoms))})
