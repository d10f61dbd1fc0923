"""How statistics of layers are drawn: by depth, one line for each quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from retinacodec.analyses.layer_measures import STATISTICS
from retinacodec.errors import InputError
from retinacodec.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_depth"]

_LABELS = {
    "hoyer": "Hoyer sparsity",
    "kappa4": "Inverse participation\nratio (kappa4)",
    "participation": "Participation ratio\n(channels)",
    "kurtosis": "Excess kurtosis",
    "sign_correlation": "Correlation of excitation\nand inhibition",
    "dimensions": "Dimensions\n({share:.0%} of variance)",
}
_MOST_NAMES = 8


def draw_depth(
    statistics: xr.Dataset, ax: Axes, *, name: str = "hoyer", spread: bool = False
) -> Axes:
    """Draw a statistic of every layer, with its interval, by depth.

    Parameters
    ----------
    statistics : xarray.Dataset
        What `retinacodec.analyses.layer_statistics` or `compare_quantities` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    name : str, default "hoyer"
        ``"hoyer"``, ``"kappa4"``, ``"participation"``, ``"kurtosis"``, ``"sign_correlation"``
        or ``"dimensions"``.
    spread : bool, default False
        Shade between the quartiles over samples too.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a line for each quantity, with the interval of each layer's value; layers in
        which nothing is defined are left out.

    Raises
    ------
    InputError
        If there is no such statistic.
    """
    from matplotlib.ticker import MaxNLocator

    if name not in STATISTICS or name not in statistics:
        raise InputError(f"draw_depth: expected one of {', '.join(STATISTICS)}, got {name!r}")
    table = statistics
    if "quantity" not in table.dims:
        table = statistics.drop_vars("quantity", errors="ignore")
        table = table.expand_dims(quantity=[statistics.attrs.get("quantity", "")])
    depth = np.arange(table.sizes["layer"])
    for number, quantity in enumerate(table["quantity"].values.tolist()):
        one = table.sel(quantity=quantity)
        if bool(one[name].isnull().all()):
            continue
        colour = COLOURS.series[number % len(COLOURS.series)]
        ax.plot(depth, one[name], "o-", color=colour, markersize=2.5, label=f"{quantity}s")
        ax.vlines(depth, one[f"{name}_low"], one[f"{name}_high"], color=colour, linewidth=1.2)
        if spread and f"{name}_quartile" in one:
            low, high = one[f"{name}_quartile"].transpose("quartile", "layer").values
            ax.fill_between(depth, low, high, color=colour, alpha=0.15, linewidth=0)
    if depth.size <= _MOST_NAMES:
        ax.set_xticks(depth, labels=[str(layer) for layer in table["layer"].values])
    ax.set(xlabel="Layer", ylabel=_LABELS[name].format(share=statistics.attrs["share"]))
    ax.set_xlim(-0.3, depth[-1] + 0.3)
    ax.margins(y=0.1)
    if name == "dimensions":
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "sign_correlation":
        ax.axhline(0, color=COLOURS.quiet, linewidth=0.5, zorder=0)
    if table.sizes["quantity"] > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return ax
