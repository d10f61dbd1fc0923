"""What the modes of a classifier's layer stand for: classes, images, and the pixels in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.analyses.class_correlations import mode_class_correlation
from retinacodec.analyses.map_pictures import map_mask, masked_picture
from retinacodec.analyses.modes import find_modes
from retinacodec.circuit import Circuit
from retinacodec.class_targets import TopK
from retinacodec.classification import classify
from retinacodec.contribute import contributions
from retinacodec.dictionaries import DirectPursuit
from retinacodec.errors import InputError, Problems
from retinacodec.image_files import open_images
from retinacodec.image_sources import OnError
from retinacodec.local_maps import mode_maps
from retinacodec.plotting import COLOURS, figure, style
from retinacodec.rules import Rule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["class_gallery", "class_gallery_figure", "draw_mode_pictures"]

Array = npt.NDArray[Any]


def class_gallery(
    circuit: Circuit,
    images: Any,
    *,
    layer: str | None = None,
    modes: int = 5,
    best: int = 3,
    channels: int = 3,
    rule: Rule | None = None,
    map_rule: Rule | None = None,
    gain: float = 7.0,
    seed: int = 0,
    on_error: OnError = "raise",
    device: Any = None,
    progress: bool = True,
) -> xr.Dataset:
    """Find the modes of a layer, the class each goes with, and what it answers to in its images.

    Parameters
    ----------
    circuit : Circuit
        A classifier.
    images : str, Path, array, tensor or ImageSource
        What `retinacodec.image_files.open_images` takes; all are held in memory.
    layer : str, optional
        A layer of the model; the middle one of the circuit's layers if left out.
    modes : int, default 5
        Number of modes to look for; there are fewer where some are never active.
    best : int, default 3
        Images shown of each mode, those with its largest loadings.
    channels : int, default 3
        Channels of a mode that its maps are of, those with the largest values in its atom, of
        either sign.
    rule : Rule, optional
        Of the contributions, as in `retinacodec.contributions`.
    map_rule : Rule, optional
        Of the maps, as in `retinacodec.mode_maps`; local ones if left out.
    gain : float, default 7.0
        Of the masks, as in `map_mask`; smaller hides more.
    seed : int, default 0
        Seed of the modes and of the permuted images.
    on_error : {"raise", "skip"}, default "raise"
        What to do about a file that cannot be read.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.Dataset
        ``loading`` (image, mode); ``share`` and ``stability`` (mode) of `find_modes`;
        ``top_class``, ``top_correlation``, ``p`` and ``q`` (mode), the class that a mode goes
        along with most, against permuted images; ``best_image`` (mode, best), places along
        image, -1 where the mode is active in fewer, and ``best_loading``; ``picture`` (mode,
        best, y, x, colour) and ``mask`` (mode, best, y, x), 0 to 1. Coordinates ``name``,
        ``seen`` and, where all are known, ``true`` (image). Attributes: ``layer``,
        ``relative_residual``, ``r2`` of images held out with ``r2_low`` and ``r2_high``,
        ``classes``, whether true or seen ones were correlated with, ``p_least``, the smallest p
        that there can be, and ``stability_null`` of `find_modes`.

    Raises
    ------
    InputError
        If there are fewer images than twice the modes, or as in the functions it calls.

    Notes
    -----
    The target is the logit of the class that the network sees, ``TopK(1)``. Modes that keep to
    one class are therefore to be expected where classes have slopes of their own; compare with a
    network that has not learned, such as `untrained_like` makes, before reading much into r.

    References
    ----------
    Melander et al., ICLR 2026, Figures 5 and 7.
    """
    name = circuit.layers[len(circuit.layers) // 2] if layer is None else layer
    one = replace(circuit, layers=(name,))
    batches = list(open_images(images).batches(circuit.preprocess, on_error=on_error))
    values, labels, names = (
        np.concatenate([getattr(part, field) for part in batches])
        for field in ("images", "labels", "names")
    )
    _check(len(values), modes, best, channels)
    target = TopK(1)
    tree = contributions(one, values, target, rule=rule, device=device, progress=progress)
    node = next(iter(tree.children.values()))
    found = find_modes(
        node, dictionary=DirectPursuit(modes=modes), seed=seed, halves=False, progress=progress
    )
    seen = classify(one, values, labels=labels, top=1, device=device, progress=False)
    result = _described(found, _classes(seen), seed)
    places, heights = _strongest(found["loading"].values, best)
    atoms = abs(found["atom"]).max("sign").transpose("mode", "channel").values
    few = min(channels, atoms.shape[1])
    options = {"channels": few, "rule": map_rule, "device": device, "progress": False}
    shown = _Maps(one, values, target, atoms, gain, options)
    result["best_image"] = (("mode", "best"), places)
    result["best_loading"] = (("mode", "best"), heights, {"units": "1", "long_name": "loading"})
    result["picture"], result["mask"] = shown.of(places)
    result = result.assign_coords(name=("image", names))
    kept = {key: found.attrs[key] for key in ("r2", "r2_low", "r2_high", "stability_null")}
    kept |= {"relative_residual": float(node.attrs["relative_residual"]), "layer": name}
    return result.assign_attrs(kind="class gallery", seed=seed, **kept)


def draw_mode_pictures(gallery: xr.Dataset, mode: int, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Draw the best images of a mode, each beside what made its channels contribute.

    Parameters
    ----------
    gallery : xarray.Dataset
        What `class_gallery` returns.
    mode : int
        Which mode.
    axes : sequence of matplotlib.axes.Axes
        Two for each image: the picture, and the masked picture.

    Returns
    -------
    sequence of matplotlib.axes.Axes
        The axes; those of images that the mode is not active in are empty.

    Raises
    ------
    InputError
        If there are not two axes for each image.
    """
    row = gallery.sel(mode=mode)
    if len(axes) != 2 * row.sizes["best"]:
        raise InputError(
            f"draw_mode_pictures: expected {2 * row.sizes['best']} axes, got {len(axes)}"
        )
    for ax in axes:
        ax.set_axis_off()
    for number, place in enumerate(row["best_image"].values.tolist()):
        if place < 0:
            continue
        picture, mask = row["picture"].values[number], row["mask"].values[number]
        left, right = axes[2 * number : 2 * number + 2]
        left.imshow(picture)
        right.imshow(masked_picture(picture, mask))
        left.set_title(_shortened(gallery["seen"].values[place]), fontsize=6, pad=2)
        loading = float(row["best_loading"].values[number])
        right.set_title(f"loading {loading:.2f}", fontsize=6, pad=2, color=COLOURS.quiet)
    return axes


