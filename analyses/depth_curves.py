"""What becomes of contributions and activations from block to block of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.depth_figure import draw_depth
from retinacodec.analyses.statistics import compare_quantities
from retinacodec.circuit import Circuit
from retinacodec.contribute import contributions
from retinacodec.errors import InputError
from retinacodec.plotting import figure, panel_letter, style
from retinacodec.rules import Rule
from retinacodec.samples import Images
from retinacodec.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["depth_curves", "depth_overview"]

_QUANTITIES = ("contribution", "activation")
_PANELS = ("hoyer", "participation", "sign_correlation", "dimensions", "class_dimensions")


def depth_curves(
    circuit: Circuit,
    images: Images | xr.DataTree,
    target: Target | None = None,
    *,
    labels: npt.ArrayLike | None = None,
    rule: Rule | None = None,
    share: float = 0.95,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
    budget_gb: float = 2.0,
    device: Any = None,
    progress: bool = True,
) -> xr.Dataset:
    """Describe contributions and activations of every block of a classifier, by depth.

    Parameters
    ----------
    circuit : Circuit
        A classifier whose layers are blocks in the order of depth.
    images : xarray.DataArray, ndarray or torch.Tensor (image, channel, y, x), or DataTree
        Preprocessed images; or their contributions with activations, computed already, such as
        by `retinacodec.image_contributions.image_contributions`.
    target : Target, optional
        What is explained, such as ``TopK(1)``; needed with images.
    labels : array_like (image,), optional
        Class of each image, for the dimensions of class means.
    rule : Rule, optional
        As in `retinacodec.contributions`.
    share : float, default 0.95
        Share of the variance that the dimensions hold.
    draws : int, default 200
        Number of resamples.
    level : float, default 0.95
        Coverage of the intervals.
    seed : int, default 0
        Seed of the resamples.
    budget_gb, device, progress
        As in `retinacodec.contributions`.

    Returns
    -------
    xarray.Dataset
        What `retinacodec.analyses.compare_quantities` returns of net contributions and positive
        activations: over (quantity, layer) the medians over images of ``hoyer``, ``kappa4``,
        ``participation``, ``kurtosis`` and ``sign_correlation``, and ``dimensions`` of images,
        with their intervals over images, and differences of the two; also
        ``class_dimensions``, of class means, where labels are given and some class has two images
        or more.

    Raises
    ------
    InputError
        If the target is missing, or activations were not kept.

    Notes
    -----
    Activations have both signs where a block does not end with a rectifier; their positive sums
    are taken, as in the paper, and the whole tables of both signs enter ``sign_correlation``.

    References
    ----------
    Melander et al., ICLR 2026, Figure 3.
    """
    if isinstance(images, xr.DataTree):
        tree = images
    elif target is None:
        raise InputError("depth_curves: expected a target, such as TopK(1)")
    else:
        tree = contributions(
            circuit,
            images,
            target,
            rule=rule,
            activations=True,
            budget_gb=budget_gb,
            device=device,
            progress=progress,
        )
    options: dict[str, Any] = {"share": share, "draws": draws, "level": level, "seed": seed}
    options |= {"part": ("net", "positive")}
    result = compare_quantities(tree, _QUANTITIES, **options)
    if labels is not None and (np.unique(np.asarray(labels), return_counts=True)[1] > 1).any():
        classes = compare_quantities(tree, _QUANTITIES, labels=labels, **options)
        for end in ("", "_low", "_high"):
            result[f"class_dimensions{end}"] = classes[f"dimensions{end}"]
            name = f"difference_class_dimensions{end}"
            result[name] = classes[f"difference_dimensions{end}"]
        result.attrs["classes"] = len(np.unique(np.asarray(labels)))
    root = tree.to_dataset()
    said = {name: root.attrs[name] for name in ("target", "rule", "model") if name in root.attrs}
    count = next(size for name, size in root.sizes.items() if name in ("image", "time"))
    return result.assign_attrs(kind="depth curves", images=int(count), **said)


def depth_overview(curves: dict[str, xr.Dataset]) -> Figure:
    """Draw the depth curves of networks, a row of panels for each.

    Parameters
    ----------
    curves : dict of str to xarray.Dataset
        What `depth_curves` returns, by the name of the network.

    Returns
    -------
    matplotlib.figure.Figure
        Hoyer sparsity, participation ratio, correlation of signs, dimensions of images and, where
        they are known, of class means, with intervals over images.

    Raises
    ------
    InputError
        If there is no network.
    """
    if not curves:
        raise InputError("depth_overview: expected at least one network")
    shown = [one for one in _PANELS if any(one in table for table in curves.values())]
    with style():
        made = figure(height_mm=8 + 48 * len(curves))
        rows = made.subfigures(len(curves), 1, squeeze=False)[:, 0]
        for number, (part, network) in enumerate(zip(rows, curves, strict=True)):
            table = curves[network]
            part.suptitle(f"{network}, {table.attrs['images']} images", x=0.01, ha="left")
            axes = part.subplots(1, len(shown), squeeze=False)[0]
            for ax, name in zip(axes, shown, strict=True):
                if name in table:
                    _panel(table, ax, name)
                else:
                    ax.set_axis_off()
            if number == 0:
                handles, names = axes[0].get_legend_handles_labels()
                part.legend(handles, names, loc="upper right", ncols=2, borderaxespad=0.2)
                for letter, ax in zip("abcde", axes, strict=False):
                    panel_letter(ax, letter)
    return made


def _panel(table: xr.Dataset, ax: Any, name: str) -> None:
    """Draw a statistic, that of class means under the name of dimensions."""
    said = name
    if name == "class_dimensions":
        ends = ("", "_low", "_high")
        table = table.assign({f"dimensions{end}": table[f"{name}{end}"] for end in ends})
        said = "dimensions"
    draw_depth(table, ax, name=said)
    if ax.get_legend() is not None:
        ax.get_legend().remove()
    of = {"dimensions": "images", "class_dimensions": "class means"}.get(name)
    if of:
        ax.set_ylabel(f"Dimensions, {of}\n({table.attrs['share']:.0%} of variance)")
    ax.set_xticks(_ticks(table.sizes["layer"]))
    ax.set_xticklabels([str(tick + 1) for tick in ax.get_xticks().astype(int)])
    ax.set_xlabel("Block")


def _ticks(count: int) -> list[int]:
    """Return some places of 0 to count - 1, evenly."""
    step = max(1, round((count - 1) / 4))
    return list(range(0, count, step))
