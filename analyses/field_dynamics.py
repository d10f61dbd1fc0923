"""How much each property of a cell's receptive field changes over time, in numbers per cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import frame_weights
from retinacodec.analyses.resampling import weighted_medians
from retinacodec.bootstrap import percentiles
from retinacodec.errors import InputError, Problems
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["QUANTITIES", "draw_dynamics", "field_dynamics"]

Array = npt.NDArray[Any]

QUANTITIES = ("gain", "rate", "separability", "size", "elongation", "latency")
_SHARES = {
    "off_share": ("1", "share of frames with an OFF field"),
    "elongated_share": ("1", "share of frames whose field has an orientation"),
    "displacement": ("um", "RMS distance of the centre from its mean"),
    "orientation": ("degree", "mean orientation, from x towards larger y"),
    "alignment": ("1", "concentration of orientations, 0 (any) to 1 (always the same)"),
    "gain_rate": ("1", "correlation of gain and rate"),
}
_NEEDED = (*QUANTITIES, "polarity", "orientation", "centre_y", "centre_x")
_FEWEST = 20  # frames of a cell below which no interval is given


def field_dynamics(
    fields: xr.Dataset,
    weights: xr.DataArray | None = None,
    *,
    history: int,
    frame_rate: float,
    block_seconds: float = 1.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Summarise how the instantaneous receptive field of each cell varies over time.

    Parameters
    ----------
    fields : xarray.Dataset
        What `retinacodec.analyses.dynamic_fields` returns.
    weights : xarray.DataArray (time, cell), optional
        How much each frame counts, at least 0, such as ``fields["rate"]``. If left out, frames
        in which the cell fires count once and the others do not.
    history : int
        Frames of a window; blocks are at least as long.
    frame_rate : float
        Hz.
    block_seconds : float, default 1.0
        Length of the blocks of the movie that are resampled, s.
    draws : int, default 1000
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        ``median`` and ``spread`` (quantity, cell), the distance of the quartiles, of gain (Hz per
        unit contrast), rate (Hz), separability, size (um), elongation and latency (s); over
        cells ``off_share``, the share of frames with an OFF field; ``elongated_share``, that
        with an orientation; ``displacement``, um, RMS distance of the centre from its mean;
        ``orientation``, degrees, and ``alignment``, 0 to 1, axial mean and concentration of
        orientations; ``gain_rate``, correlation of gain and rate. Each with ``_low`` and
        ``_high``, block-bootstrap intervals (for ``orientation``, which is a circle, the half
        width ``orientation_error``); ``frames`` (cell), frames that count. NaN where nothing
        counts; intervals are NaN below 20 frames or two blocks.

    Raises
    ------
    InputError
        If a variable is missing, the weights do not fit, or a number is out of range.

    Notes
    -----
    With weights ``w_t`` and orientations ``a_t``: ``R = sum_t w_t exp(2 i a_t) / sum_t w_t``,
    ``alignment = |R|``, ``orientation = arg(R) / 2``, over frames that have one.
    ``displacement = sqrt(sum_t w_t |c_t - c|^2 / sum_t w_t)`` with ``c`` the weighted mean
    centre. Alignment is above 0 by chance: ``1 / sqrt(n)`` for n independent frames.

    References
    ----------
    .. [1] Mardia and Jupp, Directional Statistics (2000), section 2 (axial data).
    """
    _check(fields, history, frame_rate, block_seconds)
    weight = _weights(fields, weights)
    length = max(int(np.ceil(block_seconds * frame_rate)), history)
    drawn = frame_weights(fields["frame"].values, length, draws, seed)
    blocks = int(np.unique(drawn, axis=1).shape[1])
    tables = []
    for cell in range(fields.sizes["cell"]):
        one = {name: fields[name].isel(cell=cell).values.astype(np.float64) for name in _NEEDED}
        counts = weight[:, cell]
        value = _statistics(one, counts[None])
        known = blocks > 1 and np.count_nonzero(counts) >= _FEWEST
        samples = _statistics(one, drawn * counts) if known else None
        tables.append(_intervals(value, samples, level, blocks))
    return _described(fields, tables, (weight > 0).sum(axis=0), level, seed)


