"""Every decomposition on every scenario of tables with known modes, beside each other.

One line a method; the error is one less the mean cosine of true atoms matched one to one, over
all scenarios and seeds that ran. With ``--table`` Markdown tables of the scores follow.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import warnings

import xarray as xr
from meter import Measured, measure, report

from retinacodec.analyses import SCENARIOS, ground_truth_markdown, ground_truth_table
from retinacodec.dictionaries import METHODS

_SHOWN = ("cosine", "auc", "held_out_r2", "found", "l0", "cpu_s")


def planted_scenarios(methods: list[str], quick: bool) -> xr.Dataset:
    """Three tables of every scenario; quick: one of a third of the rows, and no large one."""
    recipes = dict(SCENARIOS)
    if quick:
        del recipes["large"]
        recipes = {k: dataclasses.replace(r, rows=r.rows // 3) for k, r in recipes.items()}
    parts = []
    for name in methods:
        one = {name: METHODS[name]}
        seeds = (0,) if quick else (0, 1, 2)
        ours = measure(
            lambda one=one, seeds=seeds: ground_truth_table(
                one, recipes, seeds=seeds, progress=False
            ),
            repeats=1,
        )
        parts.append(ours.result)
        _line(name, ours, len(recipes), len(seeds))
    return xr.concat(parts, "decomposition")


def _line(name: str, ours: Measured, scenarios: int, seeds: int) -> None:
    table = ours.result
    low = table["cosine"].mean(["seed", "decomposition"]).fillna(0).values
    mean = {key: float(table[key].mean()) for key in _SHOWN}
    report(
        "planted_scenarios",
        ours,
        n={"scenarios": scenarios, "seeds": seeds},
        error=1 - mean.pop("cosine"),
        method=name,
        failed=int(table["cosine"].isnull().sum()),
        worst=str(table["scenario"].values[low.argmin()]),
        fit_cpu_s=mean.pop("cpu_s"),
        **mean,
    )


def main() -> None:
    """Run the methods asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["planted_scenarios"], action="append")
    parser.add_argument("--method", choices=list(METHODS), action="append")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--table", action="store_true", help="print Markdown tables too")
    chosen = parser.parse_args()
    logging.getLogger("retinacodec").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    table = planted_scenarios(chosen.method or list(METHODS), chosen.quick)
    for name in _SHOWN if chosen.table else ():
        print(f"\n{table[name].attrs['long_name']}\n\n{ground_truth_markdown(table, name)}")


if __name__ == "__main__":
    main()
