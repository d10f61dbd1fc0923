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
        A table of means with intervals and numbers of cells, then a line a pair and metric.
    """
    (scores,) = _named(comparison).values()
    metrics = [str(name) for name in scores["metric"].values]
    each = [name for name in metrics if scores[name].dims == ("model", "cell")]
    rows = [["model", *each]]
    for model in scores["model"].values:
        one = scores.sel(model=model)
        rows.append([str(model), *(_mean_words(one, name) for name in each)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for name in metrics:
        if name not in each:
            lines.append(f"{name} of the recording: {_mean_words(scores, name)}")
    level = scores.attrs["level"]
    lines.append(
        f"means over {scores.sizes['cell']} cells with {100 * level:g} % intervals, "
        f"{scores.attrs['frames']} frames in {scores.attrs['blocks']} blocks"
    )
    return "\n".join([*lines, *([] if tests is None else _test_lines(tests))])


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


def _mean_words(scores: xr.Dataset, name: str) -> str:
    """Return a mean over cells with its interval, and how many cells have none."""
    mean, low, high = (float(scores[f"mean_{name}{end}"]) for end in ("", "_low", "_high"))
    if np.isnan(mean):
        return "no value"
    missing = int(np.isnan(scores[name]).sum())
    words = f"{mean:.3f} ({low:.3f} to {high:.3f})"
    return f"{words}, {missing} without" if missing else words


def _test_lines(tests: xr.Dataset) -> list[str]:
    """Return a line for each pair of models and metric."""
    if tests.attrs.get("kind") != "model_tests":
        raise InputError("tests: expected what model_tests returns")
    lines = []
    for pair in tests["pair"].values:
        for metric in tests["metric"].values:
            one = tests.sel(pair=pair, metric=metric)
            mean, low, high = (float(one[f"mean{end}"]) for end in ("", "_low", "_high"))
            lines.append(
                f"{pair}, {metric}: {mean:+.3f} ({low:+.3f} to {high:+.3f}), Wilcoxon "
                f"p = {float(one['p_wilcoxon']):.2g}, q = {float(one['q_wilcoxon']):.2g}; first "
                f"better in {int(one['better'])}, worse in {int(one['worse'])} of "
                f"{int(one['cells'])} cells"
            )
    least = float(tests["least_p"].max())
    if least > 0.001:
        lines.append(f"so few cells cannot give p below {least:.2g}")
    return lines
