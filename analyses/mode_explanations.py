"""Modes of a retina in words: which events of a movie they go with, scored against wiring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.event_concepts import lagged_events
from retinacodec.analyses.explanations import explain
from retinacodec.analyses.stimulus_events import stimulus_events
from retinacodec.errors import InputError, Problems
from retinacodec.formulas import And, Formula, Leaf, Not, Or, parse_formula
from retinacodec.nulls import p_value

__all__ = ["explain_modes", "formula_polarity", "score_formulas", "wired_polarity"]

Array = npt.NDArray[Any]

LAGS_S = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.15))


def explain_modes(
    modes: xr.Dataset,
    movie: xr.Dataset | xr.DataArray,
    *,
    lags_s: Sequence[tuple[float, float]] = LAGS_S,
    least_loading: float = 0.0,
    events: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Explain when each mode is on by a formula over the events of the movie.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes, with ``loading`` (time, mode).
    movie : xarray.Dataset or xarray.DataArray of bool (event, time)
        The Stimulus that was shown; or its events, such as those of `stimulus_events` joined
        with `response_events`.
    lags_s : sequence of (float, float), default 0-50, 50-100 and 100-150 ms
        How long ago events may have happened; each lag makes concepts of its own.
    least_loading : float, default 0
        A mode is on where its loading is above this.
    events : mapping, optional
        Arguments of `stimulus_events`, such as ``centre``.
    **options
        Further arguments of `explain`: length, metric, held_out, null, seed ...

    Returns
    -------
    xarray.Dataset
        What `explain` returns, over ``mode`` in place of ``mask``: formulas of at most 1, 2, ...
        concepts, their overlap on fitted and held-out blocks of time, and p of shifted modes; and
        ``on`` (mode), the share of the time that the mode is on.

    Raises
    ------
    InputError
        If modes and movie share no times, or as `explain`.

    Examples
    --------
    >>> from retinacodec.schema import make_stimulus
    >>> levels = np.repeat(np.random.default_rng(0).integers(0, 2, 60) * 0.5, 20)
    >>> frames = np.broadcast_to(levels[:, None, None], (1200, 20, 20))
    >>> movie = make_stimulus(frames, frame_rate=60, pixel_um=50, name="steps")
    >>> past = np.roll(levels, 1)
    >>> loading = ((levels > past) | (np.roll(levels, 1) > np.roll(levels, 2))) * 1.0
    >>> dims, time = ("time", "mode"), {"time": movie["time"]}
    >>> modes = xr.Dataset({"loading": (dims, loading[:, None])}, time)
    >>> found = explain_modes(modes, movie, length=1, progress=False)
    >>> "step up, 0-50 ms ago" in found["formula"].item()
    True
    """
    if "loading" not in modes or set(modes["loading"].dims) != {"time", "mode"}:
        raise InputError("explain_modes: expected modes with a loading (time, mode)")
    if isinstance(movie, xr.DataArray):
        table = movie
    else:
        table = stimulus_events(movie, **dict(events or {}))
    concepts = lagged_events(table, lags_s)
    masks = modes["loading"].transpose("mode", "time") > least_loading
    try:
        masks, concepts = xr.align(masks, concepts, join="inner", exclude=("mode", "event"))
    except ValueError as error:
        raise InputError(f"explain_modes: modes and movie do not fit: {error}") from error
    if not masks.sizes["time"]:
        raise InputError("explain_modes: modes and movie share no times; take those of one movie")
    found = explain(masks, concepts, **options).rename(mask="mode")
    share = masks.mean("time").values
    return found.assign(on=("mode", share, {"units": "1"})).assign_attrs(
        kind="mode explanations", least_loading=least_loading, lags_s=repr(tuple(lags_s))
    )


def formula_polarity(formula: Formula | str) -> float:
    """Return whether a formula over events speaks of light or of dark.

    Parameters
    ----------
    formula : Formula or str
        Formula over events of `stimulus_events`, with or without lags.

    Returns
    -------
    float
        Mean over its concepts, from -1 (dark: steps down, centre darker) to 1 (light); events
        of neither sign count as 0, and NOT turns the sign. NaN without a formula.

    Examples
    --------
    >>> formula_polarity('"centre step up, 0-50 ms ago" AND NOT "centre darker, 0-50 ms ago"')
    1.0
    """
    if isinstance(formula, str):
        if not formula:
            return float("nan")
        formula = parse_formula(formula)
    return float(np.mean(_signs(formula)))


