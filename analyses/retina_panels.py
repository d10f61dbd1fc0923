"""The numbers of the retina figure: scheme, events, groups of cells, fields of combinations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.analyses.cell_groups import (
    cluster_agreement,
    cluster_cells,
    match_clusters,
    mode_cell_correlation,
)
from retinacodec.analyses.panels import choose_combinations, choose_events, strong_loadings
from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor
from retinacodec.errors import InputError
from retinacodec.gradients import latent_fields
from retinacodec.schema import check_contributions, check_modes
from retinacodec.separable import separate

__all__ = ["retina_panels"]

Array = npt.NDArray[Any]

_SHARES = (0.1, 0.2, 0.35, 0.5)
_CANDIDATES = 12


def retina_panels(
    circuit: Circuit,
    movie: xr.Dataset,
    parts: xr.DataTree,
    modes: Mapping[str, xr.Dataset],
    *,
    cell: str | None = None,
    seconds: float = 2.5,
    window: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> xr.DataTree:
    """Compute everything that `retina_figure` shows.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus that the contributions were computed for.
    parts : xarray.DataTree
        Contributions to a target of the whole population, with ``rate`` (time, cell) in the root.
    modes : mapping of str to xarray.Dataset
        Modes of each layer, by the layer's name in `parts`; the first and the last are shown.
    cell : str, optional
        Cell whose events are shown. If left out, an example is picked: among the cells whose
        events differ most in modes, the one whose two fields are least alike. How alike fields
        are in general is what `field_similarity` measures.
    seconds : float, default 2.5
        Length of the stretch with events, s.
    window : int, default 20
        Pixels on each side of the fields' windows.
    seed : int, default 0
        Seed of the clustering.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataTree
        ``scheme`` (a frame, maps of the layers, a field of a channel), ``events`` (rate, loadings,
        two fields), ``contributions/<layer>``, ``groups/<layer>`` (correlations and clusters) and
        ``combinations`` (fields of one mode and its combinations). Attributes: ``layers``,
        ``cell``, ``target``, ``cluster_agreement``.

    Raises
    ------
    InputError
        If a layer has no modes, no cell has two events with different modes, or no mode is ever
        active alone.

    Notes
    -----
    A mode counts as active above a tenth of its strong loadings. Where no mode is alone at that
    share, 0.2, 0.35 and 0.5 are tried; ``combinations`` has it as its attribute ``share``.
    """
    first, last = _layers(parts, modes)
    rate = parts.to_dataset()["rate"]
    candidates = _candidates(rate, modes[last]["loading"], cell, seconds)
    events = _most_different(circuit, movie, candidates, progress)
    groups = _groups(rate, modes, (first, last), seed)
    attrs = {
        "kind": "retina_panels",
        "layers": [first, last],
        "cell": str(events.attrs["cell"]),
        "target": parts.attrs.get("target", ""),
        "cluster_agreement": cluster_agreement(groups[first]["cluster"], groups[last]["cluster"]),
    }
    chosen = _combinations(rate, modes[first]["loading"])
    nodes = {
        "/": xr.Dataset(attrs=attrs),
        "/scheme": _scheme(circuit, movie, _frames(movie, events["time"].values)[0]),
        "/events": _event_fields(circuit, movie, rate, modes[last], events, window, progress),
        "/combinations": _combination_fields(circuit, movie, chosen, window, progress),
    }
    for name in groups:
        nodes[f"/contributions/{name}"] = _stretch(parts[name].to_dataset(), events)
        nodes[f"/groups/{name}"] = groups[name]
    return xr.DataTree.from_dict(nodes, name="retina_panels")


def _layers(parts: xr.DataTree, modes: Mapping[str, xr.Dataset]) -> tuple[str, str]:
    """Return the first and the last layer that has modes, after checking both inputs."""
    check_contributions(parts)
    order = [str(name).replace(".", "_") for name in parts.attrs.get("layers", parts.children)]
    layers = [name for name in order if name in modes]
    if not layers or set(modes) - set(layers):
        raise InputError(
            f"retina_panels: modes of {sorted(modes)} but contributions of {list(parts.children)}; "
            "name the modes of each layer as the contributions do"
        )
    for layer in layers:
        check_modes(modes[layer])
    return layers[0], layers[-1]


def _stretch(node: xr.Dataset, events: xr.Dataset) -> xr.Dataset:
    """Return the contributions of a layer around the events, summed over space."""
    space = [dim for dim in node["contribution"].dims if dim in {"y", "x", "position"}]
    stretch = slice(float(events["start"]), float(events["stop"]))
    return node[["contribution"]].sum(space, keep_attrs=True).sel(time=stretch)


def _candidates(
    rate: xr.DataArray, loading: xr.DataArray, cell: str | None, seconds: float
) -> list[xr.Dataset]:
    """Return the events of a cell, or of the cells whose events differ most in modes."""
    known = [str(name) for name in rate["cell"].values]
    if cell is not None and cell not in known:
        raise InputError(f"no cell {cell!r}; there are {known}")
    found: list[tuple[float, xr.Dataset]] = []
    problem = InputError("events: no cells")
    for name in known if cell is None else [cell]:
        try:
            events = choose_events(rate.sel(cell=name, drop=True), loading, seconds=seconds)
        except InputError as error:
            problem = error
            continue
        table, peaks = events["strength"].values, events["rate"].values
        score = min(table[0, 0] - table[1, 0], table[1, 1] - table[0, 1])
        found.append((float(score * peaks.min() / peaks.max()), events.assign_attrs(cell=name)))
    if not found:
        raise problem
    found.sort(key=lambda pair: -pair[0])
    return [events for score, events in found[:_CANDIDATES] if score >= found[0][0] / 2]


def _most_different(
    circuit: Circuit, movie: xr.Dataset, candidates: list[xr.Dataset], progress: bool
) -> xr.Dataset:
    """Return the candidate whose two fields are least alike."""
    if len(candidates) == 1:
        return candidates[0]
    pairs = [_frames(movie, events["time"].values) for events in candidates]
    frames = np.unique(np.concatenate(pairs))
    names = [str(events.attrs["cell"]) for events in candidates]
    fields = latent_fields(circuit, movie, cells=names, frames=frames, progress=progress)
    cosines = np.nan_to_num(fields.cosines().values, nan=1.0)
    alike = [
        float(cosines[number, *np.searchsorted(frames, pair)]) for number, pair in enumerate(pairs)
    ]
    return candidates[int(np.argmin(alike))]


def _combinations(rate: xr.DataArray, loading: xr.DataArray) -> xr.Dataset:
    """Return mode combinations, at the smallest share at which a mode is ever alone."""
    for share in _SHARES[:-1]:
        try:
            return choose_combinations(rate, loading, share=share).assign_attrs(share=share)
        except InputError:
            continue
    share = _SHARES[-1]
    return choose_combinations(rate, loading, share=share).assign_attrs(share=share)


def _groups(
    rate: xr.DataArray, modes: Mapping[str, xr.Dataset], layers: tuple[str, str], seed: int
) -> dict[str, xr.Dataset]:
    """Return correlations of modes and cells, and groups of cells numbered alike in both layers."""
    first, last = layers
    found = {}
    for name in dict.fromkeys(layers):
        correlation = mode_cell_correlation(rate, modes[name]["loading"])
        found[name] = cluster_cells(correlation, seed=seed).assign(correlation=correlation)
    found[last]["cluster"] = match_clusters(found[last]["cluster"], found[first]["cluster"])
    return found


def _event_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    rate: xr.DataArray,
    modes: xr.Dataset,
    events: xr.Dataset,
    window: int,
    progress: bool,
) -> xr.Dataset:
    """Return rate and loadings around the events, and the field at each."""
    cell = str(events.attrs["cell"])
    frames = _frames(movie, events["time"].values)
    fields = latent_fields(circuit, movie, cells=[cell], frames=frames, progress=progress)
    parts = fields.separable().isel(cell=0, drop=True)
    stretch = slice(float(events["start"]), float(events["stop"]))
    loading = modes["loading"].sel(mode=events["mode"].values).transpose("time", "mode")
    shown = xr.Dataset(
        {
            "rate": rate.sel(cell=cell, time=stretch).drop_vars("cell"),
            "shown_loading": loading.rename(mode="shown_mode").reset_coords(drop=True),
        }
    ).sel(time=stretch)
    shown["strong_loading"] = ("shown_mode", strong_loadings(loading.values), {"units": "1"})
    for name in ("time", "rate", "mode"):
        shown[f"event_{name}"] = ("event", events[name].values, events[name].attrs)
    shown["field"] = _near(parts["spatial"].rename(time="event"), window)
    shown["separability"] = ("event", parts["separability"].values, {"units": "1"})
    return shown.assign_coords(event=events["event"]).drop_vars("frame", errors="ignore")


def _combination_fields(
    circuit: Circuit, movie: xr.Dataset, chosen: xr.Dataset, window: int, progress: bool
) -> xr.Dataset:
    """Return the field of each cell at each chosen frame, in one window for each cell."""
    names = [str(name) for name in chosen["cell"].values]
    times = chosen["time"].values
    known = np.isfinite(times)
    frames = np.unique(_frames(movie, times[known]))
    fields = latent_fields(circuit, movie, cells=names, frames=frames, progress=progress)
    spatial = fields.separable()["spatial"]
    maps = []
    for position in range(len(names)):
        rows = np.searchsorted(
            frames, _frames(movie, np.where(known, times, times[known][0])[position])
        )
        own = spatial.isel(cell=position, time=rows).values
        own = np.where(known[position][:, None, None], own, np.nan)
        cut = _near(
            xr.DataArray(
                own, dims=("panel", "y", "x"), coords={"y": spatial["y"], "x": spatial["x"]}
            ),
            window,
        )
        maps.append(cut.assign_coords(_relative_places(cut)))
    field = xr.concat(maps, dim="cell")
    field.attrs = {"units": "Hz", "long_name": "spatial map of the instantaneous field"}
    return chosen.assign(field=field)


def _near(maps: xr.DataArray, window: int) -> xr.DataArray:
    """Cut one window around what all maps (panel, y, x) have in common."""
    size = np.abs(np.nan_to_num(maps.values))
    peak = size.max(axis=(1, 2), keepdims=True)
    common = (size / np.where(peak > 0, peak, 1)).mean(axis=0)
    row, column = np.unravel_index(int(common.argmax()), common.shape)
    return maps.isel(
        y=_span(int(row), window, maps.sizes["y"]), x=_span(int(column), window, maps.sizes["x"])
    )


def _span(centre: int, window: int, size: int) -> slice:
    """Return a window of this size around a pixel, moved to lie inside."""
    start = int(np.clip(centre - window // 2, 0, max(size - window, 0)))
    return slice(start, min(start + window, size))


def _relative_places(cut: xr.DataArray) -> dict[str, Any]:
    """Return coordinates from the window's middle, so that windows of several cells align."""
    return {
        axis: (axis, cut[axis].values - cut[axis].values.mean(), {"units": "um"})
        for axis in ("y", "x")
    }


