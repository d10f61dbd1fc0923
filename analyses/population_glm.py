"""Generalised linear models of a whole population: Poisson, log link, post-spike filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.glm_design import Stimulus, history_terms, log_cosines, stimulus_terms
from retinacodec.analyses.population_ln import driven, filter_array, predicted_rates
from retinacodec.analyses.population_windows import PopulationData, WindowGroup, window_groups
from retinacodec.errors import InputError, Problems
from retinacodec.field_priors import FieldPrior
from retinacodec.poisson_regression import PoissonFit, choose_penalty
from retinacodec.recordings import Split

__all__ = ["PopulationGLM", "fit_glm"]

Array = npt.NDArray[Any]

PENALTIES = tuple(10.0**power for power in np.arange(2.0, -4.5, -0.5))
_GAIN_PRIOR = 1.0  # precision of the log gains of a post-spike filter


@dataclass(frozen=True, eq=False)
class PopulationGLM:
    """A generalised linear model of every cell of a recording.

    Attributes
    ----------
    filters : xarray.DataArray (cell, lag, y, x)
        Stimulus filters, log rate per unit contrast, oldest frame first; NaN without a model.
    bias : ndarray (cell,)
        Logarithm of the expected count in a frame, at no contrast and after no spike.
    post_spike : xarray.DataArray (cell, after)
        What a spike adds to the logarithm of the rate in the frames after it, the first first;
        ``after`` s. No frames in a model of the stimulus alone.
    penalty : ndarray (cell,)
        Ridge penalty chosen, in units of the curvature along a basis function.
    converged : ndarray of bool (cell,)
        Whether the fit came to its end.
    largest : ndarray (cell,)
        Most spikes in a frame of training; no frame is predicted more than twice this.
    latency : int
        Frames between the newest frame of the window and the response.
    frame_rate : float
        Hz.
    link : str
        ``"log"``.
    """

    filters: xr.DataArray
    bias: Array
    post_spike: xr.DataArray
    penalty: Array
    converged: npt.NDArray[np.bool_]
    largest: Array
    latency: int
    frame_rate: float
    link: str = "log"

    def predict(self, movie: xr.Dataset, *, simulations: int = 50, seed: int = 0) -> xr.DataArray:
        """Return the rates for a movie.

        Parameters
        ----------
        movie : xarray.Dataset
            Stimulus with the pixels and the frame rate that the model was fitted to.
        simulations : int, default 50
            Spike trains that are simulated where the model has post-spike filters; their mean is
            the prediction. Without such filters nothing is simulated.
        seed : int, default 0
            Seed of the simulations.

        Returns
        -------
        xarray.DataArray (time, cell)
            Rate, Hz, from the first frame with a whole window; NaN for a cell without a model.
            Coordinate ``runaway`` (cell,): share of the simulations that ran away. They are left
            out of the mean, which is NaN where all did.

        Raises
        ------
        InputError
            If the movie does not fit the model or there is no simulation.

        Notes
        -----
        The recorded spikes are never looked at: a model that sees the spikes just before a frame
        predicts them, not the response to the stimulus. A simulation counts as run away if the
        rate reached its bound, twice `largest`, in more than one frame of a hundred.

        References
        ----------
        .. [1] Gerhard, Deger, Truccolo, PLoS Computational Biology 13, e1005390 (2017), on
           simulations that run away.
        """
        if simulations < 1:
            raise InputError(f"simulations: expected at least 1, got {simulations}")
        drive = driven(movie, self.filters, self.latency, self.frame_rate) + self.bias
        first = self.filters.sizes["lag"] - 1 + self.latency
        bound = 2 * self.largest
        if self.post_spike.sizes["after"] == 0:
            with np.errstate(over="ignore"):
                counts = np.minimum(np.exp(drive), bound)
            runaway = np.zeros(len(self.bias))
        else:
            kernel = np.nan_to_num(self.post_spike.values)
            simulated, runaway = _simulated(drive[first:], kernel, bound, simulations, seed)
            counts = np.concatenate([drive[:first], simulated])
        counts[:, np.isnan(self.bias)] = np.nan
        rates = predicted_rates(counts * self.frame_rate, movie, self.filters, self.latency)
        return rates.assign_coords(runaway=("cell", runaway))


def fit_glm(
    movie: xr.Dataset,
    recording: xr.Dataset,
    split: Split,
    *,
    history: int,
    latency: int = 0,
    post_spike: int = 0,
    post_spike_functions: int = 5,
    prior: FieldPrior | None = None,
    window: int | None = 8,
    functions: int = 200,
    penalties: Sequence[float] = PENALTIES,
    folds: int = 5,
) -> PopulationGLM:
    """Fit a generalised linear model to every cell of a recording.

    Parameters
    ----------
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    recording : xarray.Dataset
        Recording with ``spike_count`` (time, cell).
    split : Split
        Frames to fit to, and frames by which penalties are chosen; test frames are not looked at.
    history : int
        Frames of a stimulus filter.
    latency : int, default 0
        Frames between the newest frame of the window and the response.
    post_spike : int, default 0
        Frames after a spike in which it changes the rate. 0 is a model of the stimulus alone,
        whose prediction is exact and the one to score against repeats; with post-spike filters
        the prediction is the mean of simulations.
    post_spike_functions : int, default 5
        Raised cosines of logarithmic time that a post-spike filter is made of, at most
        `post_spike`.
    prior : FieldPrior, optional
        Where the basis of the stimulus filter comes from: smooth functions for
        `retinacodec.field_priors.Smooth`, which is meant if left out, or `Splines`, each with the
        lengths that suit the cell.
    window : int or None, default 8
        Pixels on each side of the square that holds the filter; None is the whole frame.
    functions : int, default 200
        Most basis functions of a filter; those of least variance under the prior are left out.
    penalties : sequence of float
        Ridge penalties that are tried, in units of the mean curvature along a basis function.
    folds : int, default 5
        Parts of the training frames, the last of which the prior is chosen by where there are no
        validation frames.

    Returns
    -------
    PopulationGLM
        The models; a cell that never changes its response in the training frames, or was
        observed in too few of them for so many folds, has none.

    Raises
    ------
    InputError
        If movie, recording and split do not fit, or a number is out of range.

    Notes
    -----
    ``k_t ~ Poisson(exp(bias + filter * contrast + sum_j post_spike_j k_(t - j)))``, fitted to the
    training frames with a ridge on the coefficients of the basis. The ridge with the largest
    likelihood of the validation frames is kept. Log gains of post-spike filters have a prior of
    variance 1.

    References
    ----------
    .. [1] Pillow et al., Nature 454, 995 (2008). Truccolo et al., J Neurophysiol 93, 1074 (2005).
    """
    _check(folds, post_spike, post_spike_functions, functions)
    data = PopulationData.of(movie, recording, split, history, latency)
    cells, after = data.counts.shape[1], log_cosines(post_spike, post_spike_functions)
    field = np.full((cells, history, *data.contrast.shape[1:]), np.nan)
    kernel = np.full((cells, post_spike), np.nan)
    bias, penalty = np.full(cells, np.nan), np.full(cells, np.nan)
    converged = np.zeros(cells, dtype=bool)
    for group in window_groups(data, prior, window, folds):
        shared: dict[bytes, Stimulus] = {}
        for place, cell in enumerate(group.cells):
            stimulus = _stimulus(data, group, place, functions, shared)
            found = _fit_cell(data, group, cell, stimulus, after, penalties)
            stop = 1 + stimulus.columns.shape[1]
            field[cell] = 0.0
            field[cell][:, *group.square.pixels] = stimulus.field(found.weights[1:stop])
            kernel[cell] = after @ found.weights[stop:]
            bias[cell] = found.weights[0]
            penalty[cell], converged[cell] = found.penalty, found.converged
    seconds = np.arange(1, post_spike + 1) / data.frame_rate
    return PopulationGLM(
        filters=filter_array(field, movie, data, "1"),
        bias=bias,
        post_spike=xr.DataArray(
            kernel,
            dims=("cell", "after"),
            coords={"cell": data.cell, "after": ("after", seconds, {"units": "s"})},
            attrs={"units": "1", "long_name": "log gain after a spike"},
        ),
        penalty=penalty,
        converged=converged,
        largest=np.where(data.train, data.counts, 0.0).max(axis=0),
        latency=latency,
        frame_rate=data.frame_rate,
    )


def _check(folds: int, post_spike: int, post_spike_functions: int, functions: int) -> None:
    problems = Problems()
    problems.require(folds >= 2, f"folds: expected at least 2, got {folds}")
    problems.require(post_spike >= 0, f"post_spike: expected 0 or more frames, got {post_spike}")
    problems.require(
        post_spike_functions >= 1,
        f"post_spike_functions: expected at least 1, got {post_spike_functions}",
    )
    problems.require(functions >= 1, f"functions: expected at least 1, got {functions}")
    problems.raise_as("fit_glm")


def _stimulus(
    data: PopulationData,
    group: WindowGroup,
    place: int,
    functions: int,
    shared: dict[bytes, Stimulus],
) -> Stimulus:
    """Return the stimulus terms of a cell; cells of one basis share them."""
    bases = group.choices[place].bases
    key = b"".join(axis.tobytes() for axis in bases)
    if key not in shared:
        shared.clear()
        shared[key] = stimulus_terms(group.pixels, bases, data.latency, functions)
    return shared[key]


def _fit_cell(
    data: PopulationData,
    group: WindowGroup,
    cell: int,
    stimulus: Stimulus,
    after: Array,
    penalties: Sequence[float],
) -> PoissonFit:
    """Fit one cell, with the ridge that predicts its validation frames best."""
    counts = data.counts[:, cell]
    past = history_terms(counts, after).astype(np.float32)
    seen = np.isfinite(past).all(axis=1)
    held = data.validation[:, cell] & seen
    train = data.train[:, cell] & seen
    if not held.any():
        held = group.folds[-1] & seen
        train = np.any(group.folds[:-1], axis=0) & seen
    rows = [np.flatnonzero(mask) for mask in (train, held)]
    designs = [
        np.column_stack(
            [np.ones(part.size, np.float32), stimulus.columns[part], past[part]],
        )
        for part in rows
    ]
    size, spikes = stimulus.columns.shape[1], counts[rows[0]]
    curvature = float((designs[0][:, 1 : 1 + size] ** 2).mean() * spikes.sum())
    ridge, fixed = np.zeros((2, designs[0].shape[1]))
    ridge[1 : 1 + size] = curvature
    fixed[1 + size :] = _GAIN_PRIOR
    chosen = designs[1], counts[rows[1]]
    return choose_penalty(designs[0], spikes, ridge, penalties, chosen, fixed=fixed)


def _simulated(
    drive: Array, kernel: Array, bound: Array, simulations: int, seed: int
) -> tuple[Array, Array]:
    """Return the mean count (time, cell) of simulations and the share (cell,) that ran away."""
    random = np.random.default_rng(seed)
    frames, cells = drive.shape
    reach = kernel.shape[1]
    total = np.zeros((frames, simulations, cells), dtype=np.float32)
    feedback = np.zeros((reach, simulations, cells))
    at_bound = np.zeros((simulations, cells))
    ceiling = np.log(np.maximum(bound, np.finfo(float).tiny))
    for frame in range(frames):
        slot = frame % reach
        log_rate = drive[frame] + feedback[slot]
        at_bound += log_rate >= ceiling
        expected = np.exp(np.minimum(log_rate, ceiling))
        spikes = random.poisson(expected)
        total[frame] = expected
        feedback[slot] = 0
        for ahead in range(reach):
            feedback[(slot + 1 + ahead) % reach] += spikes * kernel[:, ahead]
    ran = at_bound > 0.01 * frames
    keep = (~ran).astype(np.float32)
    with np.errstate(invalid="ignore"):
        mean = np.einsum("tsc,sc->tc", total, keep) / keep.sum(axis=0)
    return np.asarray(mean, dtype=np.float64), np.asarray(ran.mean(axis=0))
