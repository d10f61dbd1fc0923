"""Whether movie and spikes lie on one clock: responses must follow the stimulus, all along."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.sta_significance import ShiftNull, sta_significance
from retinacodec.errors import InputError, Problems
from retinacodec.schema import check_pair, check_recording, check_stimulus, make_recording

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["alignment_words", "check_alignment"]

Array = npt.NDArray[Any]

_EARLY, _LATE = 0.02, 0.4  # s before the spike: where the peak of a retinal response lies


def check_alignment(
    movie: xr.Dataset,
    recording: xr.Dataset,
    *,
    past_s: float = 0.5,
    future_s: float = 0.25,
    most_pixels: int = 256,
    blocks: int = 8,
    level: float = 0.01,
) -> xr.Dataset:
    """Test whether cells respond to the frames before their spikes, and to none after them.

    A wrong file, a wrong clock, exchanged trials or frames counted at a nominal rate show here
    before any model is fitted: no cell has an average stimulus, or it lies in the future, or its
    delay grows in the course of the recording.

    Parameters
    ----------
    movie : Stimulus
        ``contrast`` (time, y, x).
    recording : Recording or Traces
        ``spike_count`` or ``trace`` (time, cell) on its frames.
    past_s, future_s : float, default 0.5 and 0.25
        How far to look before and after the frame of a spike, s.
    most_pixels : int, default 256
        Larger frames are averaged over blocks of pixels down to this many.
    blocks : int, default 8
        Stretches of the recording whose delays are compared, 3 or more.
    level : float, default 0.01
        Share of false cells among those that are named.

    Returns
    -------
    xarray.Dataset
        ``course`` (cell, lag), standard errors of the average at the pixel of its past peak, for
        lags in s, the past negative; for each cell ``peak_past`` and ``peak_future`` (largest
        ``abs(z)`` over pixels and lags), ``p_past`` and ``p_future``, ``responds`` and
        ``foresees`` (after FDR over cells), ``peak_lag`` s, ``peak_y`` and ``peak_x`` um,
        ``polarity`` (1 ON, -1 OFF); ``delay`` (block, cell), by how many s each stretch responds
        later than the whole; ``drift`` (cell) s from the first to the last stretch with
        ``drift_error`` (its standard error); ``preview`` (preview_frame, y, x), frames as read.
        NaN for cells that do not fire.

    Raises
    ------
    InputError
        If movie and recording do not fit or a number is out of range.

    Notes
    -----
    Averages and their chance levels are those of `sta_significance` with every circular shift as
    null; the future is the past of responses that come `future_s` later. The delay of stretch b
    is, to first order, ``<k_b - k, dk/dt> / <dk/dt, dk/dt>`` with ``k`` the average of the others
    at the peak pixel; the drift is the weighted regression line through the delays. A trace stands
    for spikes by its height above its lowest value, in standard deviations.
    """
    recording = _as_responses(recording)
    rate = _checked(movie, recording, past_s, future_s, most_pixels, blocks)
    history, future = (max(2, round(span * rate)) for span in (past_s, future_s))
    coarse = _coarse(movie, most_pixels)
    test: dict[str, Any] = {"null": ShiftNull(), "level": level}
    past = sta_significance(coarse, recording, history=history, **test)
    later = _delayed(recording, future)
    ahead = sta_significance(coarse, later, history=future, **test)
    ahead = ahead.assign_coords(lag=ahead["lag"] + future / rate)
    place = _peaks(past["z"])
    both = xr.concat([past["z"], ahead["z"]], "lag")
    course = both.isel(y=place["row"], x=place["column"]).transpose("cell", "lag")
    delay, weight = _delays(coarse, recording, place, history, blocks)
    drift, error = _line(delay, weight)
    result = xr.Dataset(
        {
            **_verdicts(past, ahead),
            "course": course.drop_vars(["y", "x"], errors="ignore"),
            "peak_lag": past["lag"][place["lag"]].drop_vars("lag"),
            "peak_y": coarse["y"][place["row"]].drop_vars("y"),
            "peak_x": coarse["x"][place["column"]].drop_vars("x"),
            "polarity": np.sign(place["value"]),
            "delay": (("block", "cell"), delay),
            "drift": (("cell",), drift),
            "drift_error": (("cell",), error),
            "preview": _preview(movie),
        },
        coords={"cell": recording["cell"]},
        attrs={"kind": "alignment", "frame_rate": rate, "level": level},
    )
    result["course"].attrs = {"units": "1", "long_name": "average stimulus (standard errors)"}
    for name in ("peak_lag", "delay", "drift", "drift_error"):
        result[name].attrs = {"units": "s"}
    return result


def alignment_words(check: xr.Dataset) -> tuple[Sequence[str], bool]:
    """Say what `check_alignment` found, for a reader.

    Parameters
    ----------
    check : xarray.Dataset
        Its result.

    Returns
    -------
    (sequence of str, bool)
        Sentences, and whether nothing speaks against the alignment.

    Examples
    --------
    >>> words, fine = alignment_words(check_alignment(movie, recording))  # doctest: +SKIP
    """
    cells = check.sizes["cell"]
    responds, foresees = (check[name].values.astype(bool) for name in ("responds", "foresees"))
    late = foresees & (check["peak_future"].values > check["peak_past"].values)
    if not responds.any() and not late.any():
        return [
            f"None of {cells} cells has an average stimulus above chance: the spikes may belong "
            "to another movie or clock, or the cells may not respond to it linearly."
        ], False
    words = [f"{responds.sum()} of {cells} cells follow the movie (average stimulus above chance)."]
    lags = -check["peak_lag"].values[responds] * 1e3
    if lags.size:
        first, middle, last = np.percentile(lags, [0, 50, 100])
        off = int((check["polarity"].values[responds] < 0).sum())
        words.append(
            f"Their peaks lie {first:.0f} to {last:.0f} ms before the spike (median {middle:.0f} "
            f"ms); {responds.sum() - off} are ON and {off} OFF, if white is the larger value."
        )
    odd = int(((lags < _EARLY * 1e3) | (lags > _LATE * 1e3)).sum())
    problems = []
    if odd > lags.size / 2:
        problems.append(
            f"{odd} peaks lie outside {_EARLY * 1e3:.0f} to {_LATE * 1e3:.0f} ms, where responses "
            "of a retina peak: is the clock of the frames shifted?"
        )
    if late.any():
        problems.append(
            f"{late.sum()} cells follow frames that came after their spikes more than those "
            "before: the clocks of spikes and frames do not agree."
        )
    problems += _drift_words(check, responds)
    return [*words, *problems], not problems


def _verdicts(past: xr.Dataset, future: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return peaks, chances and verdicts of both sides under the names of the result."""
    sides = (("past", past, "responds"), ("future", future, "foresees"))
    found: dict[str, xr.DataArray] = {}
    for side, result, verdict in sides:
        found |= {f"peak_{side}": result["peak"], f"p_{side}": result["p"]}
        found[verdict] = result["found"]
    return found


