"""Tests of explanations: stimuli edited so that a concept comes or goes, channels silenced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems

__all__ = ["Response", "ablation_test", "edit_test", "paste_patches", "paste_test"]

Array = npt.NDArray[Any]
Response: TypeAlias = Callable[[Array], npt.ArrayLike]
"""A function of stimuli (stimulus, ...) that returns (stimulus,) or (stimulus, target)."""


def edit_test(
    response: Response,
    originals: Array,
    edited: Array,
    controls: Array,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether an edit that brings a concept changes a response more than another edit.

    Parameters
    ----------
    response : callable
        From stimuli to what a channel, mode or class answers: (stimulus,) or (stimulus, target).
        Called once for each of the three sets.
    originals, edited, controls : ndarray (stimulus, ...)
        Images or movies as they are, with the concept, and with as large an edit that does not
        bring it; row by row the same stimulus.
    draws : int, default 2000
        Resamples of stimuli, and sign flips.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of both.

    Returns
    -------
    xarray.Dataset
        ``change`` and ``control_change`` (stimulus, target), in units of the response; their
        means over stimuli, ``mean_change`` and ``mean_control_change`` (target); ``effect``
        (target), the mean difference, with ``low`` and ``high``; ``p`` (target), two-sided, by
        random sign flips of the differences; NaN where a response is not finite.

    Raises
    ------
    InputError
        If the sets differ in length, there are fewer than two stimuli, or the response returns
        another number of rows.

    Notes
    -----
    ``effect = mean((R(edited) - R(original)) - (R(control) - R(original)))``. Under the null
    the two edits could be exchanged, so that each difference could have either sign. The least p
    is ``1 / (1 + draws)``, and ``2 ** (1 - stimuli)`` for few stimuli.

    References
    ----------
    .. [1] Mu and Andreas, NeurIPS 2020, section 6, copy-paste adversarial examples.
    """
    _check_sets(originals, edited, controls)
    base, with_it, without = (_answers(response, one) for one in (originals, edited, controls))
    change, control = with_it - base, without - base
    difference = change - control
    effect, low, high, p = _paired(difference, draws, level, seed)
    per, both = ("target",), ("stimulus", "target")
    return xr.Dataset(
        {
            "change": (both, change),
            "control_change": (both, control),
            "mean_change": (per, change.mean(axis=0)),
            "mean_control_change": (per, control.mean(axis=0)),
            "effect": (per, effect),
            "low": (per, low),
            "high": (per, high),
            "p": (per, p, {"units": "1"}),
        },
        attrs={
            "kind": "edit test", "stimuli": len(change), "draws": draws, "level": level,
            "seed": seed,
        },
    )  # fmt: skip


def paste_patches(
    images: Array,
    concept: npt.NDArray[np.bool_],
    *,
    count: int = 50,
    least: int = 1,
    seed: int = 0,
) -> tuple[Array, Array, Array]:
    """Make images into which a concept was pasted, and controls with as large a patch without it.

    Parameters
    ----------
    images : ndarray (image, channel, y, x)
        Images as the network reads them.
    concept : ndarray of bool (image, y, x)
        Where the concept is.
    count : int, default 50
        Number of stimuli: pairs of an image without the concept and one with it, drawn with
        repetition.
    least : int, default 1
        Images with fewer pixels of the concept are neither with nor without it.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    originals, edited, controls : ndarray (stimulus, channel, y, x)
        An image without the concept; the same with the concept's pixels of another image, where
        they are in that image; and the same with the same pixels of a third image, which lacks
        the concept too.

    Raises
    ------
    InputError
        If fewer than two images lack the concept, or none has it.
    """
    _check_images(images, concept)
    area = concept.sum(axis=(1, 2))
    without, having = np.flatnonzero(area == 0), np.flatnonzero(area >= max(least, 1))
    if without.size < 2 or not having.size or count < 2:
        raise InputError(
            f"paste: expected two images without the concept, one with {least} pixels of it and a "
            f"count of at least 2; there are {without.size} and {having.size}, count {count}"
        )
    rng = np.random.default_rng(seed)
    places = np.stack([rng.choice(without, 2, replace=False) for _ in range(count)])
    receiver, other = places.T
    donor = rng.choice(having, count)
    here = concept[donor][:, None]
    originals = images[receiver]
    edited = np.where(here, images[donor], originals)
    controls = np.where(here, images[other], originals)
    return originals, edited, controls