def _frames(movie: xr.Dataset, times: Array) -> Array:
    """Return the movie frames of these times."""
    found = movie.get_index("time").get_indexer(np.asarray(times))
    if (found < 0).any():
        raise InputError("retina_panels: contributions and movie have different times")
    return found


def _scheme(circuit: Circuit, movie: xr.Dataset, frame: int) -> xr.Dataset:
    """Return the frame on screen, the maps of the layers then, and the field of a channel."""
    windows = circuit.windows(movie_tensor(circuit, movie))
    row = frame - circuit.first_frame
    device = next((p.device for p in circuit.model.parameters()), torch.device("cpu"))
    leaf = windows[row : row + 1].contiguous().to(device).requires_grad_(True)
    with torch.enable_grad(), evaluating(circuit.model, device) as model:
        with tapped(model, circuit.layers) as taps:
            rates = model(leaf)
        first = taps[circuit.layers[0]][0]
        (slope,) = torch.autograd.grad(_central(first).max(), leaf, allow_unused=True)
    slope = torch.zeros_like(leaf) if slope is None else slope
    kernel = separate(slope.detach().cpu())[0][0].numpy()
    shown = movie["contrast"].isel(time=frame - (circuit.latency or 0), drop=True)
    data: dict[str, Any] = {
        "frame": shown,
        "kernel": (("y", "x"), kernel, {"units": "1", "long_name": "field of a channel"}),
    }
    sizes = []
    for number, layer in enumerate(circuit.layers):
        maps = taps[layer][0][0].detach().cpu().numpy()
        sizes.append(len(maps))
        if maps.ndim == 3:
            best = int(maps.reshape(len(maps), -1).max(axis=1).argmax())
            data[f"map_{number}"] = ((f"y_{number}", f"x_{number}"), maps[best], {"units": "1"})
    attrs = {"layers": list(circuit.layers), "channels": sizes, "cells": int(rates.shape[1])}
    return xr.Dataset(data, attrs=attrs)


def _central(maps: Tensor) -> Tensor:
    """Return the values in the middle half of maps (batch, channel, y, x); all of other shapes."""
    if maps.ndim != 4:
        return maps.flatten()
    height, width = maps.shape[-2:]
    middle = maps[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
    return middle.flatten()
