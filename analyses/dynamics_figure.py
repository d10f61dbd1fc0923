"""One figure of how receptive fields change over time, and of what the modes have to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.dynamic_fields import dynamic_fields
from retinacodec.analyses.field_dynamics import draw_dynamics, field_dynamics
from retinacodec.analyses.field_frames import (
    consecutive_frames,
    firing_frames,
    loading_at,
    loading_on,
)
from retinacodec.analyses.field_persistence import draw_persistence, field_persistence
from retinacodec.analyses.field_transitions import (
    polarity_states,
    state_transitions,
)
from retinacodec.analyses.field_variance import draw_variance, field_variance
from retinacodec.analyses.mode_figures import draw_modes_raster
from retinacodec.analyses.named_rows import position_of
from retinacodec.analyses.polarity_flips import draw_flips, polarity_flips
from retinacodec.circuit import Circuit, predict
from retinacodec.gradients import latent_fields
from retinacodec.plotting import (
    COLOURS,
    FULL_MM,
    colour_bar,
    field_map,
    figure,
    panel_letter,
    style,
    trace,
)
from retinacodec.schema import check_modes
from retinacodec.separable import crop

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["dynamics_figure", "dynamics_numbers"]

Array = npt.NDArray[Any]

_MAPS = 8  # fields shown above the traces


def dynamics_numbers(
    circuit: Circuit,
    movie: xr.Dataset,
    modes: xr.Dataset,
    controls: Mapping[str, xr.Dataset] | None = None,
    *,
    cell: int | str | None = None,
    max_frames: int = 600,
    seconds: float = 3.0,
    minimum_rate: float = 1.0,
    share: float = 0.1,
    null_shifts: int = 100,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> dict[str, xr.Dataset]:
    """Return what the figure of the dynamics of fields shows, panel by panel.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode) of the same movie.
    controls : mapping of str to xarray.Dataset, optional
        Other modes of the same movie, such as those of activations, for comparison.
    cell : int or str, optional
        Position or name of the example; if left out the cell whose polarity is most divided
        while it fires, or whose centre moves most.
    max_frames : int, default 600
        Most frames, of those in which cells fire and again of stretches of consecutive ones, of
        which there is one at least.
    seconds : float, default 3.0
        Length of the example and of the stretches, s.
    minimum_rate : float, default 1.0
        A cell fires in a frame where its rate is above this, Hz.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    null_shifts : int, default 100
        Samples of each null.
    seed : int, default 0
        Seed of nulls and intervals.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    dict of str to xarray.Dataset
        ``A`` fields and loadings of the example stretch, ``B`` `field_dynamics`, ``C``
        `field_persistence`, ``D`` `state_transitions` of polarity, ``E`` `field_variance`, ``F``
        `polarity_flips`.

    Raises
    ------
    InputError
        If movie, modes or controls do not fit, or no cell ever fires.
    """
    rate = predict(circuit, movie, device=device)
    loading = loading_on(check_modes(modes), movie)
    others = {name: loading_on(check_modes(one), movie) for name, one in (controls or {}).items()}
    history, frame_rate = circuit.history or 1, float(movie.attrs["frame_rate"])
    fixed: dict[str, Any] = {"history": history, "frame_rate": frame_rate, "seed": seed}
    shown: dict[str, Any] = {"device": device, "progress": progress}
    chosen = firing_frames(circuit, rate, None, loading, minimum_rate, max_frames)
    fields = dynamic_fields(circuit, movie, frames=chosen, minimum_rate=minimum_rate, **shown)
    latents = latent_fields(circuit, movie, frames=chosen, **shown)
    most = max(max_frames, round(seconds * frame_rate))
    stretches = consecutive_frames(circuit, rate, seconds=seconds, max_frames=most, loading=loading)
    steady = dynamic_fields(circuit, movie, frames=stretches, minimum_rate=minimum_rate, **shown)
    summary = field_dynamics(fields, **fixed)
    livelier = field_dynamics(fields, fields["rate"], draws=1, **fixed)
    tables = {name: _named(loading_at(one, chosen)) for name, one in others.items()}
    at = loading_at(loading, chosen)
    null: dict[str, Any] = {"null_shifts": null_shifts, "share": share}
    return {
        "A": _example(circuit, movie, rate, loading, livelier, cell, seconds, minimum_rate, shown),
        "B": summary,
        "C": field_persistence(
            latent_fields(circuit, movie, frames=stretches, **shown),
            minimum_rate=minimum_rate,
            null_shifts=null_shifts,
            **fixed,
        ),
        "D": state_transitions(polarity_states(steady), stretches, among=("OFF", "ON"), **fixed),
        "E": field_variance(latents, at, tables, minimum_rate=minimum_rate, **null, **fixed),
        "F": polarity_flips(fields, at, seed=seed, **null | {"null_shifts": 10 * null_shifts}),
    }


def dynamics_figure(numbers: dict[str, xr.Dataset], *, width_mm: float = FULL_MM) -> Figure:
    """Draw how receptive fields change over time, and what the modes explain of it.

    Parameters
    ----------
    numbers : dict of str to xarray.Dataset
        What `dynamics_numbers` returns.
    width_mm : float, default 174
        Width of the figure, mm; its height follows.

    Returns
    -------
    matplotlib.figure.Figure
        A a cell's fields, rate, gain, centre and the modes over time; B share of OFF fields and
        displacement of the centre; C similarity of fields against the time between; D flips of
        polarity; E variance explained by the modes; F flips in combinations of modes.
    """
    with style():
        drawing = figure(width_mm=width_mm, height_mm=1.4 * width_mm)
        rows = drawing.subfigures(3, 1, squeeze=False, height_ratios=(1.8, 0.8, 1.0))[:, 0]
        _draw_example(numbers["A"], rows[0])
        _draw_how_fast(numbers, rows[1])
        _draw_why(numbers, rows[2])
    return drawing


def _named(table: xr.DataArray) -> xr.DataArray:
    return table.rename({str(table.dims[1]): "column"})


def _example(
    circuit: Circuit,
    movie: xr.Dataset,
    rate: xr.DataArray,
    loading: xr.DataArray,
    summary: xr.Dataset,
    cell: int | str | None,
    seconds: float,
    minimum_rate: float,
    shown: dict[str, Any],
) -> xr.Dataset:
    """Return fields and loadings of one cell over the stretch in which its rate changes most."""
    if cell is None:
        off, moved = (summary[name].values for name in ("off_share", "displacement"))
        rarer = np.minimum(off, 1 - off)
        cell = int(np.nan_to_num(rarer + 0.1 * moved / np.nanmax(moved), nan=-1).argmax())
    place = position_of(rate, "cell", cell)
    known = np.isin(circuit.first_frame + np.arange(rate.sizes["time"]), loading["frame"])
    length = min(max(round(seconds * movie.attrs["frame_rate"]), 2), int(known.sum()))
    own = rate.values[:, place].astype(np.float64)
    changes = np.abs(np.diff(own, prepend=own[:1])) * known
    counted = np.convolve(changes, np.ones(length), mode="valid")
    frames = circuit.first_frame + int(counted.argmax()) + np.arange(length)
    frames = frames[np.isin(frames, loading["frame"])]
    one = dynamic_fields(
        circuit, movie, cells=[place], frames=frames, minimum_rate=minimum_rate, **shown
    ).isel(cell=0)
    return one.drop_vars(["mean_field", "temporal"]).assign(
        loading=(("time", "mode"), loading_at(loading, frames).values)
    )


def _draw_example(stretch: xr.Dataset, drawing: Any) -> None:
    """Draw fields at moments of firing above the cell's properties and the modes."""
    upper, lower = drawing.subfigures(2, 1, height_ratios=(1, 4))
    firing = stretch["firing"].values.astype(bool)
    moments = _moments(stretch["rate"].values, firing, _MAPS)
    window = min(20, stretch.sizes["y"], stretch.sizes["x"])
    for letter, at, ax in zip("abcdefgh", moments, upper.subplots(1, _MAPS), strict=False):
        one = stretch.isel(time=int(at))
        last = at == moments[-1]
        field_map(ax, crop(one["spatial"], window), bar_um=None if last else 0)
        ax.set_title(f"{letter}   {float(one['rate']):.0f} Hz")
    for ax in upper.axes[len(moments) :]:
        ax.set_axis_off()
    axes = lower.subplots(4, 1, sharex=True, height_ratios=(1, 1.1, 1.1, 1.8))
    time = stretch["time"].values
    trace(axes[0], time, stretch["rate"].values, fill=True)
    axes[0].set(ylabel="Rate\n(Hz)")
    _draw_gain(stretch, firing, axes[1])
    _draw_centre(stretch, firing, axes[2])
    draw_modes_raster(stretch, axes[3])
    colour_bar(axes[3], "loading (rel.)")
    for ax in axes:
        for at in moments:
            ax.axvline(time[at], color=COLOURS.quiet, linewidth=0.4, linestyle=":", zorder=0)
        ax.set_xlim(time[0], time[-1])
    height = axes[0].get_ylim()[1]
    for letter, at in zip("abcdefgh", moments, strict=False):
        axes[0].annotate(letter, (time[at], height), ha="center", va="bottom", fontsize=6)
    upper.suptitle(str(stretch["cell"].item()), fontsize=7)
    panel_letter(upper.axes[0], "A")


