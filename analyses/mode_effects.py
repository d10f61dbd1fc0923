"""What modes do: how silencing one changes the modes of a later layer, and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.mode_projection import project_modes
from retinacodec.analyses.panels import strong_loadings
from retinacodec.analyses.resampling import Resamples
from retinacodec.bootstrap import percentiles
from retinacodec.circuit import Circuit
from retinacodec.contribute import contributions
from retinacodec.errors import InputError, Problems
from retinacodec.interventions import Change, Intervention, Silence, channels_of, intervening
from retinacodec.layer_values import check_channels
from retinacodec.nulls import circular_shifts, discoveries, p_value, permutations
from retinacodec.progress import track
from retinacodec.resuming import Resumed
from retinacodec.rules import Rule
from retinacodec.samples import Images, rows_for
from retinacodec.targets import Target

__all__ = ["mode_mode_effects", "mode_output_effects"]

Array = npt.NDArray[Any]


def mode_mode_effects(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    layers: tuple[str, str],
    modes: tuple[xr.Dataset, xr.Dataset],
    target: Target,
    *,
    share: float = 0.25,
    how: Change | None = None,
    rule: Rule | None = None,
    on: float = 0.1,
    shifts: int = 500,
    level: float = 0.05,
    least_seconds: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Silence the channels of each mode of a layer, and see which modes of a later layer follow.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    samples : xarray.Dataset, or images
        The movie or the images that the modes were found on.
    layers : (str, str)
        The earlier and the later layer.
    modes : (xarray.Dataset, xarray.Dataset)
        Modes of the contributions of the two, as from `retinacodec.analyses.find_modes`.
    target : Target
        The target of the contributions that both were found in.
    share : float, default 0.25
        Share of the channels of the earlier layer, those that weigh most in the mode, silenced.
    how : Change, optional
        What becomes of them; ``Silence()`` if left out.
    rule : Rule, optional
        Rule of the contributions; that of `retinacodec.contributions` if left out.
    on : float, default 0.1
        A mode is on where its loading exceeds this share of its strong loadings (their 99th
        percentile).
    shifts : int, default 500
        Moves of the earlier mode's times in the null; for images, permutations.
    level : float, default 0.05
        Share of false ones among the discoveries.
    least_seconds : float, default 1.0
        Smallest shift, s.
    seed : int, default 0
        Seed of the null.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        Over (mode, later): ``effect``, the loading of the later mode less that with the earlier
        silenced, mean over the samples at which the earlier mode is on; ``effect_off`` at others;
        ``contrast``, their difference, with ``p``, ``q`` and ``discovered`` against the null
        (either sign); ``on`` (mode), samples at which a mode is on; ``channels`` (mode), silenced.
        NaN where a mode is always or never on.

    Raises
    ------
    InputError
        If the modes are not of these samples or layers.

    Notes
    -----
    Effects are those of an intervention: the contributions of the later layer are computed anew
    in the changed circuit, and coded with the same atoms. A target that chooses outputs by their
    strength, or takes statistics of them, does so in the changed circuit.
    """
    first, second = modes
    rows = rows_for(circuit, samples)
    _check(first, len(rows), share)
    check_channels(circuit, layers[0], rows, first.sizes["channel"], "modes")
    loadings = _later_loadings(circuit, samples, layers[1], second, target, rule)
    clean = loadings()
    active = _on(first, circuit.sample, on)
    effect = np.empty((active.shape[1], *clean.shape))
    sets = [channels_of(first, share, int(mode)) for mode in first["mode"].values]
    for place, chosen in enumerate(track(sets, "modes", enabled=progress)):
        with intervening(circuit, layers[0], chosen, how):
            effect[place] = clean - loadings()
    least = 1
    if rows.moving:
        least = int(np.ceil(least_seconds * float(rows.attrs["frame_rate"])))
    contrast, p = _tested(active, effect, rows.moving, shifts, least, seed)
    found = discoveries(p, level)
    there, away = _means(active, effect)
    pair = ("mode", "later")
    units = {"units": "1", "long_name": "fall of the loading"}
    return xr.Dataset(
        {
            "effect": (pair, there, units),
            "effect_off": (pair, away, units),
            "contrast": (pair, contrast, units),
            "p": (pair, p),
            "q": (pair, found.q),
            "discovered": (pair, found.found),
            "on": ("mode", active.sum(axis=0)),
            "channels": ("mode", [len(one) for one in sets]),
        },
        {"mode": first["mode"].values, "later": second["mode"].values},
        {"layers": list(layers), "share": share, "how": repr(how or Silence()), "level": level},
    )


