"""Contributions inside a small transformer that is trained here, at every kind of tap."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from accuracy import Array, layer_maps, relative, worst_residual
from meter import Measured, report
from networks import SmallViT
from plain_path import reference_sums
from real_networks import cifar_images, skip
from torch import Tensor
from torch.nn import functional as F

import retinacodec as rc
from retinacodec.taps import Tap

__all__ = ["trained_vit", "vit_blocks"]

DEPTH, HEADS = 5, 4
BLOCKS = tuple(f"blocks.{number}" for number in range(DEPTH))
TARGETS: dict[str, Callable[[int], Any]] = {
    "logit": rc.Class,
    "probability": lambda label: rc.Class(label, probability=True),
    "entropy": lambda label: rc.Entropy(),
}


def trained_vit(
    images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], epochs: int, seed: int = 0
) -> tuple[SmallViT, float]:
    """Return the network fitted to images, and the share of them that it gets right."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmallViT(depth=DEPTH, heads=HEADS)
    inputs, wanted = torch.from_numpy(images), torch.from_numpy(labels)
    batches = len(inputs) // 50
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(50):
            optimiser.zero_grad()
            F.cross_entropy(model(inputs[rows]), wanted[rows]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = (model(inputs).argmax(dim=1) == wanted).float().mean()
    return model, float(right)


def _layers() -> list[Any]:
    """Return block outputs, hidden neurons, attention vectors and heads."""
    vectors = [f"{block}.attn.proj:input" for block in BLOCKS]
    heads = [Tap(f"{block}.attn.proj", "input", heads=HEADS) for block in BLOCKS]
    return [*BLOCKS, *(f"{block}.mlp.act" for block in BLOCKS), *vectors, *heads]


def _explained(model: SmallViT, layers: list[Any], images: Tensor, targets: list[Any], rule: Any):
    """Return the contributions of each image to its own target."""
    circuit = rc.Circuit(model, layers, sample="image", output="class")
    return [
        rc.contributions(circuit, image[None], target, rule=rule, maps=True, progress=False)
        for image, target in zip(images, targets, strict=True)
    ]


def _errors(trees: list[xr.DataTree], wanted: list[list[Array]]) -> float:
    """Return the relative error of every place, the median over images and blocks."""
    rows = zip(map(layer_maps, trees), wanted, strict=True)
    gaps = [[relative(a[0], b) for a, b in zip(maps, one, strict=True)] for maps, one in rows]
    return float(np.median(gaps))


def _references(
    model: SmallViT, images: Tensor, targets: list[Any], steps: int
) -> list[list[Array]]:
    wide = copy.deepcopy(model).double().requires_grad_(False)
    rows = []
    for image, target in zip(images.double(), targets, strict=True):
        sums, _ = reference_sums(wide, BLOCKS, image[None], target, steps)
        rows.append([sums[block].T.numpy() for block in BLOCKS])
    return rows


def _cost(model: SmallViT, images: Tensor, targets: list[Any]) -> dict[str, float]:
    """Return the CPU seconds an image for all taps at ten steps, and their number."""
    begun = time.process_time()
    trees = _explained(model, _layers(), images, targets, rc.Secant(10))
    spent = (time.process_time() - begun) / len(images)
    return {"taps": len(trees[0].children), "cpu_s_per_image": float(f"{spent:.2g}")}


def vit_blocks(quick: bool) -> None:
    """Print completeness and errors at the blocks for three targets and four step counts."""
    found = cifar_images()
    if isinstance(found, str):
        skip("vit_blocks", found)
        return
    begun = time.process_time()
    model, right = trained_vit(*found, epochs=2 if quick else 18)
    training = time.process_time() - begun
    images = torch.from_numpy(found[0][:: 500 if quick else 200])
    with torch.no_grad():
        classes = model(images).argmax(dim=1).tolist()
    table: dict[str, Any] = {}
    for name, make in TARGETS.items():
        targets = [make(label) for label in classes]
        wanted = _references(model, images, targets, 60 if quick else 300)
        for steps in (1, 2, 5, 10):
            row: dict[str, float] = {}
            for rule in (rc.Secant(steps), rc.IntegratedGradients(steps)):
                kind = "secant" if rule.chords else "trapezoid"
                trees = _explained(model, list(BLOCKS), images, targets, rule)
                row[f"{kind}_residual"] = max(map(worst_residual, trees))
                row[f"{kind}_unit_error"] = _errors(trees, wanted)
            table[f"{name}, {steps}"] = {key: float(f"{v:.2g}") for key, v in row.items()}
    cost = _cost(model, images, [rc.Class(label) for label in classes])
    spent = time.process_time() - begun
    report(
        "vit_blocks",
        Measured(spent, spent, 0.0, None),
        n={"images": len(images), "blocks": DEPTH, "tokens": 65, "dim": 64, "heads": HEADS},
        error=max(row["secant_residual"] for row in table.values()),
        training_accuracy=right,
        training_cpu_s=training,
        all_taps=cost,
        table=table,
    )
