"""Contributions of real networks as tables for decompositions, computed once and kept.

The folder they are kept in is RETINACODEC_CACHE, or one in the temporary folder of the system.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from real_networks import Classifier, efficientnet_lite0, resnet20

import retinacodec as rc
from retinacodec.store import open_result, save

__all__ = ["TABLES", "RealTable", "cache_dir"]

_PHOTOGRAPHS, _IMAGES, _FRAMES = 500, 1000, 6000


@dataclass(frozen=True)
class RealTable:
    """Where contributions come from, and the layers of them that are decomposed.

    Parameters
    ----------
    name : str
        What it is called in tables.
    file : str
        What it is kept as.
    make : callable
        Returns the contributions for a number of samples, or why there are none.
    samples : int
        How many images or frames.
    layers : mapping of str to int
        Nodes to decompose, and the number of modes each method is given.
    """

    name: str
    file: str
    make: Callable[[int], xr.DataTree | str]
    samples: int
    layers: Mapping[str, int]

    def load(self, quick: bool) -> xr.DataTree | str:
        """Return the contributions, from the cache where they are there."""
        samples = self.samples // 10 if quick else self.samples
        path = cache_dir() / f"{self.file}_{samples}.zarr"
        if path.exists():
            return open_result(path)
        tree = self.make(samples)
        if isinstance(tree, xr.DataTree):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(tree, path)
        return tree


def cache_dir() -> Path:
    """Return the folder in which contributions are kept."""
    default = Path(tempfile.gettempdir()) / "retinacodec_tables"
    return Path(os.environ.get("RETINACODEC_CACHE", default))


def _mouse(frames: int) -> xr.DataTree | str:
    """Return the contributions that a run of the mouse study left in its folder."""
    folder = os.environ.get("RETINACODEC_RUN")
    if folder is None:
        return (
            "no RETINACODEC_RUN; set it to the folder that "
            "`retinacodec run docs/gallery/mouse_study.toml` wrote"
        )
    tree: xr.DataTree = open_result(Path(folder) / "results" / "contributions.zarr")
    return tree.isel(time=slice(0, frames))


def _classifier(made: Classifier | str, blocks: list[str]) -> xr.DataTree | str:
    """Return contributions to the strongest logit, with activations and gradients."""
    if isinstance(made, str):
        return made
    circuit = rc.Circuit(made.model, blocks, sample="image", output="class")
    tree = rc.contributions(
        circuit,
        made.images,
        rc.TopK(1),
        activations=True,
        gradients=True,
        progress=False,
    )
    tree.dataset = tree.to_dataset().assign(label=("image", made.labels))
    return tree


def _photographs(images: int) -> xr.DataTree | str:
    blocks = [f"_blocks.{number}" for number in (4, 9, 14)]
    return _classifier(efficientnet_lite0(images), blocks)


def _cifar(images: int) -> xr.DataTree | str:
    return _classifier(resnet20(images), ["layer1.2", "layer2.2", "layer3.2"])


TABLES = (
    RealTable("mouse retina", "mouse", _mouse, _FRAMES, {"conv1": 16, "conv2": 16}),
    RealTable(
        "EfficientNet-Lite0",
        "photographs",
        _photographs,
        _PHOTOGRAPHS,
        {"_blocks_4": 32, "_blocks_9": 64, "_blocks_14": 64},
    ),
    RealTable(
        "CIFAR ResNet-20",
        "cifar",
        _cifar,
        _IMAGES,
        {"layer1_2": 16, "layer2_2": 32, "layer3_2": 64},
    ),
)
"""The networks and their layers."""