def mode_output_effects(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    layer: str,
    modes: xr.Dataset,
    *,
    share: float = 0.25,
    how: Change | None = None,
    on: float = 0.1,
    random: int = 5,
    block_seconds: float = 1.0,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
    budget_gb: float = 1.0,
    progress: bool = True,
) -> xr.Dataset:
    """Silence the channels of modes, and compare outputs when the mode is on and when it is not.

    Parameters
    ----------
    circuit, samples, layer, modes, share, how, on, progress
        As in `mode_mode_effects`, for modes of one layer.
    random : int, default 5
        Random sets of as many channels for each mode, the control.
    block_seconds : float, default 1.0
        Length of the blocks in which moments are resampled, s.
    draws : int, default 500
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of random sets and resamples.
    budget_gb : float, default 1.0
        Memory for what the layer gives, GB.

    Returns
    -------
    xarray.Dataset
        Over mode and the outputs' dimension, in units of the outputs: ``change_on``, mean change
        of the output when the mode is on; ``change_off``, at as many samples when it is off with
        the most similar output; ``contrast``, their difference, with ``contrast_low`` and
        ``contrast_high``; ``output_on`` and ``output_off``, the outputs before, which should be
        alike; ``contrast_random`` (draw, mode, output). NaN where a mode is always or never on.

    Raises
    ------
    InputError
        If the modes are not of these samples.

    Notes
    -----
    ``contrast = mean_{i on} (d_i - d_{m(i)})``, d the output silenced less the output as it is,
    m(i) the sample at which the mode is off whose output is nearest to that of i, for each output
    by itself. A negative contrast: the mode drives the output when it is on, beyond what its
    channels do at the same output otherwise.
    """
    rows = rows_for(circuit, samples)
    _check(modes, len(rows), share)
    check_channels(circuit, layer, rows, modes.sizes["channel"], "modes")
    resumed = Resumed.prepare(circuit, rows, [layer], budget_gb=budget_gb)
    plain = resumed.outputs()
    active = _on(modes, circuit.sample, on)
    change = Silence() if how is None else how
    whole = Resamples.of(rows.coordinate, None, block_seconds, draws, seed)
    rng = np.random.default_rng(seed)
    channels, names = modes.sizes["channel"], modes["mode"].values
    shape = (len(names), plain.shape[1])
    keys = ("change_on", "change_off", "output_on", "output_off", "contrast", "low", "high")
    found = {name: np.full(shape, np.nan) for name in keys}
    chance = np.full((random, *shape), np.nan)
    for place, mode in enumerate(track(list(names), "modes", enabled=progress)):
        here = np.flatnonzero(active[:, place])
        pairs = _matched(plain, active[:, place])
        if pairs is None:
            continue
        chosen = channels_of(modes, share, int(mode))
        moved = resumed.outputs([Intervention(layer, chosen, change)]) - plain
        one = _compared(plain, moved, here, pairs)
        one["low"], one["high"] = _bounds(one.pop("gap"), whole, here, level)
        for key, values in one.items():
            found[key][place] = values
        for draw in range(random):
            other = rng.choice(channels, len(chosen), replace=False)
            moved = resumed.outputs([Intervention(layer, other, change)]) - plain
            chance[draw, place] = _compared(plain, moved, here, pairs)["contrast"]
    outputs = np.asarray(circuit.output_names(plain.shape[1]))
    pair = ("mode", circuit.output)
    units = {"units": "Hz" if rows.moving else ""}
    words = {"low": "contrast_low", "high": "contrast_high"}
    data: dict[str, Any] = {words.get(k, k): (pair, v, units) for k, v in found.items()}
    data["contrast_random"] = (("draw", *pair), chance, units)
    data["on"] = ("mode", active.sum(axis=0))
    coords = {"mode": names, circuit.output: outputs}
    return xr.Dataset(data, coords, {"layer": layer, "share": share, "how": repr(change)})


