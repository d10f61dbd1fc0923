"""Contributions of more images than fit into memory, written to disk as they are read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.baselines import GivenFrames, ZeroContrast
from retinacodec.circuit import Circuit
from retinacodec.class_targets import Class, Entropy, Margin, TopK
from retinacodec.contribute import contributions
from retinacodec.errors import InputError
from retinacodec.gradient_rules import ActivationGradient
from retinacodec.image_files import open_images
from retinacodec.image_sources import ImageBatch, OnError
from retinacodec.progress import track
from retinacodec.rules import PathRule, Rule, Secant
from retinacodec.store import open_result
from retinacodec.streaming import streamed
from retinacodec.targets import Target

__all__ = ["image_contributions"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def image_contributions(
    circuit: Circuit,
    images: Any,
    target: Target,
    *,
    out: str | Path,
    rule: Rule | None = None,
    labels: npt.ArrayLike | None = None,
    activations: bool = False,
    maps: bool = False,
    held: int = 64,
    on_error: OnError = "raise",
    batch: int | None = None,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.DataTree:
    """Compute contributions of many images, reading and writing a few at a time.

    Parameters
    ----------
    circuit : Circuit
        A classifier.
    images : str, Path, array, tensor or ImageSource
        What `retinacodec.image_files.open_images` takes.
    target : Target
        Of a classifier: `Class`, `TopK`, `Margin` or `Entropy`.
    out : str or Path
        The ``.zarr`` folder to be.
    rule : Rule, optional
        ``Secant(10)`` if left out; from zero or given images, not from others of the source.
    labels : array_like (image,), optional
        Positions of the true classes, in place of those of the source.
    activations, maps, batch, budget_gb, device
        As in `retinacodec.contributions`.
    held : int, default 64
        Images read at a time.
    on_error : {"raise", "skip"}, default "raise"
        What to do about a file that cannot be read.
    overwrite : bool, default False
        Replace an earlier result of this name.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataTree
        What `retinacodec.contributions` returns, opened and not read; the root also holds
        ``label`` (image), -1 where the class is not known. Images are called by their place in
        the source.

    Raises
    ------
    InputError
        If target or rule need all images at once, or as in `retinacodec.contributions`.

    Notes
    -----
    Memory does not grow with the number of images. Every image has the contributions that it has
    by itself, so that the result is that of all at once.
    """
    rule = Secant() if rule is None else rule
    _check_apart(target, rule)
    source = open_images(images, labels=labels)
    batches = source.batches(circuit.preprocess, batch=held, on_error=on_error)
    options: dict[str, Any] = {"rule": rule, "activations": activations, "maps": maps}
    options |= {"batch": batch, "budget_gb": budget_gb, "device": device, "progress": False}
    total = -(-len(source) // held)
    unexplained = _Unexplained()
    with streamed(out, along="image", overwrite=overwrite) as writer:
        for part in track(batches, "images", total=total, enabled=progress):
            tree = contributions(circuit, part.images, target, **options)
            unexplained.add(tree)
            writer.append(_numbered(tree, part))
        writer.finish({"images": len(source)}, unexplained.attrs())
    opened: xr.DataTree = open_result(out, load=False)
    return opened


def _check_apart(target: Target, rule: Rule) -> None:
    """Raise unless each image can be computed by itself."""
    if not isinstance(target, Class | Entropy | Margin | TopK):
        raise InputError(
            f"image_contributions: {target!r} may depend on all images; take Class, TopK, Margin "
            "or Entropy, or contributions() with all images in memory"
        )
    alone = isinstance(rule, ActivationGradient) or (
        isinstance(rule, PathRule) and isinstance(rule.baseline, ZeroContrast | GivenFrames)
    )
    if not alone:
        raise InputError(
            f"image_contributions: {rule!r} depends on the other images; take a path from "
            "ZeroContrast() or GivenFrames(...), or contributions() with all images in memory"
        )


def _numbered(tree: xr.DataTree, part: ImageBatch) -> xr.DataTree:
    """Return a part with the places of its images in the source, and their classes."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    numbered = {
        path: one.assign_coords(image=part.numbers) if "image" in one.dims else one
        for path, one in nodes.items()
    }
    for path in list(numbered)[1:]:
        numbered[path].attrs.pop("relative_residual", None)
    numbered["/"]["label"] = ("image", part.labels, {"long_name": "class of the image"})
    return xr.DataTree.from_dict(numbered)


class _Unexplained:
    """Residuals of all parts, a number an image and layer."""

    def __init__(self) -> None:
        self.changes: list[Array] = []
        self.residuals: dict[str, list[Array]] = {}

    def add(self, tree: xr.DataTree) -> None:
        """Note a part."""
        root = tree.to_dataset()
        self.changes.append(np.abs(root["value"].values - root["baseline_value"].values))
        for name, node in tree.children.items():
            residual = node.to_dataset()["residual"].values
            self.residuals.setdefault(name, []).append(np.abs(residual))

    def attrs(self) -> dict[str, dict[str, float]]:
        """Return the attributes of nodes: median residual over median change of the target."""
        if not self.changes:
            return {}
        scale = max(float(np.nanmedian(np.concatenate(self.changes))), 1e-30)
        return {
            name: {"relative_residual": float(np.nanmedian(np.concatenate(found))) / scale}
            for name, found in self.residuals.items()
        }
