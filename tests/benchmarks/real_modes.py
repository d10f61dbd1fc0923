"""Every decomposition of the contributions of real networks, scored on samples held out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from meter import Measured, measure, report
from real_networks import skip
from real_tables import TABLES, RealTable

from retinacodec.analyses.modes import mode_rows
from retinacodec.common_coding import predicted_rows, r2_at_l0
from retinacodec.dictionaries import METHODS, Decomposition, RandomRows, RowSplit, TimeBlocks
from retinacodec.dictionary_scores import HeldOut, held_out, partner_cosines
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance
from retinacodec.rows import Rows

__all__ = ["real_table"]

_L0 = (2.0, 4.0, 8.0)


def real_table(quick: bool) -> None:
    """Print a line for each network, layer and method; quick: a tenth of the samples."""
    for table in TABLES:
        tree = table.load(quick)
        if isinstance(tree, str):
            skip("real_table", f"{table.name}: {tree}")
            continue
        for layer, modes in table.layers.items():
            values, rows = mode_rows(tree[layer])
            split = TimeBlocks() if values.dims[0] == "time" else RandomRows()
            for name, make in METHODS.items():
                _line(table, layer, modes, name, _split_by(make(modes), split), rows, split)


def _split_by(method: Decomposition, split: RowSplit) -> Any:
    """Return the method, holding rows out by this split if it holds any out itself."""
    return dataclasses.replace(method, split=split) if hasattr(method, "split") else method


def _line(
    table: RealTable,
    layer: str,
    modes: int,
    name: str,
    method: Decomposition,
    rows: Rows,
    split: RowSplit,
) -> None:
    """Fit a method from two seeds to a part of the rows, and print its scores on the others."""
    n = {"rows": len(rows), "features": rows.x.shape[1], "modes": modes}
    try:
        ours = measure(lambda: held_out(method, rows, split=split, seed=0), repeats=1)
        other = held_out(method, rows, split=split, seed=1, draws=1)
    except InputError as error:
        skip("real_table", f"{table.name}, {layer}, {name}: {error}")
        return
    report(
        "real_table",
        ours,
        n=n,
        network=table.name,
        layer=layer,
        method=name,
        **_scores(ours, other, rows.take(ours.result.rows).x),
    )


def _scores(ours: Measured, other: HeldOut, x: npt.NDArray[Any]) -> dict[str, Any]:
    fit: HeldOut = ours.result
    if not len(fit.found.atoms):
        return {"r2": None, "alive": 0, "dead": fit.found.dead}
    again = partner_cosines(fit.found, other.found.atoms)
    at = {f"r2_l0_{l0:g}": list(r2_at_l0(fit.found, x, l0)) for l0 in _L0}
    return {
        "r2": float(fit.r2.value),
        "r2_interval": [float(np.round(end, 4)) for end in (fit.r2.low, fit.r2.high)],
        "r2_predicted": explained_variance(x, predicted_rows(fit.found, x)),
        "l0": fit.l0,
        "stability": float(np.diagonal(again).mean()),
        "alive": len(fit.found.atoms),
        "dead": fit.found.dead,
    } | {
        key: round(r2, 4) if abs(reached - float(key[6:])) < 0.05 * reached else None
        for key, (r2, reached) in at.items()
    }
