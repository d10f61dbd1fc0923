"""Whether a model's channels are the interneurons of a retina: matches against a shifted null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import p_value
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["channel_activations", "draw_interneuron_matches", "match_interneurons"]

Array = npt.NDArray[Any]
_ROWS = 4096


def channel_activations(
    circuit: Circuit,
    movie: xr.Dataset,
    layer: str | None = None,
    *,
    batch: int = 256,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
) -> xr.DataArray:
    """Return what every unit of a layer put out while a movie was shown.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus that fits it.
    layer : str, optional
        Name of the layer; the circuit's first if left out.
    batch : int, default 256
        Windows computed at a time; the result does not depend on it.
    budget_gb : float, default 2
        Most memory the result may take.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.

    Returns
    -------
    xarray.DataArray (time, channel[, y, x])
        Activations, float32; time starts at frame ``circuit.first_frame``.

    Raises
    ------
    InputError
        If the movie or layer does not fit the circuit, or the result is larger than the budget.
    """
    name = layer or next(iter(circuit.layers), "")
    circuit = Circuit(circuit.model, (name,), circuit.history, circuit.latency, circuit.outputs)
    where = resolve_device(device, circuit.model)
    windows = circuit.windows(movie_tensor(circuit, movie))
    kept: list[Array] = []
    with torch.no_grad(), evaluating(circuit.model, where) as model, tapped(model, [name]) as taps:
        for part in windows.split(batch):
            model(part.contiguous().to(where))
            kept.append(taps[name].pop().cpu().numpy())
            taps[name].clear()
            _within(kept[0].nbytes / len(kept[0]) * len(windows), budget_gb)
    dims = ("time", "channel", "y", "x")
    values = np.concatenate(kept)
    return xr.DataArray(
        values,
        dims=dims[: values.ndim],
        coords={"time": movie["time"][circuit.first_frame :]},
        name="activation",
        attrs={"layer": name},
    )


def match_interneurons(
    traces: xr.DataArray | xr.Dataset,
    activations: xr.DataArray,
    *,
    null_shifts: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Find the model unit most like each interneuron, and test it against shifted traces.

    The unit is chosen on one half of the time and scored on the other, both ways round, so that
    the choice among thousands of units does not inflate the score. The null repeats choice and
    score with the trace shifted in time by a random amount, around the end to the beginning.

    Parameters
    ----------
    traces : xarray.DataArray or xarray.Dataset (time, ...)
        Interneuron traces with any further dims, such as type or type, y, x; of a dataset the
        variable ``potential``.
    activations : xarray.DataArray (time, channel[, y, x])
        Activations of a layer, as `channel_activations` returns them.
    null_shifts : int, default 200
        Number of shifts.
    seed : int, default 0
        Seed of the shifts.

    Returns
    -------
    xarray.Dataset
        With the traces' own dims: ``correlation``, the held-out Pearson r (mean of both ways);
        ``selected``, the r on the half that chose; ``channel_correlation`` (..., channel), the
        held-out r where the choice is among one channel's positions; ``null`` (shift, ...);
        ``p_value`` = (1 + shifts at least as good) / (1 + shifts); and ``best_channel``,
        ``best_row``, ``best_column``, the unit with the largest mean r of the halves. NaN, or -1
        for a unit, where a trace does not vary in both halves.

    Raises
    ------
    InputError
        If the two share fewer than 20 moments, a value is not finite, or no unit varies.

    Notes
    -----
    Only the common moments count, in two contiguous halves. Shifts are uniform from a twentieth
    of the time to all but a twentieth. Units constant in either half are left out.

    References
    ----------
    .. [1] Maheswaranathan et al., Neuron 111:2742, 2023 (model units and recorded interneurons).
    """
    trace, unit = _aligned(traces, activations, null_shifts)
    rows = trace.values.reshape(len(trace), -1).T.astype(np.float32)
    halves = _Halves.of(unit.values)
    true = halves.match(rows)
    rng = np.random.default_rng(seed)
    margin = max(1, len(trace) // 20)
    shifts = rng.integers(margin, len(trace) - margin, null_shifts)
    null = np.concatenate([halves.match(part).held_out for part in _shifted(rows, shifts)])
    null = null.reshape(null_shifts, len(rows))
    dims, shape = list(trace.dims[1:]), trace.shape[1:]
    found = {
        "correlation": true.held_out,
        "selected": true.selected,
        "p_value": p_value(true.held_out, null),
        **true.best_unit(unit.shape[2:]),
    }
    data: dict[str, Any] = {key: (dims, value.reshape(shape)) for key, value in found.items()}
    each = true.by_channel.T.reshape(*shape, unit.shape[1])
    data["channel_correlation"] = ([*dims, "channel"], each)
    data["null"] = (["shift", *dims], null.reshape(null_shifts, *shape))
    coords = {key: value for key, value in trace.coords.items() if "time" not in value.dims}
    layer = str(unit.attrs.get("layer", ""))
    attrs = {"kind": "interneuron matches", "seed": seed, "layer": layer}
    return xr.Dataset(data, coords=coords, attrs=attrs)


def draw_interneuron_matches(matches: xr.Dataset, ax: Axes) -> Axes:
    """Draw each interneuron's held-out correlation over the spread of its null.

    Parameters
    ----------
    matches : xarray.Dataset
        What `match_interneurons` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; filled points are above 95 % of their null.
    """
    score = matches["correlation"].stack(interneuron=matches["correlation"].dims)
    null = matches["null"].stack(interneuron=matches["correlation"].dims)
    low, high = np.nanpercentile(null, [2.5, 97.5], axis=null.get_axis_num("shift"))
    sure = matches["p_value"].values.ravel() <= 0.05
    at = np.arange(score.size)
    ax.hlines(at, low, high, color=COLOURS.quiet, linewidth=4, alpha=0.5, label="null, 95 %")
    for chosen, face in ((sure, COLOURS.ink), (~sure, COLOURS.paper)):
        ax.scatter(score[chosen], at[chosen], facecolor=face, edgecolor=COLOURS.ink, zorder=3)
    names = [" ".join(map(str, name)) for name in score["interneuron"].values]
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.axvline(0, color=COLOURS.quiet, linewidth=0.5)
    ax.set_xlabel("held-out correlation with the best unit")
    return ax


@dataclass(frozen=True)
class _Match:
    """Correlations of rows with the best units; the first axis is which half chose."""

    chosen: Array
    scored: Array
    mean: Array
    place: Array

    @property
    def by_channel(self) -> Array:
        """Held-out correlation (channel, row) of the best position in each channel."""
        return self.scored.mean(axis=0)

    @property
    def held_out(self) -> Array:
        """Held-out correlation (row,) of the best unit of all channels."""
        return self._at_best(self.scored)

    @property
    def selected(self) -> Array:
        """Correlation (row,) of the best unit on the half that chose it."""
        return self._at_best(self.chosen)

    def best_unit(self, size: tuple[int, ...]) -> dict[str, Array]:
        """Return the unit (row,) with the largest mean correlation of both halves; -1 for none."""
        channel = np.nan_to_num(self.mean, nan=-np.inf).argmax(axis=0)
        place = np.take_along_axis(self.place, channel[None], axis=0)[0]
        row, column = np.divmod(place, size[-1] if size else 1)
        known = np.isfinite(self.mean).any(axis=0)
        names = ("best_channel", "best_row", "best_column")
        return {
            name: np.where(known, value, -1)
            for name, value in zip(names, (channel, row, column), strict=True)
        }

    def _at_best(self, values: Array) -> Array:
        best = np.nan_to_num(self.chosen, nan=-np.inf).argmax(axis=1)
        return np.take_along_axis(values, best[:, None], axis=1)[:, 0].mean(axis=0)


@dataclass(frozen=True)
class _Halves:
    """Standardised activations (channel, position, time) of two halves; constant units are 0."""

    first: Array
    second: Array
    usable: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, activations: Array) -> _Halves:
        units = activations.reshape(*activations.shape[:2], -1).transpose(1, 2, 0)
        middle = units.shape[-1] // 2
        floor = 1e-6 * float(np.abs(units).max())
        parts = (units[..., :middle], units[..., middle:])
        usable = np.logical_and(*(part.std(axis=-1) > floor for part in parts))
        if not usable.any():
            raise InputError("activations: no unit varies over time; check the layer and the model")
        first, second = (_standardised(part, usable) for part in parts)
        return cls(first, second, usable)

    def match(self, rows: Array) -> _Match:
        """Match traces (row, time) with the best unit of each channel."""
        middle = self.first.shape[-1]
        parts = (rows[:, :middle], rows[:, middle:])
        varies = np.logical_and(*(part.std(axis=-1) > 0 for part in parts))
        first, second = (_standardised(part, varies) for part in parts)
        found = [
            self._channel(first @ a.T / a.shape[-1], second @ b.T / b.shape[-1], use)
            for a, b, use in zip(self.first, self.second, self.usable, strict=True)
        ]
        chosen, scored, mean = (
            np.where(varies, np.stack([each[k] for each in found], axis=-2), np.nan)
            for k in range(3)
        )
        return _Match(chosen, scored, mean, np.stack([each[3] for each in found]))

    @staticmethod
    def _channel(
        first: Array, second: Array, usable: npt.NDArray[np.bool_]
    ) -> tuple[Array, Array, Array, Array]:
        """Choose a position for each row (row, position) on each half, and score on the other."""
        if not usable.any():
            gone = np.full(len(first), np.nan)
            return np.stack([gone] * 2), np.stack([gone] * 2), gone, np.zeros(len(first), int)
        both = (first, second, (first + second) / 2)
        places = [np.where(usable, r, -np.inf).argmax(axis=1) for r in both]
        at = np.arange(len(first))
        chosen = np.stack([first[at, places[0]], second[at, places[1]]])
        scored = np.stack([second[at, places[0]], first[at, places[1]]])
        return chosen, scored, both[2][at, places[2]], places[2]