def _drift_words(check: xr.Dataset, responds: Array) -> list[str]:
    """Say whether the delay of the cells grows in the course of the recording.

    Its error is that of the mean delay of all cells around a line through the stretches, since
    cells that saw the same frames err together.
    """
    delay, error = check["delay"].values[:, responds], check["drift_error"].values[responds]
    known = np.isfinite(delay).all(axis=0) & (error > 0)
    if not known.any():
        return []
    together = np.average(delay[:, known], axis=1, weights=error[known] ** -2.0)
    mean, spread = (float(part[0]) for part in _line(together[:, None], np.ones((len(delay), 1))))
    frame = 1 / float(check.attrs["frame_rate"])
    if abs(mean) < max(3 * spread, frame / 4):
        return []
    return [
        f"Responses come {mean * 1e3:+.0f} ms (standard error {spread * 1e3:.1f}) later at the "
        "end than at the beginning: frames may have been dropped without a trace in their times."
    ]


def _checked(
    movie: xr.Dataset,
    recording: xr.Dataset,
    past_s: float,
    future_s: float,
    most_pixels: int,
    blocks: int,
) -> float:
    """Return the frame rate of a movie and recording that fit each other."""
    check_stimulus(movie)
    check_recording(recording)
    check_pair(movie, recording)
    problems = Problems()
    for name, seconds in (("past_s", past_s), ("future_s", future_s)):
        problems.require(0 < seconds <= 5, f"{name}: expected above 0 and up to 5 s, got {seconds}")
    problems.require(most_pixels >= 1, f"most_pixels: expected 1 or more, got {most_pixels}")
    problems.require(blocks >= 3, f"blocks: expected 3 or more, got {blocks}")
    problems.raise_as("check_alignment")
    return float(recording.attrs["frame_rate"])


def _as_responses(recording: xr.Dataset) -> xr.Dataset:
    """Return a recording; of traces, how far each lies above its lowest value."""
    if "trace" not in recording or "spike_count" in recording:
        return recording
    trace = recording["trace"].transpose("time", "cell")
    values = trace.values.astype(np.float64)
    known = np.isfinite(values)
    lowest = np.where(known, values, np.inf).min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        height = np.where(known, values - lowest, 0.0)
        mean = height.sum(axis=0) / known.sum(axis=0)
        spread = np.sqrt((known * (height - mean) ** 2).sum(axis=0) / known.sum(axis=0))
        height = np.where(known, height / np.where(spread > 0, spread, 1.0), np.nan)
    return make_recording(
        height,
        time=recording["time"].values,
        frame_rate=float(recording.attrs["frame_rate"]),
        cells=[str(cell) for cell in recording["cell"].values],
        name=str(recording.attrs.get("name", "")),
    )


