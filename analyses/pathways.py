"""Whether modes are the pathways of a simulated retina: its ON, OFF and amacrine cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.mode_matching import (
    cosine_test,
    partner_values,
    roc_auc,
    roc_auc_shifted,
    true_partners,
    upright,
)
from retinacodec.errors import InputError, Problems
from retinacodec.nulls import NullTest, p_value
from retinacodec.schema import SIGNS

__all__ = ["align_times", "match_pathways", "pathway_truth", "times_a_second"]

Array = npt.NDArray[Any]

_LEAST_TIMES = 20
_SHIFT_S = 1.0
_ONE = {"units": "1"}
_VARIABLES = {"contribution", "active", "rate", "type_pathway", "pathway"}


def pathway_truth(
    truth: xr.Dataset, *, event_hz: float | None = None, amacrine_apart: bool = True
) -> xr.Dataset:
    """Return what modes of one cell would be if they were its pathways.

    Parameters
    ----------
    truth : xarray.Dataset
        What ``CircuitRetina.pathway_contributions`` returns, for one cell: choose it with
        ``truth.sel(cell=...)``.
    event_hz : float, optional
        Rate from which the cell counts as firing, Hz; that of the truth's events if left out.
    amacrine_apart : bool, default True
        Amacrine cells are a pathway of their own. Else there are two, ON and OFF, and inhibition
        belongs to the one that it comes along with.

    Returns
    -------
    xarray.Dataset
        ``atom`` (pathway, sign, channel) of unit norm, NaN for a pathway that never drives the
        cell; ``drives`` (time, pathway), whether the cell fires and the pathway is active; and
        ``firing`` (time).

    Raises
    ------
    InputError
        If there is more than one cell, or a variable is missing.

    Notes
    -----
    The atom is the mean contribution of the pathway's own interneuron types, over the times at
    which it drives the cell. Where amacrine cells are not apart it is that of all types, over the
    times at which the pathway is the only excitatory one.
    """
    one = _one_cell(truth)
    limit = one.attrs.get("event_hz") if event_hz is None else event_hz
    if limit is None:
        raise InputError("pathway_truth: event_hz is not among the attributes; pass it")
    names = one["pathway"].values
    given = one["contribution"].transpose("time", "type").values.astype(np.float64)
    firing = one["rate"].values >= limit
    drives = one["active"].transpose("time", "pathway").values & firing[:, None]
    atoms = []
    for number, name in enumerate(names):
        others = [k for k in (0, 1) if k != number]
        own = one["type_pathway"].values == name if amacrine_apart else np.ones(given.shape[1])
        alone = amacrine_apart | ~drives[:, others].any(axis=1)
        atoms.append(_mean_pattern(given[drives[:, number] & alone] * own))
    kept = slice(None) if amacrine_apart else slice(0, 2)
    return xr.Dataset(
        {
            "atom": (("pathway", "sign", "channel"), np.stack(atoms)[kept], _ONE),
            "drives": (("time", "pathway"), drives[:, kept]),
            "firing": ("time", firing),
        },
        coords={
            "time": one["time"].values,
            "pathway": names[kept],
            "sign": list(SIGNS),
            "channel": one["type"].values,
        },
        attrs={"event_hz": float(limit), "amacrine_apart": int(amacrine_apart)},
    )


def match_pathways(
    modes: xr.Dataset,
    truth: xr.Dataset,
    *,
    amacrine_apart: bool = True,
    signed: bool = True,
    event_hz: float | None = None,
    shuffles: int = 200,
    shifts: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the modes of a cell's contributions with the pathways that drive it.

    Parameters
    ----------
    modes : xarray.Dataset
        What `find_modes` returns for contributions to one cell, of the layer ``interneurons``:
        ``atom`` (mode, sign, channel) and ``loading`` (time, mode).
    truth : xarray.Dataset
        As in `pathway_truth`; only times that both have are used.
    amacrine_apart : bool, default True
        As in `pathway_truth`.
    signed : bool, default True
        Atoms agree in sign too; else only in how much of each channel they hold, which is fair to
        activations, of which none is negative.
    event_hz : float, optional
        As in `pathway_truth`.
    shuffles, shifts : int, default 200
        Samples of the two nulls.
    seed : int, default 0
        Seed of the nulls.

    Returns
    -------
    xarray.Dataset
        For each ``pathway``: ``truth`` and ``atom`` (pathway, sign, channel), its atom and that of
        its ``partner``, the mode matched to it one to one, -1 without one; ``cosine``; ``auc``,
        how well the partner's loading tells the times at which the pathway drives the cell from
        all others, and ``auc_firing``, among the times at which the cell fires; ``best_auc`` and
        ``best_auc_firing``, the same of whichever mode tells it best, in ``best_partner`` and
        ``best_partner_firing``. Each score has its null (sample, pathway) and p, such as
        ``auc_null`` and ``auc_p``. NaN for pathways that never drive the cell, or drive it
        whenever it fires. A pathway without a partner has a cosine of 0 and areas of 0.5.
        ``mean_cosine`` and ``mean_cosine_p``: all pathways together.

    Raises
    ------
    InputError
        If the modes and the truth have other channels or too few common times, or the cell never
        fires.

    Notes
    -----
    In the null of the cosine the channels of each mode are shuffled within a sign; in that of the
    areas the loadings are moved around the circle of time by at least a second, and the best mode
    is chosen anew.
    """
    known = pathway_truth(truth, event_hz=event_hz, amacrine_apart=amacrine_apart)
    found, known = align_times(modes, known)
    here = np.isfinite(known["atom"].values).all(axis=(1, 2))
    atoms, loadings = upright(found["atom"].values, found["loading"].values)
    pair = (_folded(known["atom"].values[here], signed), _folded(atoms, signed))
    cosine = cosine_test(*pair, _shuffler(known.sizes["channel"]), shuffles=shuffles, seed=seed)
    partner = true_partners(*pair)[0]
    scores: dict[str, Any] = {"cosine": cosine, "partner": partner}
    options = {"shifts": shifts, "least": times_a_second(known), "seed": seed}
    for suffix, rows in (("", None), ("_firing", np.flatnonzero(known["firing"].values))):
        scores |= _areas(known["drives"].values[:, here], loadings, partner, rows, suffix, options)
    shape = known["atom"].shape[1:]
    patterns = np.concatenate([atoms, np.zeros((1, *shape))])[partner]
    result = _dataset(scores, known, here).assign(
        truth=known["atom"],
        atom=(("pathway", "sign", "channel"), _spread(patterns, here), _ONE),
        mean_cosine=cosine.value.mean(),
        mean_cosine_p=p_value(cosine.value.mean(), cosine.null.mean(axis=1)),
    )
    return result.assign_attrs(known.attrs | {"modes": len(atoms), "signed": int(signed)})


