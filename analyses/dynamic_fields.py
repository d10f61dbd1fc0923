"""How the receptive field of a cell changes from moment to moment, and with the active modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.field_frames import firing_frames, loading_at, loading_on, mode_sets
from retinacodec.analyses.named_rows import one_of
from retinacodec.analyses.panels import active_modes
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError
from retinacodec.gradients import latent_blocks
from retinacodec.latents import LatentFields
from retinacodec.plotting import field_map
from retinacodec.schema import check_modes
from retinacodec.separable import crop, field_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_dynamic_field", "draw_mode_field", "dynamic_fields"]

Array = npt.NDArray[Any]


def dynamic_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    modes: xr.Dataset | None = None,
    *,
    cells: Sequence[int | str] | None = None,
    frames: npt.ArrayLike | None = None,
    max_frames: int = 400,
    minimum_rate: float = 1.0,
    share: float = 0.1,
    most_sets: int = 20,
    batch: int = 64,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Describe the receptive field that each cell has at each moment, and in each mode.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    modes : xarray.Dataset, optional
        Modes with ``loading`` (time, mode) of the same movie.
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames to look at. If left out, up to `max_frames` of those in which a cell fires,
        spread evenly over the firing of every cell.
    max_frames : int, default 400
        Most frames that are chosen where `frames` is left out.
    minimum_rate : float, default 1.0
        A cell fires in a frame where its rate is above this, Hz; only these frames enter means.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    most_sets : int, default 20
        Number of the most frequent sets of active modes that get a mean field.
    batch : int, default 64
        Frames computed at a time.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        Over (time, cell): ``rate`` Hz, ``firing``, ``gain`` (norm of the field, Hz per unit
        contrast), ``separability``, ``polarity``, ``centre_y`` and ``centre_x`` um, ``size`` um,
        ``latency`` s; ``spatial`` (time, cell, y, x) and ``temporal`` (time, cell, lag), the
        separable form; ``mean_field`` (cell, lag, y, x), the mean over the frames in which the
        cell fires. With modes also ``mode_set`` (time), the active modes joined by ``+``;
        ``mode_*`` (mode, cell, ...), the same of the mean field weighted by the mode's loading,
        with ``mode_frames`` (mode, cell), the frames it is active in; and ``set_*`` (set, cell,
        ...) of the mean field of each set of modes. NaN where there is no frame.

    Raises
    ------
    InputError
        If movie, modes, cells or frames do not fit, or no cell ever fires.

    Notes
    -----
    Fields are exact gradients of the rate. Means are over fields, before the separable form is
    taken; see `retinacodec.gradients`, `retinacodec.separable` for the equations.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8B and D.
    """
    loading = None if modes is None else loading_on(check_modes(modes), movie)
    if frames is None:
        rate = predict(circuit, movie, device=device)
        frames = firing_frames(circuit, rate, cells, loading, minimum_rate, max_frames)
    blocks = latent_blocks(
        circuit,
        movie,
        cells=cells,
        frames=frames,
        batch=batch,
        device=device,
        progress=progress,
    )
    chosen = None if loading is None else _mode_weights(loading, frames, share, most_sets)
    return _gather(blocks, chosen, minimum_rate)


def draw_dynamic_field(
    fields: xr.Dataset, ax: Axes, *, cell: int | str = 0, frame: int = 0, window: int = 20
) -> Axes:
    """Draw the spatial map of a cell's field at one of the frames.

    Parameters
    ----------
    fields : xarray.Dataset
        What `dynamic_fields` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    cell : int or str, default 0
        Position or name of the cell.
    frame : int, default 0
        Position of the frame among those of `fields`.
    window : int, default 20
        Pixels on each side of the window around the strongest pixel.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.
    """
    one = one_of(fields, cell=cell).isel(time=frame)
    field_map(ax, crop(one["spatial"], window))
    ax.set_title(f"{one['cell'].item()}   {float(one['time']):.2f} s   {float(one['rate']):.0f} Hz")
    return ax


