"""Whether moments with the same active modes have the same receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.field_frames import firing_frames, loading_at, loading_on, mode_sets
from retinacodec.analyses.field_pairs import FieldQuestion, summarise
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit, predict
from retinacodec.gradients import latent_fields
from retinacodec.plotting import COLOURS
from retinacodec.schema import check_modes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_similarity", "field_similarity"]


def field_similarity(
    circuit: Circuit,
    movie: xr.Dataset,
    modes: xr.Dataset,
    *,
    cells: Sequence[int | str] | None = None,
    frames: npt.ArrayLike | None = None,
    max_frames: int = 600,
    minimum_rate: float = 1.0,
    share: float = 0.1,
    rate_bins: int = 5,
    block_seconds: float = 1.0,
    null_shifts: int = 200,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    budget_gb: float = 1.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Ask whether frames with the same active modes have more similar receptive fields.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    modes : xarray.Dataset
        Modes with ``loading`` (time, mode) of the same movie.
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames to compare. If left out, up to `max_frames` of those in which a cell fires.
    max_frames : int, default 600
        Most frames that are chosen where `frames` is left out.
    minimum_rate, rate_bins, block_seconds, null_shifts, draws, level, seed
        As in `retinacodec.analyses.compare_fields`.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    budget_gb : float, default 1.0
        Memory for fields, GB; cells are done in groups that fit.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        What `retinacodec.analyses.compare_fields` returns for the whole space-time fields.

    Raises
    ------
    InputError
        If movie, modes, cells or frames do not fit, or a number is out of range.

    Notes
    -----
    Equations, null and interval: see `retinacodec.analyses.compare_fields`.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8B and D, of which this is the test.
    """
    loading = loading_on(check_modes(modes), movie)
    if frames is None:
        rate = predict(circuit, movie, device=device)
        frames = firing_frames(circuit, rate, cells, loading, minimum_rate, max_frames)
    wanted = np.atleast_1d(np.asarray(frames))
    sets = mode_sets(loading.rename(frame="time"), share=share).rename(time="frame")
    labels = loading_at(sets, wanted)
    question = FieldQuestion.of(
        labels.values,
        wanted,
        history=circuit.history or 1,
        frame_rate=movie.attrs["frame_rate"],
        minimum_rate=minimum_rate,
        rate_bins=rate_bins,
        block_seconds=block_seconds,
        null_shifts=null_shifts,
        draws=draws,
        seed=seed,
    )
    one = latent_fields(
        circuit, movie, cells=cells, frames=wanted[:1], device=device, progress=False
    )
    names = one.rate["cell"].values.astype(str).tolist()
    each = one.latent.nbytes / len(names) * wanted.size / 1e9
    size = max(int(budget_gb / each), 1)
    answers = []
    for start in range(0, len(names), size):
        fields = latent_fields(
            circuit,
            movie,
            cells=names[start : start + size],
            frames=wanted,
            budget_gb=max(budget_gb, 1.001 * each),
            device=device,
            progress=progress,
        )
        answers += question.answer(fields)
    return summarise(answers, one.rate["cell"], level, seed)


def draw_similarity(similarity: xr.Dataset, ax: Axes) -> Axes:
    """Draw the difference in similarity of every cell with its interval, and the null.

    Parameters
    ----------
    similarity : xarray.Dataset
        What `field_similarity` returns.
    ax : matplotlib.axes.Axes
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: grey bars hold 95 % of the null, dots with lines are the cells, the last one
        the mean over cells.
    """
    values = np.append(similarity["difference"], similarity["pooled_difference"])
    low = np.append(similarity["difference_low"], similarity["pooled_difference_low"])
    high = np.append(similarity["difference_high"], similarity["pooled_difference_high"])
    null = np.column_stack([similarity["null"], similarity["pooled_null"]])
    bottom, top = percentiles(null)
    place = np.arange(values.size)
    ax.bar(place, top - bottom, bottom=bottom, width=0.7, color=COLOURS.paper, label="null (95 %)")
    ax.vlines(place, low, high, color=COLOURS.ink, linewidth=1)
    ax.plot(place, values, "o", color=COLOURS.ink, markersize=3, label="same minus different modes")
    ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
    names = [*similarity["cell"].values.astype(str).tolist(), "mean"]
    ax.set_xticks(place, labels=names)
    ax.set(xlabel="cell", ylabel="difference of cosines")
    ax.legend()
    return ax
