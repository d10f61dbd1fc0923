"""Whether a cell's field turns over when a mode that is active alone gets company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.field_frames import check_loading
from retinacodec.analyses.panels import active_modes
from retinacodec.nulls import discoveries, p_value
from retinacodec.plotting import heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_flips", "polarity_flips"]

Array = npt.NDArray[Any]


def polarity_flips(
    fields: xr.Dataset,
    loading: xr.DataArray,
    *,
    share: float = 0.1,
    rate_bins: int = 3,
    fewest: int = 10,
    null_shifts: int = 1000,
    level: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Ask for every mode and cell whether the polarity of the field changes in combinations.

    Parameters
    ----------
    fields : xarray.Dataset
        What `retinacodec.analyses.dynamic_fields` returns; frames in which the cell fires count.
    loading : xarray.DataArray (time, mode)
        Loadings at the same frames; see `retinacodec.analyses.loading_at`.
    share : float, default 0.1
        A mode is active where its loading exceeds this share of its strong loadings.
    rate_bins : int, default 3
        For the comparison at equal rate: number of equally filled bins of the cell's rate.
    fewest : int, default 10
        Fewest frames with the mode alone, and with it in company, that a pair needs.
    null_shifts : int, default 1000
        Number of shifts of the loadings against the fields.
    level : float, default 0.05
        Share of false ones among the pairs that are called flipping.
    seed : int, default 0
        Seed of the shifts.

    Returns
    -------
    xarray.Dataset
        Over (mode, cell): ``alone`` and ``combined``, frames in which the cell fires with this
        mode alone and with it and others; ``polarity``, the typical one alone, +1 or -1;
        ``consistency``, the share of frames alone that have it; ``opposite``, the share of
        frames in company with the other one; ``difference``, `opposite` less the share of
        opposite frames alone, with ``null_mean`` and ``p_value``; ``matched``, the difference at
        equal rate, with ``matched_p_value``; ``q_value`` and ``flips``, after adjustment of
        ``p_value`` for all pairs. ``opposite_alone``. Over cells the same of all modes together:
        ``pooled``, mean of `difference` weighted by frames in company, ``pooled_null_mean`` and
        ``pooled_p_value``. NaN where there are too few frames.

    Raises
    ------
    InputError
        If loadings and fields do not fit, or a number is out of range.

    Notes
    -----
    With typical polarity ``s = sign(sum_alone polarity_t)``, ties being ON,
    ``difference = mean_combined [polarity_t = -s] - mean_alone [polarity_t = -s]``. Because s is
    chosen by the frames alone, the difference is above 0 by chance; the null chooses it again.
    In the null the loadings move against the fields of a cell's firing frames around a circle,
    by a tenth of them at least, which keeps how often and for how long modes are alone or in
    company, and how long a polarity lasts. At equal rate, the difference within each bin is
    weighted by ``n_alone n_combined / (n_alone + n_combined)`` of the bin. The false discovery
    rate is that of Benjamini and Hochberg.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8D, of which this is the test.
    """
    counts = {"rate_bins": rate_bins, "fewest": fewest, "null_shifts": null_shifts}
    check_loading("polarity_flips", fields, loading, ("polarity", "firing", "rate"), **counts)
    active = active_modes(loading.transpose("time", "mode"), share=share).values
    polarity, firing, rate = (
        fields[name].transpose("time", "cell").values for name in ("polarity", "firing", "rate")
    )
    shifts = np.random.default_rng(seed).uniform(0.1, 0.9, size=null_shifts)
    cells = []
    for cell in range(fields.sizes["cell"]):
        kept = np.flatnonzero(firing[:, cell].astype(bool) & np.isfinite(polarity[:, cell]))
        cells.append(
            _one_cell(
                active[kept], polarity[kept, cell], rate[kept, cell], rate_bins, fewest, shifts
            )
        )
    names = loading["mode"].values if "mode" in loading.coords else np.arange(active.shape[1])
    return _described(cells, names, fields["cell"].values, level, seed)