def draw_dynamics(dynamics: xr.Dataset, ax: Axes, *, name: str = "off_share") -> Axes:
    """Draw a statistic of every cell with its interval.

    Parameters
    ----------
    dynamics : xarray.Dataset
        What `field_dynamics` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    name : str, default "off_share"
        A statistic of cells, or a quantity whose median is drawn, its quartile distance above.

    Returns
    -------
    matplotlib.axes.Axes
        The axis.

    Raises
    ------
    InputError
        If there is no such statistic or quantity.
    """
    if name in QUANTITIES:
        one = dynamics.sel(quantity=name)
        parts = [("median", "o", COLOURS.ink), ("spread", "s", COLOURS.series[0])]
        label = f"{name} ({QUANTITY_UNITS[name]})" if QUANTITY_UNITS[name] != "1" else name
    elif name in _SHARES and name != "orientation":
        one, parts = dynamics, [(name, "o", COLOURS.ink)]
        units, words = _SHARES[name]
        label = words if units == "1" else f"{words} ({units})"
    else:
        known = [*QUANTITIES, *(key for key in _SHARES if key != "orientation")]
        raise InputError(f"draw_dynamics: expected one of {', '.join(known)}, got {name!r}")
    place = np.arange(dynamics.sizes["cell"])
    for number, (part, marker, colour) in enumerate(parts):
        at = place + 0.15 * (2 * number - len(parts) + 1)
        ax.vlines(at, one[f"{part}_low"], one[f"{part}_high"], color=colour, linewidth=1)
        words = {"spread": "distance of quartiles"}.get(part, part)
        ax.plot(at, one[part], marker, color=colour, markersize=2.5, label=words)
    ax.set_xticks(place, labels=dynamics["cell"].values.astype(str).tolist())
    ax.set(xlabel="Cell", ylabel=label[0].upper() + label[1:])
    ax.set_xlim(-0.5, place.size - 0.5)
    if len(parts) > 1:
        ax.legend()
    return ax


QUANTITY_UNITS = {
    "gain": "Hz per contrast",
    "rate": "Hz",
    "separability": "1",
    "size": "um",
    "elongation": "1",
    "latency": "s",
}


def _check(fields: xr.Dataset, history: int, frame_rate: float, block_seconds: float) -> None:
    problems = Problems()
    for name in (*_NEEDED, "firing", "frame"):
        problems.require(name in fields, f"no variable {name!r}; pass what dynamic_fields returns")
    problems.require(history >= 1, f"history: expected at least 1, got {history}")
    problems.require(frame_rate > 0, f"frame_rate: expected above 0 Hz, got {frame_rate}")
    problems.require(block_seconds > 0, f"block_seconds: expected above 0, got {block_seconds}")
    problems.raise_as("field_dynamics")


def _weights(fields: xr.Dataset, weights: xr.DataArray | None) -> Array:
    """Return weights (time, cell) that are 0 where there is no field."""
    chosen = fields["firing"] if weights is None else weights
    shape = {name: fields.sizes[name] for name in ("time", "cell")}
    if dict(chosen.sizes) != shape:
        raise InputError(f"weights: expected dims (time, cell) {shape}, got {dict(chosen.sizes)}")
    values = chosen.transpose("time", "cell").values.astype(np.float64)
    if not (values >= 0).all():
        raise InputError("weights: a value is negative or NaN; pass weights of at least 0")
    seen = fields["polarity"].transpose("time", "cell").notnull().values
    return np.where(seen, values, 0.0)