def class_gallery_figure(gallery: xr.Dataset) -> Figure:
    """Draw the best images of all modes, a row for each.

    Parameters
    ----------
    gallery : xarray.Dataset
        What `class_gallery` returns.

    Returns
    -------
    matplotlib.figure.Figure
        Beside each picture, titled with the class seen in it, the same picture where only those
        pixels are light that contributed through the mode's channels.
    """
    rows, pairs = gallery.sizes["mode"], gallery.sizes["best"]
    with style():
        made = figure(height_mm=4 + 28 * rows)
        grid = made.add_gridspec(rows, 1 + 2 * pairs, width_ratios=[1.0] + [1.0] * 2 * pairs)
        for number, mode in enumerate(gallery["mode"].values.tolist()):
            words = made.add_subplot(grid[number, 0])
            words.set_axis_off()
            words.text(0, 0.5, _words(gallery.sel(mode=mode)), va="center", linespacing=1.4)
            axes = [made.add_subplot(grid[number, place]) for place in range(1, 1 + 2 * pairs)]
            draw_mode_pictures(gallery, mode, axes)
    return made


class _Maps:
    """Pictures and masks of the best images of modes."""

    def __init__(
        self,
        circuit: Circuit,
        images: Array,
        target: TopK,
        atoms: Array,
        gain: float,
        options: dict[str, Any],
    ) -> None:
        self.circuit, self.images, self.target = circuit, images, target
        self.atoms, self.gain, self.options = atoms, gain, options

    def of(self, places: Array) -> tuple[Any, Any]:
        """Return the variables picture and mask of images (mode, best), 0 where there is none."""
        size = (*places.shape, *self.images.shape[-2:])
        pictures, masks = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
        for mode, chosen in enumerate(places):
            kept = chosen[chosen >= 0]
            if not kept.size:
                continue
            atom = self.atoms[mode : mode + 1]
            images = self.images[kept]
            maps = mode_maps(self.circuit, images, atom, self.target, **self.options)
            for number, image in enumerate(images):
                pictures[mode, number] = self._pixels(image)
                masks[mode, number] = map_mask(maps[number, 0], gain=self.gain)
        dims = ("mode", "best", "y", "x")
        return ((*dims, "colour"), pictures), (dims, masks)

    def _pixels(self, image: Array) -> Array:
        """Return the pixels (y, x, 3) of an image, stretched to 0 to 1 where none are known."""
        way = getattr(self.circuit.preprocess, "pixels", None)
        if way is not None:
            return np.asarray(way(image))
        spread = max(float(np.ptp(image)), 1e-12)
        grey = np.moveaxis((image - image.min()) / spread, 0, -1)
        return grey if grey.shape[-1] == 3 else np.repeat(grey[..., :1], 3, axis=-1)


