"""Every score of every cell, model and stimulus as one table, to keep and to print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from retinacodec.errors import InputError, Problems

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["comparison_table", "comparison_words", "write_comparison_table"]

_LONGEST = 32  # characters of a model's name in a printed table


def comparison_table(comparisons: xr.Dataset | Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Put comparisons of models into a table, a row for each stimulus, model and cell.

    Parameters
    ----------
    comparisons : xarray.Dataset or mapping of str to xarray.Dataset
        What `compare_models` returns, of one stimulus or by its name.

    Returns
    -------
    pandas.DataFrame
        Columns ``stimulus``, ``model``, ``cell``, and for each metric ``<metric>``,
        ``<metric>_low``, ``<metric>_high`` and ``<metric>_reason``, which says why a value is
        missing. Metrics of the recording alone, such as ``cc_max``, are the same for all models.

    Raises
    ------
    InputError
        If something is no comparison.
    """
    import pandas as pd

    named = _named(comparisons)
    rows = [
        _row(stimulus, scores.sel(model=model, cell=cell))
        for stimulus, scores in named.items()
        for model in scores["model"].values
        for cell in scores["cell"].values
    ]
    return pd.DataFrame(rows)


def write_comparison_table(
    comparisons: xr.Dataset | Mapping[str, xr.Dataset],
    path: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the table of `comparison_table` as CSV.

    Parameters
    ----------
    comparisons
        As in `comparison_table`.
    path : str or Path
        Where to.
    overwrite : bool, default False
        Replace an earlier file.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    InputError
        If something is no comparison or the file is there already.
    """
    from retinacodec.report import write_table

    return write_table(comparison_table(comparisons), path, overwrite=overwrite)


def comparison_words(comparison: xr.Dataset, tests: xr.Dataset | None = None) -> str:
    """Return means over cells, and tests between models, as text to read.

    Parameters
    ----------
    comparison : xarray.Dataset
        What `compare_models` returns.
    tests : xarray.Dataset, optional
        What `model_tests` returns.

    Returns
    -------
    str
        A table of means with intervals and numbers of cells, then a table for each pair of models;
        no line is longer than 100 characters.
    """
    (scores,) = _named(comparison).values()
    cells = scores.sizes["cell"]
    rows = [["metric", "model", "mean", "interval", "cells"]]
    for name in (str(metric) for metric in scores["metric"].values):
        if "model" in scores[name].dims:
            rows += [
                [name, _short(model), *_mean_words(scores.sel(model=model), name)]
                for model in scores["model"].values
            ]
        else:
            rows.append([name, "recording", *_mean_words(scores, name)])
    level = scores.attrs["level"]
    said = (
        f"means over {cells} cells with {100 * level:g} % intervals, {scores.attrs['frames']} "
        f"frames in {scores.attrs['blocks']} blocks"
    )
    return "\n".join([*_aligned(rows), said, *([] if tests is None else _test_lines(tests))])


def _named(comparisons: xr.Dataset | Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return comparisons by stimulus, or raise if one is none."""
    single = isinstance(comparisons, xr.Dataset)
    named: dict[str, Any] = {"": comparisons} if single else dict(comparisons)  # type: ignore[arg-type]
    problems = Problems()
    problems.require(len(named) > 0, "no comparison")
    for name, scores in named.items():
        fits = isinstance(scores, xr.Dataset) and scores.attrs.get("kind") == "comparison"
        problems.require(fits, f"{name or 'comparison'}: expected what compare_models returns")
    problems.raise_as("comparison table")
    return named


def _row(stimulus: str, one: xr.Dataset) -> dict[str, Any]:
    """Return the row of one cell under one model."""
    row: dict[str, Any] = {"stimulus": stimulus, "model": one["model"].item()}
    row["cell"] = one["cell"].item()
    for name in one["metric"].values:
        for end in ("", "_low", "_high"):
            row[f"{name}{end}"] = float(one[f"{name}{end}"])
        row[f"{name}_reason"] = str(one["reason"].sel(metric=name).item())
    return row


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return rows of words as lines, columns below each other; a word is not said twice."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines, before = [], ""
    for row in rows:
        first = row[0] if row[0] != before else ""
        before = row[0]
        words = zip([first, *row[1:]], widths, strict=True)
        lines.append("  ".join(word.ljust(width) for word, width in words).rstrip())
    return lines


def _short(name: object) -> str:
    """Return a name that fits its column, cut in its middle."""
    text = str(name)
    half = (_LONGEST - 2) // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}..{text[-half:]}"


def _mean_words(scores: xr.Dataset, name: str) -> list[str]:
    """Return a mean over cells, its interval, and the number of cells that have a value."""
    mean, low, high = (float(scores[f"mean_{name}{end}"]) for end in ("", "_low", "_high"))
    known = int((~np.isnan(scores[name])).sum())
    if np.isnan(mean):
        return ["no value", "", str(known)]
    interval = "none" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
    return [f"{mean:.3f}", interval, str(known)]


def _test_lines(tests: xr.Dataset) -> list[str]:
    """Return a table for each pair of models, with a line for each metric."""
    if tests.attrs.get("kind") != "model_tests":
        raise InputError("tests: expected what model_tests returns")
    lines = []
    for pair in tests["pair"].values:
        rows = [["", "difference", "interval", "p", "q", "better", "worse", "cells"]]
        for metric in tests["metric"].values:
            one = tests.sel(pair=pair, metric=metric)
            mean, low, high = (float(one[f"mean{end}"]) for end in ("", "_low", "_high"))
            counts = [str(int(one[name])) for name in ("better", "worse", "cells")]
            chances = [f"{float(one[f'{name}_wilcoxon']):.2g}" for name in "pq"]
            difference = [f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}"]
            if np.isnan(mean):
                difference, chances = ["no value", ""], ["", ""]
            rows.append([str(metric), *difference, *chances, *counts])
        lines += ["", " - ".join(map(_short, str(pair).split(" - "))), *_aligned(rows)]
    lines += [
        "",
        "p: Wilcoxon over cells; q: corrected over pairs and metrics; better, worse: cells in",
        "which the first model of the pair is so by itself, at a false discovery rate of "
        f"{100 * float(tests.attrs['alpha']):g} %",
    ]
    least = float(tests["least_p"].max())
    if least > 0.001:
        lines.append(f"so few cells cannot give p below {least:.2g}")
    return lines