def wired_polarity(
    modes: xr.Dataset, wiring: Mapping[str, float], *, names: Sequence[str] | None = None
) -> xr.DataArray:
    """Return what light does to each mode by the wiring of the interneurons it is made of.

    Parameters
    ----------
    modes : xarray.Dataset
        Modes, with ``atom`` (mode, sign, channel).
    wiring : mapping of str to float
        For each type of interneuron: 1 if light excites it, -1 if dark does, 0 for both.
    names : sequence of str, optional
        Type of each channel; its coordinate if left out.

    Returns
    -------
    xarray.DataArray (mode,)
        From -1 to 1: the mean of the types' signs, weighted by their squared part of the atom. A
        type is active in a mode whichever the sign of its contribution: inhibition too comes
        from cells that are excited.

    Raises
    ------
    InputError
        If a type has no wiring.

    Notes
    -----
    ``P_k = sum_c w_c (a_{k,-,c}^2 + a_{k,+,c}^2) / sum_c (a_{k,-,c}^2 + a_{k,+,c}^2)``.
    """
    atoms = modes["atom"].transpose("mode", "sign", "channel").values.astype(np.float64)
    kinds = [str(name) for name in (modes["channel"].values if names is None else names)]
    lost = sorted(set(kinds) - set(wiring))
    if lost or len(kinds) != atoms.shape[2]:
        raise InputError(f"wired_polarity: no wiring for {lost} of {len(kinds)} channels")
    size = (atoms**2).sum(axis=1)
    signs = np.array([wiring[kind] for kind in kinds])
    value = (size * signs).sum(axis=1) / np.maximum(size.sum(axis=1), 1e-12)
    return xr.DataArray(value, {"mode": modes["mode"]}, ("mode",), attrs={"units": "1"})


def score_formulas(
    formulas: Sequence[str],
    wired: npt.ArrayLike,
    *,
    clear: float = 0.5,
    shuffles: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Ask whether formulas name the sign of the light that their modes are wired for.

    Parameters
    ----------
    formulas : sequence of str
        Formula of each mode, as `explain_modes` prints them; empty for none.
    wired : array_like (mode,)
        Polarity of each mode by its wiring, -1 to 1, such as that of `wired_polarity`.
    clear : float, default 0.5
        Wired polarities below this size are neither light nor dark: the mode is wired for both.
    shuffles : int, default 2000
        Samples of the null, in which the wirings are dealt to other modes.
    seed : int, default 0
        Seed of the null.

    Returns
    -------
    xarray.Dataset
        Over ``mode``: ``named``, polarity of the formula; ``wired``; and ``right``, whether the
        signs agree: light, dark or, for modes that are wired for both, neither (a size of at most
        a half). ``share``, ``share_p`` and ``share_null`` (shuffle): how many of all are right;
        ``clear_share``, ``clear_p`` and ``clear_null``, those of the modes with a clear wiring;
        ``correlation`` of the two polarities and its ``correlation_p``. Formulas that are
        missing count as wrong, with a polarity of 0.

    Raises
    ------
    InputError
        If the numbers of formulas and modes differ, or there are fewer than two.
    """
    true = np.asarray(wired, dtype=np.float64)
    problems = Problems()
    same = true.ndim == 1 and len(formulas) == true.size
    problems.require(same, f"expected a wiring a formula, got {true.shape} and {len(formulas)}")
    problems.require(len(formulas) >= 2, f"expected two formulas, got {len(formulas)}")
    problems.require(bool(np.isfinite(true).all()), "the wiring holds NaN or infinite values")
    problems.require(0 < clear <= 1, f"clear: expected 0 to 1, got {clear}")
    problems.raise_as("score_formulas")
    given = np.array([formula_polarity(one) for one in formulas])
    named, known = np.nan_to_num(given), np.isfinite(given)
    orders = [np.random.default_rng([seed, k]).permutation(true.size) for k in range(shuffles)]
    deals = [true, *(true[order] for order in orders)]
    table = np.stack([_right(named, known, one, clear) for one in deals])
    decided = np.abs(np.stack(deals)) >= clear
    share = table.mean(axis=1)
    some = decided[0].any()
    clear_share = (table & decided).sum(axis=1) / max(decided[0].sum(), 1)
    correlation = np.array([_correlation(named, one) for one in deals])
    data: dict[str, Any] = {
        "named": ("mode", given, {"units": "1"}),
        "wired": ("mode", true, {"units": "1"}),
        "right": ("mode", table[0]),
    }
    scores = (
        ("share", share, True),
        ("clear", clear_share, some),
        ("correlation", correlation, True),
    )
    for name, values, exists in scores:
        good = exists and np.isfinite(values[0])
        data["clear_share" if name == "clear" else name] = values[0] if good else np.nan
        data[f"{name}_null"] = ("shuffle", values[1:], {"units": "1"})
        data[f"{name}_p"] = float(p_value(values[0], values[1:])) if good else np.nan
    return xr.Dataset(data, attrs={"kind": "formula scores", "clear": clear, "seed": seed})


def _right(named: Array, known: Array, true: Array, clear: float) -> npt.NDArray[np.bool_]:
    """Return whether named and wired polarities agree."""
    both = np.abs(true) < clear
    agree = np.where(both, np.abs(named) <= 0.5, named * true > 0)
    return np.asarray(agree & known)


def _correlation(one: Array, other: Array) -> float:
    if one.std() == 0 or other.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _signs(formula: Formula) -> list[float]:
    """Return the polarity of every concept that a formula names."""
    match formula:
        case Leaf(name):
            return [_sign(name)]
        case Not(part):
            return [-one for one in _signs(part)]
        case And(parts) | Or(parts):
            return [one for part in parts for one in _signs(part)]


def _sign(name: str) -> float:
    base = name.split(",")[0]
    if base.endswith(("step up", "brighter")):
        return 1.0
    return -1.0 if base.endswith(("step down", "darker")) else 0.0