def _moments(rate: Array, firing: Array, count: int) -> Array:
    """Return positions of peaks of firing, spread over the stretch, rising."""
    peaks = np.flatnonzero(firing & (rate >= np.roll(rate, 1)) & (rate >= np.roll(rate, -1)))
    if not peaks.size:
        return np.flatnonzero(firing)[:count]
    chosen = []
    for part in np.array_split(np.arange(rate.size), count):
        near = peaks[np.isin(peaks, part)]
        if near.size:
            chosen.append(int(near[rate[near].argmax()]))
    return np.asarray(chosen)


def _draw_gain(stretch: xr.Dataset, firing: Array, ax: Axes) -> None:
    """Draw the gain over time, in the colour of the polarity."""
    time, gain = stretch["time"].values, stretch["gain"].values
    ax.plot(time, gain, color=COLOURS.paper, linewidth=0.6, zorder=1)
    on = stretch["polarity"].values > 0
    for chosen, colour, label in (
        (firing & on, COLOURS.on, "ON"),
        (firing & ~on, COLOURS.off, "OFF"),
    ):
        ax.plot(time[chosen], gain[chosen], "o", color=colour, markersize=1.8, label=label)
    ax.set(ylabel="Gain (Hz\nper contrast)", ylim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_centre(stretch: xr.Dataset, firing: Array, ax: Axes) -> None:
    """Draw where the centre lies over time, while the cell fires."""
    time = stretch["time"].values
    for axis, colour in zip("xy", COLOURS.series, strict=False):
        place = stretch[f"centre_{axis}"].values
        middle = np.nanmedian(np.where(firing, place, np.nan)) if firing.any() else 0.0
        moved = np.where(firing, place - middle, np.nan)
        ax.plot(time, moved, "o-", color=colour, markersize=1.2, linewidth=0.5, label=axis)
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.4, zorder=0)
    ax.set(ylabel="Centre\n(µm)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_how_fast(numbers: dict[str, xr.Dataset], drawing: Any) -> None:
    """Draw the summaries of every cell, and how fast fields change."""
    axes = drawing.subplots(1, 4)
    draw_dynamics(numbers["B"], axes[0], name="off_share")
    draw_dynamics(numbers["B"], axes[1], name="displacement")
    axes[0].set(ylim=(-0.03, 1.03), ylabel="Share of OFF frames")
    axes[1].set(ylim=(0, None), ylabel="Displacement (µm)")
    draw_persistence(numbers["C"], axes[2])
    rates = numbers["D"]
    place = np.arange(rates.sizes["cell"])
    low, high = rates["change_rate_low"], rates["change_rate_high"]
    axes[3].vlines(place, low, high, color=COLOURS.ink, linewidth=1)
    axes[3].plot(place, rates["change_rate"], "o", color=COLOURS.ink, markersize=2.5, label="data")
    chance = rates["change_rate_chance"]
    axes[3].plot(place, chance, "_", color=COLOURS.quiet, markersize=6, label="independent frames")
    axes[3].set_xticks(place, labels=rates["cell"].values.astype(str).tolist())
    axes[3].set(ylabel="Flips of polarity (1/s)", xlabel="Cell", ylim=(0, None))
    axes[3].legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
    for ax in (axes[0], axes[1], axes[3]):
        _turn(ax)
    for letter, ax in zip("BCD", (axes[0], axes[2], axes[3]), strict=True):
        panel_letter(ax, letter)


def _draw_why(numbers: dict[str, xr.Dataset], drawing: Any) -> None:
    """Draw what the modes explain, and where polarity flips with them."""
    left, right = drawing.subplots(1, 2, width_ratios=(1.7, 1))
    names = [str(name) for name in numbers["E"]["predictor"].values if name != "rate and loadings"]
    order = ["rate", *(name for name in names if name != "rate")]
    draw_variance(numbers["E"], left, form="shape", predictors=tuple(order))
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(order) + 1, borderaxespad=0.2)
    _turn(left)
    draw_flips(numbers["F"], right)
    if right.images:
        colour_bar(right, "opposite polarity in company,\nless alone (share of frames)")
        _turn(right)
    panel_letter(left, "E")
    panel_letter(right, "F")


def _turn(ax: Axes) -> None:
    """Turn the names below an axis, if they are long."""
    for label in ax.get_xticklabels():
        if len(label.get_text()) > 3:
            label.set(rotation=40, ha="right", rotation_mode="anchor", fontsize=5)
