"""Explanations: which formula over named concepts says best where a mask is on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.explanation_job import FITTED, HELD, Found, Job, shared
from retinacodec.analyses.explanation_nulls import MaskNull, PermutedImages, ShiftedMasks
from retinacodec.analyses.explanation_places import Places, line_up
from retinacodec.bitsets import pack
from retinacodec.errors import InputError, Problems
from retinacodec.formulas import leaves
from retinacodec.nulls import discoveries, p_value
from retinacodec.overlaps import IOU, PRECISION, RECALL, Overlap
from retinacodec.progress import track
from retinacodec.row_splits import RandomRows, RowSplit, TimeBlocks

__all__ = ["explain"]

Array = npt.NDArray[Any]


def explain(
    masks: xr.DataArray,
    concepts: xr.DataArray,
    *,
    length: int = 3,
    beam: int = 5,
    penalty: float = 1.0,
    metric: Overlap = IOU,
    candidates: int | None = None,
    occurring: bool = True,
    held_out: RowSplit | Literal["auto"] | None = "auto",
    null: MaskNull | Literal["auto"] | None = "auto",
    level: float = 0.05,
    least: int = 10,
    threads: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Explain each mask by a formula over concepts, and say how far it holds on new data.

    Parameters
    ----------
    masks : xarray.DataArray of bool (mask, position)
        Where each mode, channel or map is on. The dims may have any names and order; the one
        that masks and concepts share holds the positions: frames, images, or pixels of images,
        which a coordinate ``image`` along it tells apart.
    concepts : xarray.DataArray of bool (concept, position)
        Where each named concept holds.
    length : int, default 3
        Most concepts of a formula.
    beam : int, default 5
        Formulas kept after each step of the search.
    penalty : float, default 1
        In the search, the score of a formula of l concepts counts ``penalty ** (l - 1)`` times.
    metric : Overlap, default `IOU`
        What is sought: `IOU`, `F1`, `PRECISION`, `RECALL` or other prices of errors.
    candidates : int, optional
        Add only so many concepts to formulas, those that score best alone; all if left out.
    occurring : bool, default True
        Use only concepts that are on in an image in which the mask is on too. Without effect
        where every image is one position: there, concepts that never meet the mask serve in
        AND NOT.
    held_out : RowSplit, "auto" or None, default "auto"
        Which images or frames the formulas are scored on and not chosen by; whole images, never
        pixels. ``"auto"``: ``TimeBlocks()`` where the shared dim is ``time``, ``RandomRows()``
        otherwise. Images that resemble their neighbours, such as frames of a clip, need
        ``TimeBlocks``.
    null : MaskNull, "auto" or None, default "auto"
        What overlap chance gives: `ShiftedMasks` or `PermutedImages`. With ``search=False`` it
        tests the formulas that were found, on held-out positions; with ``search=True`` the whole
        search is repeated for every sample. ``"auto"``: shifts where the shared dim is ``time``,
        permutations otherwise.
    level : float, default 0.05
        Share of false discoveries among masks of one length.
    least : int, default 10
        Masks on at fewer fitted positions are not explained.
    threads : int, default 1
        Masks are divided among so many threads; the result is the same.
    seed : int, default 0
        Seed of the null.
    progress : bool, default True
        Show the progress of the null.

    Returns
    -------
    xarray.Dataset
        ``formula`` (mask, length), the best formula of at most 1, 2, ... concepts; the first is
        the best single concept. ``leaves`` (mask, length), how many it has. ``score``,
        ``precision``, ``recall`` (mask, length, part), for the parts ``fitted`` and ``held
        out``; ``size`` and ``covered`` (..., part), positions of mask and formula. With a null:
        ``p``, ``q``, ``discovered``, ``null_mean``, ``null_high`` (mask, length, part); NaN for
        the fitted part unless the search was repeated. ``reason`` (mask) says why a mask was not
        explained (no formula, NaN) or has no held-out score; empty for all others.

    Raises
    ------
    InputError
        If masks and concepts do not fit together, a number is out of range, or a null without
        search has nothing held out.

    Notes
    -----
    The search is that of `retinacodec.formula_search.search_formulas`; formulas are printed in
    canonical form. ``score = |M and F| / |M or F|`` for the intersection over union.
    ``p = (1 + #{null >= score}) / (1 + samples)``; `null_high` is the 95th percentile; q is of
    Benjamini and Hochberg over the masks, for each length and part.

    References
    ----------
    .. [1] Mu and Andreas, NeurIPS 2020; Bau et al., CVPR 2017, for single concepts.

    Examples
    --------
    >>> image = np.arange(200)
    >>> table = np.stack([image % 2 == 0, image % 3 == 0])
    >>> concepts = xr.DataArray(table, {"concept": ["even", "third"]}, dims=("concept", "image"))
    >>> masks = xr.DataArray([table[0] & ~table[1]], dims=("mask", "image"))
    >>> found = explain(masks, concepts, length=2)
    >>> found["formula"].values.tolist(), found["recall"].sel(part="held out").values.round(2)
    ([['even', 'even AND NOT third']], array([[1., 1.]]))
    """
    _check(metric, level, least)
    places = line_up(masks, concepts)
    parts = _parts(places, held_out)
    chance = _null(null, places, parts)
    job = Job(places, parts, length, beam, penalty, metric, candidates, occurring, least, threads)
    found = job.explain(places.masks)
    result = _dataset(places, job, found)
    if chance is not None:
        samples = track(
            chance.orders(_moving(places, parts, chance), seed=seed),
            "chance",
            enabled=progress and chance.search,
        )
        scores = list(_null_scores(job, found, chance, samples))
        _add_null(result, np.stack(scores), level)
    attrs = {
        "kind": "explanations", "metric": repr(metric), "beam": beam, "penalty": penalty,
        "held_out": repr(_split(held_out, places.dim)), "null": repr(chance), "level": level,
        "positions": places.image.size, "images": places.images, "seed": seed,
    }  # fmt: skip
    return result.assign_attrs(attrs)


