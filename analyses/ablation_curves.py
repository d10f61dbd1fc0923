"""Whether a classifier loses a class when channels are taken away, and keeps it with them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.circuit import Circuit
from retinacodec.errors import InputError, Problems
from retinacodec.interventions import Change, Intervention, Silence, channels_of
from retinacodec.layer_values import check_channels
from retinacodec.progress import track
from retinacodec.resuming import Resumed
from retinacodec.samples import Images, rows_for

__all__ = ["PERCENTS", "ablation_curves", "top_correct"]

Array = npt.NDArray[Any]
Rankings = Mapping[str, Mapping[str, xr.DataArray]]

PERCENTS = (1, 2, 5, 10, 18, 25, 50, 80, 99)
"""Shares of the channels that the paper takes away, %."""
DIRECTIONS = ("ablate", "preserve")
GROUPS = ("target", "off")


def ablation_curves(
    circuit: Circuit,
    images: Images,
    labels: npt.ArrayLike,
    rankings: Rankings,
    *,
    percents: Sequence[float] = PERCENTS,
    how: Change | Mapping[str, Change] | None = None,
    trials: int = 20,
    images_each: int = 10,
    top: int = 1,
    random: bool = True,
    seed: int = 0,
    budget_gb: float = 1.0,
    progress: bool = True,
) -> xr.Dataset:
    """Take away the channels of a class, or all others, and see which images are still recognised.

    Parameters
    ----------
    circuit : Circuit
        A classifier.
    images : array (image, channel, y, x)
        Preprocessed images; better not those that the rankings come from.
    labels : array_like (image,)
        Class of each image: the position of its output, from 0.
    rankings : mapping of str to mapping of str to xarray.DataArray (class, channel)
        For each way of choosing channels and each layer how much they weigh for a class. With
        several layers their channels are taken away together.
    percents : sequence of float, default 1, 2, 5, 10, 18, 25, 50, 80, 99
        Shares of the channels of each layer, %, rounded down to whole channels.
    how : Change, or mapping of layer to Change, optional
        What becomes of the channels; ``Silence()`` if left out.
    trials : int, default 20
        Draws of a target class, another class, and images of both.
    images_each : int, default 10
        Images of each class in a trial.
    top : int, default 1
        An image counts as recognised if its class is among so many strongest outputs.
    random : bool, default True
        Also take away random channels, drawn anew in each trial, as ``"random"``.
    seed : int, default 0
        Seed of the trials and of random channels; the same trials serve every ranking.
    budget_gb : float, default 1.0
        Memory for what the first layer gives, GB.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``correct`` (selection, direction, percent, trial, group, image), whether an image is
        recognised after, and ``correct_before`` (trial, group, image); ``channels`` (layer,
        percent), how many are taken; ``target_class`` and ``off_class`` (trial). Direction
        ``"ablate"`` takes the heaviest channels away, ``"preserve"`` all but them; group
        ``"target"`` are images of the class whose channels they are, ``"off"`` of another.

    Raises
    ------
    InputError
        If a class has too few images or no ranking, rankings differ in their layers, or in their
        channels from a layer.

    Notes
    -----
    ``A`` = the ``floor(C q / 100)`` channels with the largest weights, by plain value.

    References
    ----------
    Melander et al., ICLR 2026, Figure 6D and E.
    """
    classes = np.asarray(labels)
    layers = _layers(rankings)
    samples = rows_for(circuit, images)
    _check(classes, len(samples), rankings, layers, percents, (trials, images_each, top))
    for name, layer in ((name, layer) for name in rankings for layer in layers):
        check_channels(circuit, layer, samples, rankings[name][layer].sizes["channel"], name)
    drawn = _Trials.draw(classes, rankings, layers, trials, images_each, seed)
    resumed = Resumed.prepare(circuit, samples, layers, budget_gb=budget_gb)
    change = Silence() if how is None else how
    changes = change if isinstance(change, Mapping) else dict.fromkeys(layers, change)
    runs = _Runs(resumed, classes, changes, top)
    names = (*rankings, "random") if random else tuple(rankings)
    shape = (len(names), 2, len(percents), trials, 2, images_each)
    correct = np.zeros(shape, dtype=bool)
    before = np.zeros(shape[3:], dtype=bool)
    for trial in track(range(trials), "ablation", enabled=progress):
        rows = drawn.images[trial]
        before[trial] = runs.correct({}, rows, {})
        known: dict[Any, Array] = {}
        for place, name in enumerate(names):
            weights = _weights(rankings, name, layers, drawn, trial, seed)
            for at, percent in enumerate(percents):
                for side, direction in enumerate(DIRECTIONS):
                    sets = _sets(weights, percent, direction)
                    correct[place, side, at, trial] = runs.correct(sets, rows, known)
    return _dataset(names, percents, correct, before, drawn, rankings, layers, repr(changes), top)


def top_correct(outputs: Array, classes: Array, top: int) -> npt.NDArray[np.bool_]:
    """Return which rows have their class among the strongest outputs.

    Parameters
    ----------
    outputs : ndarray (row, class)
        Outputs.
    classes : ndarray (row,)
        Positions of the classes.
    top : int
        How many of the strongest count; a class that ties with them counts only if it comes first.

    Raises
    ------
    InputError
        If a class is no position of an output.
    """
    count = outputs.shape[1]
    if classes.size and not (classes.min() >= 0 and classes.max() < count):
        wrong = classes[(classes < 0) | (classes >= count)][0]
        raise InputError(
            f"labels: class {wrong} of {count} outputs, numbered from 0; leave out images whose "
            "class is not known"
        )
    own = outputs[np.arange(len(classes)), classes]
    ahead = (outputs > own[:, None]).sum(axis=1)
    tied = (outputs == own[:, None]) & (np.arange(outputs.shape[1]) < classes[:, None])
    return np.asarray(ahead + tied.sum(axis=1) < top)


@dataclass(frozen=True)
class _Trials:
    """The classes of each trial, (trial, group), and its images, (trial, group, image)."""

    classes: Array
    images: Array

    @classmethod
    def draw(
        cls, classes: Array, rankings: Rankings, layers: tuple[str, ...],
        trials: int, each: int, seed: int,
    ) -> _Trials:  # fmt: skip
        """Draw two different classes for each trial, and images of both."""
        names, counts = np.unique(classes, return_counts=True)
        ranked = set.intersection(
            *(
                set(one[layer]["class"].values.tolist())
                for one in rankings.values()
                for layer in layers
            )
        )
        enough = [name for name, count in zip(names, counts, strict=True) if count >= each]
        targets = [name for name in enough if name in ranked]
        if len(enough) < 2 or not targets:
            raise InputError(
                f"ablation_curves: expected two classes of {each} images, one of them ranked, got "
                f"{len(enough)} such classes, {len(targets)} ranked; take fewer images_each"
            )
        rng = np.random.default_rng(seed)
        pairs, images = [], []
        for _ in range(trials):
            target = rng.choice(targets)
            off = rng.choice([name for name in enough if name != target])
            pairs.append((target, off))
            images.append([rng.choice(np.flatnonzero(classes == one), each, replace=False)
                           for one in (target, off)])  # fmt: skip
        return cls(np.asarray(pairs), np.asarray(images))


@dataclass(frozen=True)
class _Runs:
    """Passes under interventions, each set of channels only once a trial."""

    resumed: Resumed
    classes: Array
    changes: Mapping[str, Change]
    top: int

    def correct(self, sets: dict[str, Array], rows: Array, known: dict[Any, Array]) -> Array:
        """Return which images (group, image) are recognised when these channels are changed."""
        key = tuple((layer, tuple(sorted(chosen.tolist()))) for layer, chosen in sets.items())
        if key not in known:
            actions = [
                Intervention(layer, chosen, self.changes[layer])
                for layer, chosen in sets.items()
                if chosen.size
            ]
            flat = rows.ravel()
            outputs = self.resumed.outputs(actions, flat)
            known[key] = top_correct(outputs, self.classes[flat], self.top).reshape(rows.shape)
        return known[key]


def _weights(
    rankings: Rankings, name: str, layers: tuple[str, ...], drawn: _Trials, trial: int, seed: int
) -> dict[str, xr.DataArray]:
    """Return the weights (channel,) of the trial's target class in every layer."""
    if name in rankings:
        target = drawn.classes[trial, 0]
        return {layer: rankings[name][layer].sel({"class": target}) for layer in layers}
    rng = np.random.default_rng((seed, trial))
    sizes = {layer: next(iter(rankings.values()))[layer].sizes["channel"] for layer in layers}
    return {layer: xr.DataArray(rng.random(size), dims="channel") for layer, size in sizes.items()}