def paste_test(
    response: Response,
    images: Array,
    concept: npt.NDArray[np.bool_],
    *,
    count: int = 50,
    least: int = 1,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Paste a concept into images that lack it, and measure what answers.

    Parameters
    ----------
    response : callable
        As in `edit_test`.
    images, concept, count, least
        As in `paste_patches`.
    draws, level, seed
        As in `edit_test`.

    Returns
    -------
    xarray.Dataset
        As `edit_test`; stimuli share images, so that with few images the interval is somewhat
        too narrow.
    """
    originals, edited, controls = paste_patches(
        images, concept, count=count, least=least, seed=seed
    )
    return edit_test(response, originals, edited, controls, draws=draws, level=level, seed=seed)


def ablation_test(
    predict: Response,
    ablated: Response,
    stimuli: Array,
    holds: npt.ArrayLike,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether ablation matters more where a formula holds than where it does not.

    Parameters
    ----------
    predict : callable
        From stimuli to the response of the whole model, (stimulus,) or (stimulus, target).
    ablated : callable
        The same with the explained channels or modes ablated, such as a call inside
        `retinacodec.interventions.intervening`. This function ablates nothing itself.
    stimuli : ndarray (stimulus, ...)
        Images or movies.
    holds : array_like of bool (stimulus,)
        Whether the formula holds for each.
    draws : int, default 2000
        Resamples of stimuli, and permutations of `holds`.
    level : float, default 0.95
        Coverage of the interval.
    seed : int, default 0
        Seed of both.

    Returns
    -------
    xarray.Dataset
        ``change`` (stimulus, target), ablated less whole; ``mean_holding`` and ``mean_other``
        (target); ``effect``, their difference, with ``low`` and ``high``; ``p`` (target),
        two-sided, by permutation; ``holds`` (stimulus).

    Raises
    ------
    InputError
        If the formula holds for fewer than two stimuli, or for all but fewer than two, or sizes
        differ.
    """
    on = np.asarray(holds)
    fits = on.shape == (len(stimuli),) and on.dtype == np.bool_
    if not fits or min(on.sum(), (~on).sum()) < 2:
        raise InputError(
            f"ablation: expected True and False for each of {len(stimuli)} stimuli, each at least "
            f"twice, got {on.dtype} {on.shape} with {np.count_nonzero(on)} True"
        )
    change = _answers(ablated, stimuli) - _answers(predict, stimuli)
    rng = np.random.default_rng(seed)
    one, other = change[on], change[~on]
    effect = one.mean(axis=0) - other.mean(axis=0)
    samples = np.stack([
        part.mean(axis=0) - rest.mean(axis=0)
        for part, rest in ((_redrawn(one, rng), _redrawn(other, rng)) for _ in range(draws))
    ])  # fmt: skip
    low, high = _ends(samples, level)
    orders = (rng.permutation(on) for _ in range(draws))
    null = np.stack([change[o].mean(axis=0) - change[~o].mean(axis=0) for o in orders])
    per = ("target",)
    return xr.Dataset(
        {
            "change": (("stimulus", "target"), change),
            "mean_holding": (per, one.mean(axis=0)),
            "mean_other": (per, other.mean(axis=0)),
            "effect": (per, effect),
            "low": (per, low),
            "high": (per, high),
            "p": (per, _two_sided(effect, null), {"units": "1"}),
            "holds": ("stimulus", on),
        },
        attrs={
            "kind": "ablation test", "stimuli": len(change), "draws": draws, "level": level,
            "seed": seed,
        },
    )  # fmt: skip


def _answers(response: Response, stimuli: Array) -> Array:
    """Return the response to stimuli, (stimulus, target)."""
    values = np.asarray(response(stimuli), dtype=np.float64)
    if values.ndim not in (1, 2) or len(values) != len(stimuli):
        raise InputError(
            f"response: expected (stimulus,) or (stimulus, target) for {len(stimuli)} stimuli, got "
            f"shape {values.shape}"
        )
    return values[:, None] if values.ndim == 1 else values


def _paired(difference: Array, draws: int, level: float, seed: int) -> tuple[Array, ...]:
    """Return mean, interval and p of paired differences (stimulus, target)."""
    rng = np.random.default_rng(seed)
    effect = difference.mean(axis=0)
    samples = np.stack([_redrawn(difference, rng).mean(axis=0) for _ in range(draws)])
    signs = rng.choice([-1.0, 1.0], (draws, len(difference)))
    null = signs @ difference / len(difference)
    return effect, *_ends(samples, level), _two_sided(effect, null)


def _redrawn(values: Array, rng: np.random.Generator) -> Array:
    return np.asarray(values[rng.integers(0, len(values), len(values))])


def _ends(samples: Array, level: float) -> tuple[Array, Array]:
    from retinacodec.bootstrap import percentiles

    return percentiles(samples, level)


def _two_sided(effect: Array, null: Array) -> Array:
    from retinacodec.nulls import p_value

    return p_value(np.abs(effect), np.abs(null) * (1 + 1e-12))


def _check_sets(originals: Array, edited: Array, controls: Array) -> None:
    shapes = [np.shape(one) for one in (originals, edited, controls)]
    if len(set(shapes)) != 1 or not shapes[0] or shapes[0][0] < 2:
        raise InputError(
            f"edit_test: expected three sets of at least 2 stimuli of one shape, got {shapes}"
        )


def _check_images(images: Array, concept: npt.NDArray[np.bool_]) -> None:
    problems = Problems()
    fits = images.ndim == 4
    problems.require(fits, f"images: expected (image, channel, y, x), got {images.shape}")
    expected = (images.shape[0], *images.shape[2:])
    same = concept.dtype == np.bool_ and concept.shape == expected
    problems.require(
        same, f"concept: expected True and False {expected}, got {concept.dtype} {concept.shape}"
    )
    problems.raise_as("paste")