def _areas(
    drives: Array, loadings: Array, partner: Array, rows: Array | None, suffix: str,
    options: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return areas of partners and of the best modes, with their nulls."""
    part = slice(None) if rows is None else rows
    table = roc_auc(drives[part], loadings[part])
    null = roc_auc_shifted(drives, loadings, rows=rows, **options)
    pairs = [partner_values(values, partner, 0.5) for values in (table, null)]
    best = [values.max(axis=-1) for values in (table, null)]
    chosen = np.where(np.isnan(table), -1, table).argmax(axis=-1)
    return {
        f"auc{suffix}": NullTest(pairs[0], pairs[1], p_value(*pairs)),
        f"best_auc{suffix}": NullTest(best[0], best[1], p_value(*best)),
        f"best_partner{suffix}": chosen,
    }


def _dataset(scores: dict[str, Any], known: xr.Dataset, here: Array) -> xr.Dataset:
    """Return scores of the pathways that are there, NaN or -1 for the others."""
    data: dict[str, Any] = {}
    for name, score in scores.items():
        if isinstance(score, NullTest):
            sample = "shuffle" if name == "cosine" else "shift"
            data[name] = ("pathway", _spread(score.value, here), _ONE)
            data[f"{name}_null"] = ((sample, "pathway"), _spread(score.null.T, here).T, _ONE)
            data[f"{name}_p"] = ("pathway", _spread(score.p, here), _ONE)
        else:
            data[name] = ("pathway", np.nan_to_num(_spread(score, here), nan=-1).astype(int))
    return xr.Dataset(data, coords={name: known[name] for name in ("pathway", "sign", "channel")})


def _one_cell(truth: xr.Dataset) -> xr.Dataset:
    """Return the truth of the one cell it holds."""
    problems = Problems()
    lost = sorted(_VARIABLES - {str(name) for name in truth.variables})
    problems.require(not lost, f"no {lost}; pass what pathway_contributions returned")
    cells = truth.sizes.get("cell", 1)
    problems.require(cells == 1, f"expected one cell, got {cells}; choose with truth.sel(cell=...)")
    problems.raise_as("pathways")
    return truth.squeeze("cell", drop=True) if "cell" in truth.dims else truth


def _mean_pattern(given: Array) -> Array:
    """Return the mean of contributions (time, type), split by sign, of unit norm."""
    if not len(given):
        return np.full((2, given.shape[1]), np.nan)
    split = np.stack([np.minimum(given, 0).mean(axis=0), np.maximum(given, 0).mean(axis=0)])
    size = np.linalg.norm(split)
    return split / size if size > 0 else np.full_like(split, np.nan)


def align_times(modes: xr.Dataset, known: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return modes and pathway truth at their common times, after checking that they fit.

    Parameters
    ----------
    modes : xarray.Dataset
        ``atom`` (mode, sign, channel) and ``loading`` (time, mode).
    known : xarray.Dataset
        What `pathway_truth` returns.

    Returns
    -------
    modes, known : xarray.Dataset
        Both, at the same times.

    Raises
    ------
    InputError
        If channels differ, there are too few common times, or nothing drives the cell.
    """
    found = modes[["atom", "loading"]].transpose("time", "mode", "sign", "channel")
    sizes = found.sizes["channel"], known.sizes["channel"]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"pathways: the modes have {sizes[0]} channels, the retina {sizes[1]} interneuron "
            "types; pass modes of the layer 'interneurons'"
        )
    names = {str(name) for name in (*found.dims, *known.dims)} - {"time"}
    found, known = xr.align(found, known, join="inner", exclude=names)
    count, firing = known.sizes["time"], int(known["firing"].sum())
    problems = Problems()
    problems.require(count >= _LEAST_TIMES, f"expected {_LEAST_TIMES} common times, got {count}")
    problems.require(
        firing > 0, f"the cell never fires {known.attrs['event_hz']:g} Hz; lower event_hz"
    )
    some = bool(np.isfinite(known["atom"]).any())
    problems.require(some or not firing, "no pathway drives the cell by itself")
    problems.raise_as("pathways")
    return found, known


def _folded(atoms: Array, signed: bool) -> Array:
    """Return atoms (mode, feature), with the sizes of both signs added up unless signed."""
    return atoms.reshape(len(atoms), -1) if signed else np.abs(atoms).sum(axis=1)


def _shuffler(channels: int) -> Callable[[Array, np.random.Generator], Array]:
    def shuffle(atoms: Array, random: np.random.Generator) -> Array:
        parts = atoms.reshape(len(atoms), -1, channels)
        return random.permuted(parts, axis=-1).reshape(atoms.shape)

    return shuffle


def times_a_second(known: xr.Dataset) -> int:
    """Return the number of times in a second."""
    return max(1, round(_SHIFT_S / float(np.median(np.diff(known["time"].values)))))


def _spread(values: Array, here: Array) -> Array:
    """Return values (pathway here, ...) among all pathways, NaN for the others."""
    out = np.full((len(here), *values.shape[1:]), np.nan)
    out[here] = values
    return out