def _sets(weights: dict[str, xr.DataArray], percent: float, direction: str) -> dict[str, Array]:
    """Return the channels to change in each layer."""
    sets: dict[str, Array] = {}
    for layer, one in weights.items():
        heavy = channels_of(one, percent / 100)
        others = np.setdiff1d(np.arange(one.size), heavy)
        sets[layer] = heavy if direction == "ablate" else others
    return sets


def _layers(rankings: Rankings) -> tuple[str, ...]:
    kinds = {tuple(one) for one in rankings.values()}
    if len(kinds) != 1 or not next(iter(kinds)):
        raise InputError(
            "ablation_curves: expected rankings of the same layers, as {'modes': {'layer': "
            f"weights}}, got layers {sorted(map(str, kinds))}"
        )
    return next(iter(kinds))


def _check(
    classes: Array, images: int, rankings: Rankings, layers: tuple[str, ...],
    percents: Sequence[float], counts: tuple[int, int, int],
) -> None:  # fmt: skip
    problems = Problems()
    fits = classes.shape == (images,) and np.issubdtype(classes.dtype, np.integer)
    problems.require(
        fits, f"labels: expected whole numbers ({images},), got {classes.dtype} {classes.shape}"
    )
    known = not fits or not classes.size or int(classes.min()) >= 0
    problems.require(known, "labels: expected 0 or more; leave out images of no known class")
    for name, layer in ((name, layer) for name in rankings for layer in layers):
        weights = rankings[name][layer]
        whole = set(weights.dims) == {"class", "channel"} and bool(np.isfinite(weights).all())
        problems.require(whole, f"{name}, {layer}: expected finite weights over (class, channel)")
    problems.require("random" not in rankings, "rankings: 'random' is drawn here; rename yours")
    inside = len(percents) > 0 and all(0 <= one <= 100 for one in percents)
    rising = list(percents) == sorted(set(percents))
    problems.require(inside and rising, f"percents: expected rising, 0 to 100, got {percents}")
    problems.require(min(counts) >= 1, "trials, images_each, top: expected at least 1")
    problems.raise_as("ablation_curves")


def _dataset(
    names: tuple[str, ...], percents: Sequence[float], correct: Array, before: Array,
    drawn: _Trials, rankings: Rankings, layers: tuple[str, ...], how: str, top: int,
) -> xr.Dataset:  # fmt: skip
    first = next(iter(rankings.values()))
    taken = [
        [channels_of(first[layer].isel({"class": 0}), percent / 100).size for percent in percents]
        for layer in layers
    ]
    dims = ("selection", "direction", "percent", "trial", "group", "image")
    return xr.Dataset(
        {
            "correct": (dims, correct),
            "correct_before": (dims[3:], before),
            "channels": (("layer", "percent"), taken),
            "target_class": ("trial", drawn.classes[:, 0]),
            "off_class": ("trial", drawn.classes[:, 1]),
        },
        coords={
            "selection": list(names),
            "direction": list(DIRECTIONS),
            "percent": ("percent", list(map(float, percents)), {"units": "%"}),
            "group": list(GROUPS),
            "layer": list(layers),
        },
        attrs={"kind": "ablation curves", "how": how, "top": top},
    )