def draw_flips(flips: xr.Dataset, ax: Axes, *, matched: bool = False) -> Axes:
    """Draw for every mode and cell how much more often the polarity is opposite in company.

    Parameters
    ----------
    flips : xarray.Dataset
        What `polarity_flips` returns.
    ax : matplotlib.axes.Axes
        Where to draw.
    matched : bool, default False
        Draw the difference at equal rate.

    Returns
    -------
    matplotlib.axes.Axes
        The axis: a row for each mode with enough frames in any cell, a column for each cell;
        ``+`` or ``-`` the typical polarity alone, in bold where a flip is called.
    """
    name = "matched" if matched else "difference"
    shown = flips[name].transpose("mode", "cell")
    rows = np.flatnonzero(shown.notnull().any("cell").values)
    table = shown.values[rows]
    cells = flips["cell"].values.astype(str).tolist()
    modes = flips["mode"].values[rows].astype(str).tolist()
    if not rows.size:
        ax.text(0.5, 0.5, "too few frames with a mode alone", ha="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
        return ax
    heat(ax, table, limits=(-1, 1), cmap="vik", rows=modes, columns=cells)
    typical = flips["polarity"].transpose("mode", "cell").values[rows]
    called = flips["flips"].transpose("mode", "cell").values[rows]
    for row, column in np.argwhere(np.isfinite(table)):
        ax.text(
            column,
            row,
            "ON" if typical[row, column] > 0 else "OFF",
            ha="center",
            va="center",
            fontsize=4.5,
            fontweight="bold" if called[row, column] else "normal",
            color="white" if abs(table[row, column]) > 0.5 else "black",
        )
    ax.set(xlabel="Cell", ylabel="Mode")
    return ax


def _one_cell(
    active: Array, polarity: Array, rate: Array, rate_bins: int, fewest: int, shifts: Array
) -> dict[str, Array]:
    """Return what is asked of one cell, over modes, with the null (shift, mode)."""
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    company = active & ~alone
    order = np.argsort(np.argsort(rate, kind="stable"), kind="stable")
    bins = order * rate_bins // max(rate.size, 1)
    counts = _Counts.of(alone, company, polarity > 0, bins, rate_bins)
    enough = (counts.alone.sum(axis=0) >= fewest) & (counts.company.sum(axis=0) >= fewest)
    value = counts.values()
    null = {name: np.full((shifts.size, active.shape[1]), np.nan) for name in _TESTED}
    if enough.any():
        steps = np.clip(np.round(shifts * rate.size).astype(int), 1, rate.size - 1)
        for number, step in enumerate(steps):
            single, joint = (np.roll(part[:, enough], step, axis=0) for part in (alone, company))
            found = _Counts.of(single, joint, polarity > 0, bins, rate_bins).values()
            for name in _TESTED:
                null[name][number, enough] = found[name]
    table = {name: np.where(enough, one, np.nan) for name, one in value.items()}
    weight = np.where(enough, counts.company.sum(axis=0), 0)
    table |= {"alone": counts.alone.sum(axis=0), "combined": counts.company.sum(axis=0)}
    pooled = _pooled(table["difference"], weight)
    pooled_null = _pooled(null["difference"], weight)
    table |= {f"null {name}": null[name] for name in _TESTED}
    return table | {"pooled": pooled, "null pooled": pooled_null}


_TESTED = ("difference", "matched")


@dataclass(frozen=True)
class _Counts:
    """Frames, and ON frames, with each mode alone and in company (bin, mode)."""

    alone: Array
    alone_on: Array
    company: Array
    company_on: Array

    @classmethod
    def of(cls, alone: Array, company: Array, on: Array, bins: Array, count: int) -> _Counts:
        """Count the frames of each bin of rate."""
        member = (bins == np.arange(count)[:, None]).astype(np.float64)
        return cls(member @ alone, (member * on) @ alone, member @ company, (member * on) @ company)

    def values(self) -> dict[str, Array]:
        """Return polarity, shares and differences of each mode."""
        sums = [
            part.sum(axis=0) for part in (self.alone, self.alone_on, self.company, self.company_on)
        ]
        on = 2 * sums[1] >= sums[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            rest, others = (
                np.where(on, 1 - ons / frames, ons / frames)
                for frames, ons in ((sums[0], sums[1]), (sums[2], sums[3]))
            )
            change = self.company_on / self.company - self.alone_on / self.alone
            weight = self.alone * self.company / (self.alone + self.company)
            known = (self.alone > 0) & (self.company > 0)
            matched = np.where(known, change * weight, 0).sum(axis=0)
            matched = matched / np.where(known, weight, 0).sum(axis=0)
        return {
            "polarity": np.where(on, 1.0, -1.0),
            "consistency": 1 - rest,
            "opposite_alone": rest,
            "opposite": others,
            "difference": others - rest,
            "matched": np.where(on, -matched, matched),
        }


def _pooled(values: Array, weight: Array) -> Array:
    """Return weighted means over modes, NaN where nothing counts."""
    total = weight.sum()
    if not total > 0:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray((np.nan_to_num(values) * weight).sum(axis=-1) / total)


def _described(
    cells: list[dict[str, Array]], modes: Array, names: Array, level: float, seed: int
) -> xr.Dataset:
    """Put the answers of all cells into one dataset, with tests."""
    table = {name: np.stack([cell[name] for cell in cells], axis=-1) for name in cells[0]}
    p = {name: p_value(table[name], table[f"null {name}"]) for name in (*_TESTED, "pooled")}
    found = discoveries(p["difference"], level)
    grid = ("mode", "cell")
    plain = ("alone", "combined", "polarity", "consistency", "opposite_alone", "opposite")
    data: dict[str, Any] = {
        **{name: (grid, table[name], {"units": "1"}) for name in (*plain, *_TESTED)},
        "null_mean": (grid, table["null difference"].mean(axis=0), {"units": "1"}),
        "p_value": (grid, p["difference"], {"units": "1"}),
        "matched_p_value": (grid, p["matched"], {"units": "1"}),
        "q_value": (grid, found.q, {"units": "1"}),
        "flips": (grid, found.found),
        "pooled": ("cell", table["pooled"], {"units": "1"}),
        "pooled_null_mean": ("cell", table["null pooled"].mean(axis=0), {"units": "1"}),
        "pooled_p_value": ("cell", p["pooled"], {"units": "1"}),
    }
    for name in ("alone", "combined"):
        data[name] = (grid, table[name].astype(np.int64), {"units": "1", "long_name": "frames"})
    attrs = {"kind": "polarity_flips", "level": level, "seed": seed}
    return xr.Dataset(data, coords={"mode": modes, "cell": names}, attrs=attrs)