def _coarse(movie: xr.Dataset, most_pixels: int) -> xr.Dataset:
    """Average blocks of pixels until at most so many are left."""
    height, width = movie.sizes["y"], movie.sizes["x"]
    block = 1
    while max(1, height // block) * max(1, width // block) > most_pixels:
        block += 1
    if block == 1:
        return movie
    steps = {"y": min(block, height), "x": min(block, width)}
    mean: Any = movie[["contrast"]].coarsen(steps, boundary="trim")  # type: ignore[arg-type]
    coarse: xr.Dataset = mean.mean(keep_attrs=True)
    coarse["contrast"] = coarse["contrast"].astype(np.float32)
    coarse.attrs["pixel_um"] = float(movie.attrs["pixel_um"]) * block
    return coarse


def _delayed(recording: xr.Dataset, frames: int) -> xr.Dataset:
    """Let every response come some frames later; the first frames are then not observed."""
    counts = recording[["spike_count"]].copy(deep=True)
    values = counts["spike_count"].transpose("time", "cell").values
    if frames >= len(values):
        raise InputError(f"check_alignment: {len(values)} frames are fewer than future_s")
    moved = np.full_like(values, np.nan)
    moved[frames:] = values[:-frames]
    return counts.assign(spike_count=(("time", "cell"), moved, recording["spike_count"].attrs))


def _peaks(z: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return where and how large the largest value of each cell is."""
    values = np.nan_to_num(z.transpose("cell", "lag", "y", "x").values)
    flat = values.reshape(len(values), -1)
    best = np.abs(flat).argmax(axis=1)
    lag, row, column = np.unravel_index(best, values.shape[1:])
    found = {"lag": lag, "row": row, "column": column, "value": flat[np.arange(len(flat)), best]}
    return {name: xr.DataArray(each, dims="cell") for name, each in found.items()}


def _delays(
    movie: xr.Dataset,
    recording: xr.Dataset,
    place: dict[str, xr.DataArray],
    history: int,
    blocks: int,
) -> tuple[Array, Array]:
    """Return the delay (block, cell) of each stretch in s, and the weight it deserves."""
    rate = float(recording.attrs["frame_rate"])
    pixels = movie["contrast"].values[:, place["row"].values, place["column"].values]
    pixels = (pixels - pixels.mean(axis=0)).astype(np.float64)
    counts = recording["spike_count"].transpose("time", "cell").values.astype(np.float64)
    seen = np.isfinite(counts)
    mean = np.where(seen, counts, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    k = np.nan_to_num(counts - mean)
    edges = np.linspace(history, len(k), blocks + 1).astype(int)
    lags = np.arange(-history + 1, 3)  # a little of the future: delays may shrink
    kernels = np.zeros((blocks, len(lags), k.shape[1]))
    for number, (start, stop) in enumerate(pairwise(edges)):
        stop = min(stop, len(k) - 3)
        for place_of, lag in enumerate(lags):
            kernels[number, place_of] = np.sum(k[start:stop] * pixels[start + lag : stop + lag], 0)
        kernels[number] /= max(1, stop - start)
    total = kernels.sum(axis=0)
    delay = np.full((blocks, k.shape[1]), np.nan)
    for number in range(blocks):
        others = (total - kernels[number]) / (blocks - 1)
        slope = np.gradient(others, 1 / rate, axis=0)
        power = (slope**2).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            against = ((kernels[number] - others) * slope).sum(axis=0) / power
        delay[number] = against * (blocks - 1) / blocks  # now against the mean of all
    spikes = np.stack([np.nansum(counts[a:b], axis=0) for a, b in pairwise(edges)])
    delay[~(spikes > 0)] = np.nan  # nor is there a delay where a cell was not observed
    return delay, spikes


def _line(delay: Array, weight: Array) -> tuple[Array, Array]:
    """Return the rise of the regression line from the first to the last stretch, and its error."""
    blocks = len(delay)
    weight = np.where(np.isfinite(delay), weight, 0.0)
    total = weight.sum(axis=0)
    values = np.nan_to_num(delay)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = np.arange(blocks)[:, None] - (weight * np.arange(blocks)[:, None]).sum(0) / total
        spread = (weight * at**2).sum(axis=0)
        slope = (weight * at * values).sum(axis=0) / spread
        mean = (weight * values).sum(axis=0) / total
        left = values - mean - at * slope
        variance = (weight * left**2).sum(axis=0) / (blocks - 2) / spread
    return slope * (blocks - 1), np.sqrt(variance) * (blocks - 1)


def _preview(movie: xr.Dataset) -> xr.DataArray:
    """Return three frames of the movie: from its beginning, middle and end."""
    last = movie.sizes["time"] - 1
    frames = movie["contrast"].isel(time=[last // 20, last // 2, last - last // 20])
    return frames.rename(time="preview_frame").rename("preview")