def _standardised(values: Array, usable: npt.NDArray[np.bool_]) -> Array:
    """Return float32 values with mean 0 and deviation 1 along the last axis, 0 if not usable."""
    values = values - values.mean(axis=-1, keepdims=True, dtype=np.float64)
    deviation = np.where(usable, values.std(axis=-1), np.inf)
    return (values / deviation[..., None]).astype(np.float32)


def _shifted(rows: Array, shifts: Array) -> Iterator[Array]:
    """Yield all traces at each shift (shift * row, time), some shifts at a time."""
    step = max(1, _ROWS // len(rows))
    for start in range(0, len(shifts), step):
        yield np.concatenate([np.roll(rows, k, axis=1) for k in shifts[start : start + step]])


def _aligned(
    traces: xr.DataArray | xr.Dataset, activations: xr.DataArray, null_shifts: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return traces and activations at their common moments, time first."""
    problems = Problems()
    if isinstance(traces, xr.Dataset):
        if "potential" not in traces:
            raise InputError("traces: expected a variable 'potential'; pass a DataArray instead")
        traces = traces["potential"]
    problems.require("time" in traces.dims, f"traces: expected a dim time, got {traces.dims}")
    have = activations.dims[:2]
    problems.require(
        have == ("time", "channel"), f"activations: expected (time, channel, ...), got {have}"
    )
    problems.require(null_shifts >= 1, f"null_shifts: expected at least 1, got {null_shifts}")
    problems.raise_as("match_interneurons")
    others = {*traces.dims, *activations.dims} - {"time"}
    traces = traces.transpose("time", ...)
    trace, unit = xr.align(traces, activations, join="inner", exclude=others)
    count = trace.sizes["time"]
    problems.require(count >= 20, f"expected 20 common moments or more, got {count}")
    for name, values in (("traces", trace), ("activations", unit)):
        problems.require(bool(np.isfinite(values).all()), f"{name}: a value is NaN or infinite")
    problems.raise_as("match_interneurons")
    return trace, unit


def _within(size: float, budget_gb: float) -> None:
    """Raise if a result of this many bytes is over the budget."""
    if size > budget_gb * 1e9:
        raise InputError(
            f"activations take {size / 1e9:.1f} GB, over budget_gb={budget_gb:g}; use a shorter "
            "movie or a smaller layer"
        )
