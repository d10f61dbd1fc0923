"""Sums of the stimulus windows before spikes: one matrix product, or a walk over the spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retinacodec.compiled import compiled

__all__ = ["sparse_is_faster", "stretch_sum", "triggered_sum"]

_PRODUCT = 0.026e-9  # seconds for a frame, row of the lagged counts and pixel, one thread
_LAG = 2e-9  # seconds to write an entry of the lagged counts
_READ = 0.3e-9  # seconds to fetch a pixel of a frame, which few rows cannot hide
_WALK = 0.06e-9  # seconds for a spike and value of its window
_START = 20e-9  # seconds to find and begin one window
_TOGETHER = 4  # windows of a cell that are added at once, so that sums are fetched less often
_TERMS = 1024  # windows of a cell added in single precision


def triggered_sum(
    movie: Tensor,
    counts: Tensor,
    history: int,
    latency: int = 0,
    *,
    chunk: int = 4096,
    sparse: bool | None = None,
) -> Tensor:
    """Sum the stimulus windows before spikes, without building a window.

    Parameters
    ----------
    movie : torch.Tensor (time, y, x)
        Contrast.
    counts : torch.Tensor (time, cell)
        Spikes, or any weight, in each frame; NaN counts as zero.
    history : int
        Frames of a window.
    latency : int, default 0
        Frames between the newest frame of the window and the spike's own frame.
    chunk : int, default 4096
        Frames multiplied at a time; the sum over chunks is kept in double precision. A walk over
        few spikes takes more frames at a time, where this needs no memory.
    sparse : bool, optional
        Walk over the frames with spikes, else multiply all frames; whichever `sparse_is_faster`
        says if left out. The result is the same to rounding.

    Returns
    -------
    torch.Tensor (cell, history, y, x)
        ``sum_t counts[t, n] movie[t - latency - history + 1 + h]``, oldest frame first, over the
        frames t whose whole window was shown. Divided by the counts it is the spike-triggered
        average.

    Notes
    -----
    Dense: the counts of all cells, lagged by each frame of the history, are one matrix (cell and
    lag, time), small beside the movie; its product with the movie is the sum, and the movie is
    read once. Sparse: the window of a spike is one contiguous stretch of the movie, which is
    added in place, four of a cell at a time; those of all cells are taken in the order of time,
    so that neighbours find their frames in the cache.

    Examples
    --------
    >>> movie = torch.arange(4.0)[:, None, None]
    >>> triggered_sum(movie, torch.tensor([[9.0], [0.0], [2.0], [1.0]]), 2).flatten().tolist()
    [4.0, 7.0]
    """
    frames, cells = counts.shape
    kind = torch.float64 if movie.dtype == torch.float64 else torch.float32
    weights = counts.nan_to_num().to(kind)
    weights = torch.cat([weights, weights.new_zeros(history + latency, cells)])
    weights[: history - 1 + latency] = 0
    if sparse is None:
        here = movie.device.type == "cpu"
        sparse = here and sparse_is_faster(weights[:frames], history, movie[0].numel())
    total = torch.zeros(
        (cells * history, movie[0].numel()), dtype=torch.float64, device=movie.device
    )
    if sparse and movie.is_contiguous() and movie.dtype == kind:
        chunk = max(chunk, _TERMS * weights.numel() // max(int(weights.count_nonzero()), 1))
    add = _walk if sparse else _multiply
    for start in range(0, frames, chunk):
        stop = min(start + chunk, frames)
        add(total, movie, weights, start, stop, history, latency)
    return total.to(kind).view(cells, history, *movie.shape[1:])


def stretch_sum(
    movie: Tensor, counts: Tensor, start: int, stop: int, history: int, latency: int = 0
) -> Tensor:
    """Sum the stimulus windows before the spikes of a stretch of time, such as a block.

    Parameters
    ----------
    movie : torch.Tensor (time, y, x)
        Contrast.
    counts : torch.Tensor (time, cell)
        Spikes, or any weight, in each frame.
    start, stop : int
        First frame of the stretch, and the one after its last.
    history, latency : int
        As in `triggered_sum`.

    Returns
    -------
    torch.Tensor (cell, history, y, x)
        What `triggered_sum` would return if all other counts were 0; windows may reach out of
        the stretch, as far as the movie was shown.

    Examples
    --------
    >>> movie, counts = torch.arange(4.0)[:, None, None], torch.ones(4, 1)
    >>> stretch_sum(movie, counts, 2, 4, history=2).flatten().tolist()
    [3.0, 5.0]
    """
    first = max(start - latency - history + 1, 0)
    before = counts.new_zeros(start - first, counts.shape[1])
    weights = torch.cat([before, counts[start:stop]])
    return triggered_sum(movie[first:stop], weights, history, latency)


def sparse_is_faster(weights: Tensor, history: int, pixels: int) -> bool:
    """Say whether walking over the spikes costs less than multiplying all frames.

    Parameters
    ----------
    weights : torch.Tensor (time, cell)
        Spikes in each frame.
    history : int
        Frames of a window.
    pixels : int
        Pixels of a frame.

    Returns
    -------
    bool
        True where spikes are few.

    Notes
    -----
    A product costs ``rows (2 + .026 pixels) + .3 pixels`` ns a frame, with ``rows = cells history
    / threads``, and a walk ``20 + .06 history pixels`` ns a spike, measured on one core. They cross
    near .45 spikes per bin of large frames, and nearer to 1 where frames have few pixels.
    """
    frames, cells = weights.shape
    rows = cells * history / torch.get_num_threads()
    product = frames * (rows * (_LAG + _PRODUCT * pixels) + _READ * pixels)
    walk = int(weights.count_nonzero()) * (_START + _WALK * history * pixels)
    return bool(walk < product)


def _multiply(
    total: Tensor,
    movie: Tensor,
    weights: Tensor,
    start: int,
    stop: int,
    history: int,
    latency: int,
) -> None:
    """Add what the movie frames from start to stop give to the spikes after them."""
    ahead = weights[start + latency : stop + latency + history - 1].unfold(0, history, 1)
    lagged = ahead.flip(2).permute(1, 2, 0).reshape(len(total), stop - start)
    total += lagged @ movie[start:stop].flatten(1).to(weights.dtype)


def _walk(
    total: Tensor,
    movie: Tensor,
    weights: Tensor,
    start: int,
    stop: int,
    history: int,
    latency: int,
) -> None:
    """Add the windows of the spikes from start to stop."""
    part = weights[start:stop].cpu().numpy()
    low, pixels = max(start - latency - history + 1, 0), movie[0].numel()
    shown = movie[low:stop].detach().cpu().to(weights.dtype).contiguous().view(-1).numpy()
    time, row, weight = _in_groups(part)
    sums = np.zeros((part.shape[1], history * pixels), dtype=part.dtype)
    oldest = (start + time - latency - history + 1 - low) * pixels
    _add_stretches(shown, oldest, row, weight, sums)
    total += torch.from_numpy(sums).view_as(total).to(total.device)


def _in_groups(weights: Any) -> tuple[Any, Any, Any]:
    """Return times (group, 4), cells (group,) and weights (group, 4) of a few spikes together.

    The last group of a cell is filled up with its last spike, of no weight.
    """
    cells = weights.shape[1]
    cell, time = np.nonzero(weights.T)
    size = np.bincount(cell, minlength=cells)
    last = np.cumsum(size)
    groups = -(-size // _TOGETHER)
    ends = np.cumsum(groups)
    shift = _TOGETHER * (ends - groups) - (last - size)
    place = np.arange(cell.size) + np.repeat(shift, size)
    times = np.repeat(time[last[size > 0] - 1], _TOGETHER * groups[size > 0])
    times[place] = time
    values = np.zeros(times.size, dtype=weights.dtype)
    values[place] = weights[time, cell]
    order = np.argsort(times[::_TOGETHER], kind="stable")
    rows = np.repeat(np.arange(cells), groups)[order]
    return times.reshape(-1, _TOGETHER)[order], rows, values.reshape(-1, _TOGETHER)[order]


@compiled
def _add_stretches(values: Any, first: Any, row: Any, weight: Any, sums: Any) -> None:
    """Add weighted stretches of values, four at a time, to rows of the sums, in place."""
    length = sums.shape[1]
    for k in range(len(row)):
        a = values[first[k, 0] : first[k, 0] + length]
        b = values[first[k, 1] : first[k, 1] + length]
        c = values[first[k, 2] : first[k, 2] + length]
        d = values[first[k, 3] : first[k, 3] + length]
        p, q, r, s = weight[k, 0], weight[k, 1], weight[k, 2], weight[k, 3]
        target = sums[row[k]]
        for i in range(length):
            target[i] += (p * a[i] + q * b[i]) + (r * c[i] + s * d[i])
