"""How well decompositions find modes that are known, scenario by scenario."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
from retinacodec.analyses.planted import SCENARIOS, Planted
from retinacodec.dictionaries import Decomposition, Dictionary
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, pearson
from retinacodec.nulls import p_value
from retinacodec.plotting import colour_map, heat
from retinacodec.progress import track
from retinacodec.row_splits import RandomRows, TimeBlocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ground_truth", "ground_truth_markdown", "ground_truth_table", "score_modes"]

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
Factory = Callable[[int], Decomposition]

_COLUMNS = {
    "cosine": "mean matched cosine",
    "cosine_null": "mean matched cosine of shuffled atoms",
    "auc": "mean area under the ROC curve of loadings",
    "auc_null": "mean area under the ROC curve of shifted loadings",
    "correlation": "mean correlation of loadings",
    "found": "modes found",
    "surplus": "modes found that match no true one",
    "missed": "true modes without a match",
    "held_out_r2": "variance explained on held-out rows",
    "l0": "mean active modes a row",
    "cpu_s": "time of the fit",
}


def score_modes(
    truth: xr.Dataset,
    found: Dictionary | xr.Dataset,
    *,
    same: float = 0.9,
    shuffles: int = 20,
    shifts: int = 100,
    least: int = 1,
    seed: int = 0,
) -> xr.Dataset:
    """Score found modes against known ones.

    Parameters
    ----------
    truth : xarray.Dataset
        ``atom`` (mode, ...) and ``loading`` (sample, mode), at least 0, as `Planted.draw` returns
        them.
    found : Dictionary or xarray.Dataset
        Modes of the same rows and features, in any number: a dictionary, or a dataset with
        ``atom`` (mode, ...) and ``loading`` (sample, mode). Components without a sign are turned
        so that their loadings are skewed upwards.
    same : float, default 0.9
        Cosine from which a mode counts as found.
    shuffles, shifts : int, default 20 and 100
        Samples of the two nulls.
    least : int, default 1
        Smallest shift of the null, rows; at least as long as loadings are correlated with
        themselves.
    seed : int, default 0
        Seed of the nulls.

    Returns
    -------
    xarray.Dataset
        For each true ``mode``: ``partner``, number of the mode matched to it one to one, -1
        without one; ``cosine``, ``auc`` of the partner's loading for "the true loading is above
        0", and ``correlation`` of the two loadings (0, 0.5 and 0 without a partner: a missed mode
        counts as chance; NaN where the true mode is always or never active); ``cosine_null``
        (shuffle, mode) and ``auc_null`` (shift, mode), ``cosine_p`` and ``auc_p``. Attributes:
        ``found``, ``missed`` and ``surplus``, numbers of modes.

    Raises
    ------
    InputError
        If features or rows differ, or a value is not finite.

    Notes
    -----
    Partners maximise the sum of cosines. In the null of the cosine each feature's entries are
    dealt out anew to the modes found, which keeps signs and common features; in that of the area
    the loadings are moved around the circle of rows.

    Examples
    --------
    >>> from retinacodec.dictionaries import DirectPursuit
    >>> table = Planted(rows=300, features=12, modes=3, active=1.0).draw(seed=0)
    >>> fitted = DirectPursuit(modes=3).fit(table["x"], progress=False)
    >>> scores = score_modes(table, fitted)
    >>> bool(scores["cosine"].min() > 0.99), scores.attrs["missed"]
    (True, 0)
    """
    atoms, loadings = _patterns(truth)
    others, codes = upright(*_patterns(found))
    _check(atoms, loadings, others, codes)
    partner, _ = true_partners(atoms, others)
    cosine = cosine_test(
        atoms, others, lambda a, random: random.permuted(a, axis=0), shuffles=shuffles, seed=seed
    )
    active = loadings > 0
    auc = partner_values(roc_auc(active, codes), partner, 0.5)
    null = roc_auc_shifted(active, codes, shifts=shifts, least=least, seed=seed)
    auc_null = partner_values(null, partner, 0.5)
    matched = int((cosine.value >= same).sum())
    return xr.Dataset(
        {
            "partner": ("mode", partner),
            "cosine": ("mode", cosine.value, {"units": "1"}),
            "cosine_null": (("shuffle", "mode"), cosine.null, {"units": "1"}),
            "cosine_p": ("mode", cosine.p, {"units": "1"}),
            "auc": ("mode", auc, {"units": "1"}),
            "auc_null": (("shift", "mode"), auc_null, {"units": "1"}),
            "auc_p": ("mode", p_value(auc, auc_null), {"units": "1"}),
            "correlation": ("mode", _correlation(loadings, codes, partner), {"units": "1"}),
        },
        attrs={
            "found": len(others),
            "missed": len(atoms) - matched,
            "surplus": len(others) - matched,
            "same": same,
            "seed": seed,
        },
    )


def ground_truth_table(
    methods: Mapping[str, Factory],
    scenarios: Mapping[str, Planted] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    progress: bool = True,
) -> xr.Dataset:
    """Try methods on tables whose modes are known.

    Parameters
    ----------
    methods : mapping of str to callable
        Each takes the number of modes asked for and returns a decomposition, such as
        ``lambda modes: DirectPursuit(modes=modes)``.
    scenarios : mapping of str to Planted, optional
        Recipes of the tables; `SCENARIOS` if left out.
    seeds : sequence of int, default (0, 1, 2)
        Each draws a table and seeds the method.
    progress : bool, default True
        Show how far the runs have come.

    Returns
    -------
    xarray.Dataset (scenario, decomposition, seed)
        Means over true modes of ``cosine``, ``auc`` and ``correlation``, and of the nulls
        ``cosine_null`` and ``auc_null``, as `score_modes` has them; ``found``, ``surplus`` and
        ``missed`` modes; ``held_out_r2``, ``l0`` and ``cpu_s``, CPU seconds of the fit; and
        ``problem``, why a run has none of these numbers (NaN), empty for the others.

    Notes
    -----
    A method is fitted once, to four fifths of the rows, in contiguous blocks where loadings are
    smooth in time and at random where rows are independent. ``held_out_r2`` is that of the other
    rows; all other scores are those of its atoms, and of its loadings on all rows.
    """
    tables = SCENARIOS if scenarios is None else scenarios
    where = [(a, b, c) for a in tables for b in methods for c in seeds]
    if not where:
        raise InputError("ground_truth_table: expected a scenario, a method and a seed at least")
    rows = [
        _run(methods[method], tables[scenario], seed)
        for scenario, method, seed in track(where, "ground truth", enabled=progress)
    ]
    shape = (len(tables), len(methods), len(seeds))
    dims = ("scenario", "decomposition", "seed")
    data: dict[str, Any] = {
        name: (
            dims,
            np.reshape([row[name] for row in rows], shape),
            {"units": "s" if name == "cpu_s" else "1", "long_name": words},
        )
        for name, words in _COLUMNS.items()
    }
    data["problem"] = (dims, np.reshape(np.asarray([row["problem"] for row in rows]), shape))
    coords = {"scenario": list(tables), "decomposition": list(methods), "seed": list(seeds)}
    return xr.Dataset(data, coords, attrs={"kind": "ground truth"})


def ground_truth_markdown(table: xr.Dataset, variable: str = "cosine") -> str:
    """Return a Markdown table of one score: scenarios down, methods across.

    Parameters
    ----------
    table : xarray.Dataset
        What `ground_truth_table` returns.
    variable : str, default "cosine"
        The score.

    Returns
    -------
    str
        Mean and, for more than one seed, standard deviation over the seeds that ran; a dash
        where none did, and the number of seeds that did not, such as "(1 failed)".

    Raises
    ------
    InputError
        If there is no such score.
    """
    values = _score(table, variable)
    methods = [str(name) for name in table["decomposition"].values]
    lines = [["scenario", *methods], ["---"] * (len(methods) + 1)]
    for scenario in table["scenario"].values:
        cells = [
            _cell(values.sel(scenario=scenario, decomposition=name).values) for name in methods
        ]
        lines.append([str(scenario), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw_ground_truth(table: xr.Dataset, ax: Axes, variable: str = "cosine") -> Axes:
    """Draw one score as a map with numbers: methods down, scenarios across.

    Parameters
    ----------
    table : xarray.Dataset
        What `ground_truth_table` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    variable : str, default "cosine"
        The score, averaged over seeds.

    Returns
    -------
    matplotlib.axes.Axes
        The axis; its image is ``ax.images[-1]``. Runs without a number are left blank.

    Raises
    ------
    InputError
        If there is no such score.
    """
    values = _score(table, variable)
    mean = values.mean("seed", keep_attrs=True).transpose("decomposition", "scenario")
    known = mean.values[np.isfinite(mean.values)]
    low = 0.5 if variable.startswith("auc") else min(0.0, known.min(initial=0))
    high = max(1.0 if values.attrs["units"] == "1" else 0.0, known.max(initial=1e-12))
    heat(ax, mean.values, limits=(low, high))
    shade = colour_map(ax.images[-1].get_cmap().name)
    for (row, column), value in np.ndenumerate(mean.values):
        if np.isfinite(value):
            light = np.mean(shade((value - low) / (high - low))[:3]) > 0.55
            ax.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=5,
                color="black" if light else "white",
            )
    names = [str(name).replace("_", " ") for name in mean["scenario"].values]
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(
        range(mean.sizes["decomposition"]), [str(name) for name in mean["decomposition"].values]
    )
    ax.tick_params(length=0)
    units = "" if values.attrs["units"] == "1" else f" ({values.attrs['units']})"
    words = str(values.attrs["long_name"])
    ax.set(xlabel="", ylabel="", title=words[0].upper() + words[1:] + units)
    return ax


def _run(factory: Factory, recipe: Planted, seed: int) -> dict[str, Any]:
    """Return the scores of one method on one table, NaN with a reason where there are none."""
    table = recipe.draw(seed)
    split = TimeBlocks() if recipe.smooth else RandomRows()
    x = table["x"].values
    fitted, held = split.split(len(x))
    nothing = dict.fromkeys(_COLUMNS, np.nan)
    start = time.process_time()
    try:
        found = factory(recipe.wanted).fit(
            x[fitted], signs=table["sign"].values, seed=seed, progress=False
        )
        seconds = time.process_time() - start
        if not len(found.atoms):
            return nothing | {"found": 0, "cpu_s": seconds, "problem": "no mode found"}
        return _summary(table, found, held) | {"cpu_s": seconds, "problem": ""}
    except Exception as error:
        _log.warning("%s, seed %d: %s", recipe, seed, error)
        return nothing | {"problem": f"{type(error).__name__}: {error}"}


def _summary(table: xr.Dataset, found: Dictionary, held: Array) -> dict[str, Any]:
    """Return means over modes, and what the dictionary does on rows it was not fitted to."""
    x = table["x"].values
    loadings = found.transform(x)
    modes = xr.Dataset(
        {"atom": (("mode", "feature"), found.atoms), "loading": (("sample", "mode"), loadings)}
    )
    scores = score_modes(table, modes)
    names = ("cosine", "cosine_null", "auc", "auc_null", "correlation")
    return {
        **{name: float(scores[name].mean()) for name in names},
        **{name: scores.attrs[name] for name in ("found", "surplus", "missed")},
        "held_out_r2": explained_variance(x[held], found.reconstruct(loadings[held])),
        "l0": float((loadings != 0).sum(axis=1).mean()),
    }


def _patterns(modes: Dictionary | xr.Dataset) -> tuple[Array, Array]:
    """Return atoms (mode, feature) and loadings (sample, mode)."""
    if isinstance(modes, Dictionary):
        return modes.atoms, modes.loadings
    if not {"atom", "loading"} <= set(modes):
        raise InputError("score_modes: expected variables 'atom' and 'loading'")
    atoms = modes["atom"].transpose("mode", ...).values
    return atoms.reshape(len(atoms), int(np.prod(atoms.shape[1:]))), modes["loading"].transpose(
        ..., "mode"
    ).values


def _check(atoms: Array, loadings: Array, others: Array, codes: Array) -> None:
    """Raise unless true and found modes are of one table, and finite."""
    if atoms.shape[1] != others.shape[1] or len(loadings) != len(codes):
        raise InputError(
            f"score_modes: the truth has {len(loadings)} rows of {atoms.shape[1]} features, the "
            f"modes found {len(codes)} of {others.shape[1]}; pass modes of the same table"
        )
    for name, values in (("truth", (atoms, loadings)), ("modes found", (others, codes))):
        if not all(np.isfinite(value).all() for value in values):
            raise InputError(f"score_modes: the {name} hold NaN or infinite values")


def _correlation(loadings: Array, codes: Array, partner: Array) -> Array:
    """Return the correlation of each true loading with its partner's, 0 without one."""
    if not codes.shape[1]:
        return np.where(loadings.std(axis=0) > 0, 0.0, np.nan)
    r = pearson(loadings, np.asarray(codes)[:, np.maximum(partner, 0)])
    return np.where((partner < 0) & (loadings.std(axis=0) > 0), 0.0, r)


def _score(table: xr.Dataset, variable: str) -> xr.DataArray:
    if variable not in _COLUMNS or variable not in table:
        raise InputError(f"ground truth: expected a score of {list(_COLUMNS)}, got {variable!r}")
    return table[variable]


def _cell(values: Array) -> str:
    """Return mean and spread of the runs that have a number, and how many have none."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "–"
    spread = f" ± {known.std(ddof=1):.2f}" if known.size > 1 else ""
    failed = f" ({len(values) - known.size} failed)" if known.size < len(values) else ""
    return f"{known.mean():.2f}{spread}{failed}"