def _check(metric: Overlap, level: float, least: int) -> None:
    problems = Problems()
    fits = isinstance(metric, Overlap)
    problems.require(fits, f"metric: expected an Overlap such as IOU, got {metric!r}")
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    problems.require(least >= 1, f"least: expected at least 1 position, got {least}")
    problems.raise_as("explain")


def _split(held_out: RowSplit | str | None, dim: str) -> RowSplit | None:
    if held_out == "auto":
        return TimeBlocks() if dim == "time" else RandomRows()
    if isinstance(held_out, str):
        raise InputError(f'held_out: expected a RowSplit, "auto" or None, got {held_out!r}')
    return held_out


def _parts(places: Places, held_out: Any) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which positions are fitted and which are held out."""
    split = _split(held_out, places.dim)
    if split is None:
        return {FITTED: np.ones(places.image.size, np.bool_)}
    fitted, held = split.split(places.images)
    return {FITTED: places.of(fitted), HELD: places.of(held)}


def _null(null: Any, places: Places, parts: dict[str, Array]) -> MaskNull | None:
    if null == "auto":
        if HELD not in parts:
            return None
        null = ShiftedMasks(least=40) if places.dim == "time" else PermutedImages()
    if null is None:
        return None
    if isinstance(null, str):
        raise InputError(f'null: expected ShiftedMasks(...), "auto" or None, got {null!r}')
    if not null.search and HELD not in parts:
        raise InputError(
            "null: without search it needs held-out positions; give held_out or search=True"
        )
    counts = np.bincount(places.image)
    if (counts != counts[0]).any():
        raise InputError(
            f"null: images must have equally many positions to be exchanged, got {counts.min()} to "
            f"{counts.max()}; null=None leaves it out"
        )
    found: MaskNull = null
    return found


def _moving(places: Places, parts: dict[str, Array], chance: MaskNull) -> int:
    """Return the number of images that are moved."""
    return places.images if chance.search else np.unique(places.image[parts[HELD]]).size


def _null_scores(
    job: Job, found: Found, chance: MaskNull, orders: Iterator[Array]
) -> Iterator[Array]:
    """Yield scores (mask, length, part) of moved masks."""
    masks = job.places.masks
    if chance.search:
        for order in orders:
            again = job.explain(job.places.moved(masks, order))
            yield np.nan_to_num(job.score(again, again.both))
        return
    held = np.compress(job.parts[HELD], masks, axis=1)
    for order in orders:
        both = np.full(found.both.shape, -1)
        both[..., -1] = shared(pack(job.places.moved(held, order)), found.words[-1])
        yield np.where(both < 0, np.nan, job.score(found, both))


def _dataset(places: Places, job: Job, found: Found) -> xr.Dataset:
    three = ("mask", "length", "part")
    text = [["" if one is None else str(one) for one in row] for row in found.formula]
    count = [[0 if one is None else leaves(one) for one in row] for row in found.formula]
    true = found.size[:, None]
    score = job.score(found, found.both)

    def rate(rule: Overlap) -> Array:
        return np.where(np.isnan(score), np.nan, rule(found.both, found.covered, true))

    unit = {"units": "1"}
    return xr.Dataset(
        {
            "formula": (("mask", "length"), np.array(text, dtype=str)),
            "leaves": (("mask", "length"), np.array(count), unit),
            "score": (three, score, unit | {"long_name": "agreement of formula and mask"}),
            "precision": (three, rate(PRECISION), unit),
            "recall": (three, rate(RECALL), unit),
            "covered": (three, found.covered, unit | {"long_name": "positions of the formula"}),
            "size": (("mask", "part"), found.size, unit | {"long_name": "positions of the mask"}),
            "reason": ("mask", np.array(found.reason, dtype=str)),
        },
        coords={
            "mask": places.masks_names,
            "length": np.arange(1, job.length + 1),
            "part": list(job.parts),
        },
    )


def _add_null(result: xr.Dataset, samples: Array, level: float) -> None:
    """Add p-values, discoveries and what chance gives; samples (sample, mask, length, part)."""
    three = ("mask", "length", "part")
    score = result["score"].values
    known = np.isfinite(samples).any(axis=0) & np.isfinite(score)
    filled = np.where(known, samples, 0.0)
    p = np.where(known, p_value(score, filled), np.nan)
    tests = [
        [discoveries(p[:, one, two], level) for two in range(p.shape[2])]
        for one in range(p.shape[1])
    ]
    unit = {"units": "1"}
    mean, high = filled.mean(axis=0), np.quantile(filled, 0.95, axis=0)
    result["p"] = (three, p, unit)
    for name, field in (("q", "q"), ("discovered", "found")):
        values = np.array([[getattr(test, field) for test in row] for row in tests])
        result[name] = (three, np.moveaxis(values, -1, 0))
    result["null_mean"] = (three, np.where(known, mean, np.nan), unit)
    result["null_high"] = (three, np.where(known, high, np.nan), unit)
    result.attrs["samples"] = len(samples)