def draw_mode_field(
    fields: xr.Dataset,
    ax: Axes,
    *,
    mode: int | str = 0,
    cell: int | str = 0,
    window: int = 20,
) -> Axes:
    """Draw the spatial map of a cell's mean field in a mode.

    Parameters
    ----------
    fields : xarray.Dataset
        What `dynamic_fields` returns when it is given modes.
    ax : matplotlib.axes.Axes
        Where to draw.
    mode, cell : int or str, default 0
        Position or name.
    window : int, default 20
        Pixels on each side of the window around the strongest pixel.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        If the fields were computed without modes.
    """
    if "mode_spatial" not in fields:
        raise InputError("draw_mode_field: no modes; pass modes= to dynamic_fields")
    one = one_of(fields, cell=cell, mode=mode)
    field_map(ax, crop(one["mode_spatial"], window))
    ax.set_title(f"{one['cell'].item()}   mode {one['mode'].item()}")
    return ax


def _mode_weights(
    loading: xr.DataArray, frames: npt.ArrayLike, share: float, most_sets: int
) -> xr.Dataset:
    """Return what each frame counts in the mean of each mode and each set of modes."""
    by_time = loading.rename(frame="time")
    active = active_modes(by_time, share=share).rename(time="frame")
    label = loading_at(mode_sets(by_time, share=share).rename(time="frame"), frames)
    counted = Counter(text for text in label.values.tolist() if text)
    names = [name for name, _ in counted.most_common(most_sets)]
    member = label.values[:, None] == np.asarray(names, dtype=str)[None]
    return xr.Dataset(
        {
            "mode_set": label,
            "mode_weight": loading_at(loading * active, frames),
            "set_weight": (("time", "set"), member.astype(np.float64)),
        },
        coords={"set": names},
    )


def _gather(blocks: Any, chosen: xr.Dataset | None, minimum_rate: float) -> xr.Dataset:
    """Describe the fields of every block and add up the means, one block at a time."""
    described, sums, done = [], _Sums(), 0
    block: LatentFields | None = None
    for block in blocks:
        count = block.rate.sizes["time"]
        firing = (block.rate > minimum_rate).astype(np.float64)
        sums.add("", block, firing)
        if chosen is not None:
            part = chosen.isel(time=slice(done, done + count))
            plain = firing.drop_vars(firing.coords)
            for kind in ("mode", "set"):
                if part.sizes[kind]:
                    sums.add(kind, block, part[f"{kind}_weight"] * plain)
        fires = (firing > 0).assign_attrs(units="1", long_name="rate above the minimum")
        described.append(block.separable().assign(rate=block.rate, firing=fires))
        done += count
    if block is None:
        raise InputError("dynamic_fields: no frames")
    found = xr.concat(described, dim="time", data_vars="minimal", coords="minimal")
    found = found.assign(field_shape(found))
    found["mean_field"] = block.field(sums.mean(""))
    found["mean_field"].attrs["long_name"] = "mean field over the frames in which the cell fires"
    if chosen is not None:
        found["mode_set"] = ("time", chosen["mode_set"].values)
        for kind in ("mode", "set"):
            if chosen.sizes[kind]:
                found = found.merge(_mean_forms(block, sums, kind))
    return found.assign_attrs(kind="dynamic_fields", minimum_rate=minimum_rate)


def _mean_forms(block: LatentFields, sums: _Sums, kind: str) -> xr.Dataset:
    """Return the separable form and shape of the mean field of each mode or set of modes."""
    forms = block.separable(sums.mean(kind))
    forms = forms.assign(field_shape(forms))
    forms["frames"] = sums.frames[kind]
    forms["frames"].attrs = {"units": "1", "long_name": "frames in the mean"}
    return forms.rename({name: f"{kind}_{name}" for name in forms.data_vars})


class _Sums:
    """Weighted sums of latents, by kind of set."""

    def __init__(self) -> None:
        self.latent: dict[str, xr.DataArray] = {}
        self.weight: dict[str, xr.DataArray] = {}
        self.frames: dict[str, xr.DataArray] = {}

    def add(self, kind: str, block: LatentFields, weights: xr.DataArray) -> None:
        """Add the frames of a block."""
        plain = weights.drop_vars(("time", "cell", "frame"), errors="ignore")
        for table, part in (
            (self.latent, block.weighted_sum(weights)),
            (self.weight, plain.sum("time")),
            (self.frames, (plain > 0).sum("time")),
        ):
            table[kind] = part if kind not in table else table[kind] + part

    def mean(self, kind: str) -> xr.DataArray:
        """Return mean latents (..., cell, channel, y, x), NaN where nothing was added."""
        total = self.weight[kind]
        mean = self.latent[kind] / total.where(total > 0)
        return mean.transpose(..., "cell", "channel", "y", "x")