def _check(images: int, modes: int, best: int, channels: int) -> None:
    problems = Problems()
    for name, number in (("modes", modes), ("best", best), ("channels", channels)):
        problems.require(number >= 1, f"{name}: expected at least 1, got {number}")
    problems.require(
        images >= 2 * modes,
        f"expected at least {2 * modes} images for {modes} modes, got {images}",
    )
    problems.raise_as("class_gallery")


def _classes(seen: xr.Dataset) -> xr.Dataset:
    """Return the names of the classes seen and, where all are known, of the true ones."""
    found = xr.Dataset(coords={"seen": ("image", seen["prediction"].values[:, 0].astype(str))})
    if "label" not in seen or (seen["label"].values < 0).any():
        return found
    names = seen["class"].values.astype(str)
    return found.assign_coords(true=("image", names[seen["label"].values]))


def _described(found: xr.Dataset, classes: xr.Dataset, seed: int) -> xr.Dataset:
    """Return loadings and the class that each mode goes along with most."""
    kind = "true" if "true" in classes.coords else "seen"
    loading = found["loading"].transpose("image", "mode")
    tested = mode_class_correlation(loading, classes[kind].values, seed=seed)
    data = {name: found[name] for name in ("share", "stability")}
    data |= {name: tested[name] for name in ("top_class", "top_correlation")}
    best = np.nan_to_num(tested["correlation"].values, nan=-np.inf).argmax(axis=1)
    for name in ("p", "q"):
        chosen = tested[name].values[np.arange(len(best)), best]
        data[name] = xr.DataArray(chosen, dims="mode", attrs={"units": "1"})
    made = xr.Dataset({"loading": loading, **data}, coords=classes.coords)
    least = 1 / (1 + int(tested["null_samples"].max()))
    return made.assign_attrs(classes=kind, p_least=least)


def _strongest(loading: Array, count: int) -> tuple[Array, Array]:
    """Return places and loadings (mode, best) of the images that modes are most active in."""
    count = min(count, len(loading))
    order = np.argsort(-loading, axis=0, kind="stable")[:count].T
    heights = np.take_along_axis(loading.T, order, axis=1).astype(np.float64)
    active = heights > 0
    return np.where(active, order, -1), np.where(active, heights, np.nan)


def _words(mode: xr.Dataset) -> str:
    """Return what is said beside the pictures of a mode."""
    said = f"Mode {int(mode['mode'])}, {float(mode['share']):.0%}"
    if not str(mode["top_class"].values):
        return said
    return (
        f"{said}\n{_shortened(mode['top_class'].values, 16)}\n"
        f"r = {float(mode['top_correlation']):.2f}\np = {float(mode['p']):.2g}\n"
        f"stability {float(mode['stability']):.2f}"
    )


def _shortened(words: Any, most: int = 14) -> str:
    """Return words of a class, cut where there is no room for more."""
    said = str(words)
    return said if len(said) <= most else said[: most - 1] + "…"