def _statistics(one: dict[str, Array], weight: Array) -> dict[str, Array]:
    """Return every statistic (draw,) of one cell for rows of weights (draw, time)."""
    found = {}
    for name in QUANTITIES:
        found[f"median {name}"] = weighted_medians(one[name], weight)
        low, high = (_quantiles(one[name], weight, share) for share in (0.25, 0.75))
        found[f"spread {name}"] = high - low
    turned = np.isfinite(one["orientation"])
    axial = np.exp(2j * np.deg2rad(np.where(turned, one["orientation"], 0.0)))
    resultant = _mean(np.where(turned, axial, 0), weight * turned)
    found["off_share"] = _mean(one["polarity"] < 0, weight)
    found["elongated_share"] = _mean(turned, weight)
    found["displacement"] = np.sqrt(
        sum(_variance(one[f"centre_{axis}"], one[f"centre_{axis}"], weight) for axis in "yx")
    )
    found["orientation"] = np.rad2deg(np.angle(resultant)) / 2 % 180
    found["alignment"] = np.abs(resultant)
    pair = one["gain"], one["rate"]
    both = weight * np.isfinite(pair).all(axis=0)
    spread = np.sqrt(_variance(pair[0], pair[0], both) * _variance(pair[1], pair[1], both))
    joint = _variance(*pair, both)
    found["gain_rate"] = np.divide(
        joint, spread, out=np.full_like(joint, np.nan), where=spread > 1e-12
    )
    return found


def _mean(values: Array, weight: Array) -> Array:
    """Return weighted means (draw,) of the values (time,) there are, NaN where nothing counts."""
    known = np.isfinite(values)
    total = weight @ known
    mean = (weight @ np.where(known, values, 0)) / np.where(total > 0, total, 1)
    return np.where(total > 0, mean, np.nan)


def _variance(one: Array, other: Array, weight: Array) -> Array:
    """Return weighted covariances (draw,), at least 0 where both are the same.

    Neither has a value where the other has none, or such frames have no weight.
    """
    shifted = [
        values - np.nanmean(values) if np.isfinite(values).any() else values
        for values in (one, other)
    ]
    joint = _mean(shifted[0] * shifted[1], weight)
    covariance = joint - _mean(shifted[0], weight) * _mean(shifted[1], weight)
    return np.maximum(covariance, 0) if one is other else covariance


def _quantiles(values: Array, weight: Array, share: float) -> Array:
    """Return the least value that so large a share of the weight does not exceed (draw,)."""
    order = np.argsort(values)[: np.isfinite(values).sum()]
    if not order.size:
        return np.full(len(weight), np.nan)
    reached = np.cumsum(weight[:, order], axis=1)
    at = (reached >= share * reached[:, -1:]).argmax(axis=1)
    return np.where(reached[:, -1] > 0, values[order][at], np.nan)


def _intervals(
    value: dict[str, Array], samples: dict[str, Array] | None, level: float, blocks: int
) -> dict[str, float]:
    """Return values with the ends of their intervals."""
    found = {}
    for name, one in value.items():
        found[name] = float(one[0])
        drawn = np.array([np.nan]) if samples is None else samples[name]
        if name == "orientation":
            away = np.abs((drawn - one[0] + 90) % 180 - 90)
            known = np.isfinite(away).any()
            found["orientation_error"] = float(np.nanquantile(away, level)) if known else np.nan
            continue
        low, high = percentiles(drawn, level, blocks=blocks)
        found[f"{name}_low"], found[f"{name}_high"] = float(low), float(high)
    return found


def _described(
    fields: xr.Dataset, tables: list[dict[str, float]], frames: Array, level: float, seed: int
) -> xr.Dataset:
    """Put the numbers of all cells into a dataset with units."""
    data: dict[str, Any] = {}
    for part in ("median", "spread"):
        for end in ("", "_low", "_high"):
            rows = [[table[f"{part} {name}{end}"] for table in tables] for name in QUANTITIES]
            data[part + end] = (("quantity", "cell"), np.array(rows))
    for name, (units, words) in _SHARES.items():
        attrs = {"units": units, "long_name": words}
        for end in ("_error",) if name == "orientation" else ("_low", "_high"):
            data[name + end] = ("cell", np.array([table[name + end] for table in tables]), attrs)
        data[name] = ("cell", np.array([table[name] for table in tables]), attrs)
    data["frames"] = ("cell", frames, {"units": "1", "long_name": "frames that count"})
    each = [QUANTITY_UNITS[name] for name in QUANTITIES]
    coords = {
        "quantity": list(QUANTITIES),
        "units": ("quantity", each),
        "cell": fields["cell"].values,
    }
    return xr.Dataset(data, coords=coords).assign_attrs(
        kind="field_dynamics", level=level, seed=seed
    )