def _later_loadings(
    circuit: Circuit,
    samples: xr.Dataset | Images,
    layer: str,
    modes: xr.Dataset,
    target: Target,
    rule: Rule | None,
) -> Callable[[], Array]:
    """Return what codes a layer's contributions, as the circuit is at the moment, by its modes."""
    one = replace(circuit, layers=[circuit.taps[layer]])

    def loadings() -> Array:
        tree = contributions(one, samples, target, rule=rule, progress=False)
        (node,) = tree.children.values()
        found = project_modes(modes, node)
        return np.asarray(found.transpose(circuit.sample, "mode").values, dtype=np.float64)

    return loadings


def _check(modes: xr.Dataset, samples: int, share: float) -> None:
    problems = Problems()
    if problems.require("loading" in modes, "modes: no loading; pass what find_modes gives"):
        have = modes["loading"].size // max(modes.sizes["mode"], 1)
        problems.require(have == samples, f"modes of {have} samples for {samples} of the circuit")
    problems.require(0 < share <= 1, f"share: expected above 0, at most 1, got {share}")
    problems.raise_as("modes")


def _on(modes: xr.Dataset, sample: str, share: float) -> npt.NDArray[np.bool_]:
    """Return when each mode is on, (sample, mode)."""
    loading = modes["loading"].transpose(sample, "mode").values.astype(np.float64)
    if not np.isfinite(loading).all():
        raise InputError("modes: loadings are NaN or infinite; leave these samples out")
    return np.asarray(np.abs(loading) > share * strong_loadings(loading))


def _means(active: Array, effect: Array) -> tuple[Array, Array]:
    """Return mean effects (mode, later) when the earlier mode is on, and when it is not."""
    there, away = active.T.astype(np.float64), (~active).T.astype(np.float64)
    sums = [np.einsum("ms,msk->mk", one, effect) for one in (there, away)]
    counts = [one.sum(axis=1)[:, None] for one in (there, away)]
    means = [
        np.where(n > 0, s / np.maximum(n, 1), np.nan) for s, n in zip(sums, counts, strict=True)
    ]
    return means[0], means[1]


def _tested(
    active: Array, effect: Array, moving: bool, shifts: int, least: int, seed: int
) -> tuple[Array, Array]:
    """Return contrasts (mode, later) of on and off, and p-values against moved times."""
    value = np.subtract(*_means(active, effect))
    moved: Callable[..., Any] = circular_shifts if moving else permutations
    options: dict[str, Any] = {"least": least} if moving else {}
    null: Sequence[Array] = [
        np.abs(np.subtract(*_means(one, effect)))
        for one in moved(active, shifts, seed=seed, **options)
    ]
    return value, p_value(np.abs(value), np.stack(null))


def _compared(plain: Array, moved: Array, here: Array, pairs: Array) -> dict[str, Array]:
    """Return outputs and their changes at samples that are on, and at their partners."""
    partner = np.take_along_axis(moved, pairs, axis=0)
    gap = moved[here] - partner
    return {
        "change_on": moved[here].mean(axis=0),
        "change_off": partner.mean(axis=0),
        "output_on": plain[here].mean(axis=0),
        "output_off": np.take_along_axis(plain, pairs, axis=0).mean(axis=0),
        "contrast": gap.mean(axis=0),
        "gap": gap,
    }


def _bounds(gap: Array, whole: Resamples, here: Array, level: float) -> tuple[Array, Array]:
    """Return the interval of a mean over samples (row, output) that are resampled in blocks."""
    drawn = replace(whole, group=np.unique(whole.group[here], return_inverse=True)[1])
    if not drawn.possible:
        return np.full(gap.shape[1], np.nan), np.full(gap.shape[1], np.nan)
    weights = np.concatenate(list(drawn.weights()))
    return percentiles(weights @ gap / weights.sum(axis=1, keepdims=True), level)


def _matched(plain: Array, active: Array) -> Array | None:
    """Return for each sample that is on the one that is off with the nearest output, each output.

    (row, output), or None where a mode is always or never on.
    """
    here, away = np.flatnonzero(active), np.flatnonzero(~active)
    if not here.size or not away.size:
        return None
    pairs = np.empty((here.size, plain.shape[1]), dtype=np.int64)
    for column in range(plain.shape[1]):
        order = away[np.argsort(plain[away, column], kind="stable")]
        values = plain[order, column]
        right = np.clip(np.searchsorted(values, plain[here, column]), 0, len(order) - 1)
        left = np.maximum(right - 1, 0)
        nearer = np.abs(values[left] - plain[here, column]) < np.abs(
            values[right] - plain[here, column]
        )
        pairs[:, column] = order[np.where(nearer, left, right)]
    return pairs
