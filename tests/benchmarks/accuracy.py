"""How far each rule is from the integral along the path, on trained networks."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from meter import Measured, report
from plain_path import reference_sums
from real_networks import Classifier, efficientnet_lite0, resnet20, skip

import retinacodec as rc

__all__ = [
    "Array",
    "classifier_accuracy",
    "secant_accuracy",
    "errors",
    "layer_maps",
    "relative",
    "worst_residual",
]

Array = npt.NDArray[np.float64]
RULES: Mapping[str, Any] = {
    "trapezoid": rc.IntegratedGradients,
    "left": lambda steps: rc.IntegratedGradients(steps, "left"),
    "right": lambda steps: rc.IntegratedGradients(steps, "right"),
    "midpoint": lambda steps: rc.IntegratedGradients(steps, "midpoint"),
    "secant": rc.Secant,
}


def layer_maps(tree: xr.DataTree) -> list[Array]:
    """Return for each layer the contributions (image, channel * position) of every place."""
    nodes = (node.to_dataset()["contribution"] for node in tree.children.values())
    return [node.sum("sign").values.reshape(len(node), node.sizes["channel"], -1) for node in nodes]


def channel_sums(maps: Array) -> Array:
    """Return (sign * channel,): negative and positive parts of (channel, position), summed."""
    return np.concatenate([maps.clip(max=0).sum(axis=-1), maps.clip(min=0).sum(axis=-1)])


def relative(found: Array, wanted: Array) -> float:
    """Return the distance of two arrays over the length of the second."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def errors(maps: list[Array], references: list[list[Array]]) -> tuple[Array, Array]:
    """Return the errors (image, layer) of every place and of the channel sums."""
    pairs = [
        [(maps[layer][image].astype(np.float64), wanted) for layer, wanted in enumerate(row)]
        for image, row in enumerate(references)
    ]
    places = [[relative(found, wanted) for found, wanted in row] for row in pairs]
    sums = [[relative(channel_sums(a), channel_sums(b)) for a, b in row] for row in pairs]
    return np.array(places), np.array(sums)


def _references(
    classifier: Classifier, targets: list[int], steps: int, dtype: torch.dtype
) -> tuple[list[list[Array]], float]:
    """Return for each image and block the reference (channel, position), and its uncertainty."""
    model = copy.deepcopy(classifier.model).to(dtype).requires_grad_(False)
    rows, apart = [], []
    for image, label in zip(classifier.images, targets, strict=True):
        sample = torch.from_numpy(image)[None].to(dtype)
        score = rc.Class(label)
        sums, gap = reference_sums(model, classifier.blocks, sample, score, steps)
        rows.append([sums[one].flatten(1).double().numpy() for one in classifier.blocks])
        apart.append(gap)
    return rows, float(np.median(apart))


def classifier_accuracy(
    classifier: Classifier, asked: Mapping[str, tuple[int, ...]], reference: int, double: bool
) -> None:
    """Print the errors of rules and steps, for the class that each image is seen as."""
    begun = time.process_time()
    images = torch.from_numpy(classifier.images)
    with torch.no_grad():
        targets = classifier.model(images).argmax(dim=1).tolist()
    dtype = torch.float64 if double else torch.float32
    wanted, apart = _references(classifier, targets, reference, dtype)
    circuit = rc.Circuit(classifier.model, classifier.blocks, sample="image", output="class")
    table = {
        rule: {
            steps: _row(circuit, images, targets, RULES[rule](steps), wanted) for steps in counts
        }
        for rule, counts in asked.items()
    }
    spent = time.process_time() - begun
    report(
        "secant_accuracy",
        Measured(spent, spent, 0.0, None),
        n={"images": len(images), "layers": len(classifier.blocks), "reference_steps": reference},
        error=table["secant"][10]["unit"],
        network=classifier.name,
        reference=f"mean of trapezoid and secant, {str(dtype).removeprefix('torch.')}",
        reference_half_apart=apart,
        table=table,
    )


def _row(
    circuit: rc.Circuit,
    images: torch.Tensor,
    targets: list[int],
    rule: rc.Rule,
    wanted: list[list[Array]],
) -> dict[str, Any]:
    """Return the medians and the worst over blocks of the errors of one rule, over images."""
    begun = time.process_time()
    trees = [
        rc.contributions(
            circuit, image[None], rc.Class(target), rule=rule, maps=True, progress=False
        )
        for image, target in zip(images, targets, strict=True)
    ]
    spent = time.process_time() - begun
    maps = [np.concatenate(layer) for layer in zip(*map(layer_maps, trees), strict=True)]
    residuals = [worst_residual(tree) for tree in trees]
    places, sums = (np.median(one, axis=0) for one in errors(maps, wanted))
    found = {
        "unit": np.median(places),
        "unit_worst": places.max(),
        "sums": np.median(sums),
        "sums_worst": sums.max(),
        "residual_worst": np.max(residuals),
        "cpu_s": spent / len(images),
    }
    return {key: float(f"{value:.2g}") for key, value in found.items()} | {
        "unit_by_block": [float(f"{value:.2g}") for value in places]
    }


def worst_residual(tree: xr.DataTree) -> float:
    """Return the worst |residual| over |change of the target| of the blocks."""
    root = tree.to_dataset()
    change = np.abs(root["value"] - root["baseline_value"]).values
    nodes = (node.to_dataset()["residual"].values for node in tree.children.values())
    return float(max(np.max(np.abs(residual) / change) for residual in nodes))


def secant_accuracy(quick: bool) -> None:
    """Print the errors on two trained classifiers; quick: on the smaller one."""
    steps = (1, 2, 5, 10, 20) if quick else (1, 2, 5, 10, 20, 50)
    small = resnet20(1 if quick else 3)
    if isinstance(small, str):
        skip("secant_accuracy", small)
        return
    asked = dict.fromkeys(RULES, steps)
    classifier_accuracy(small, asked, 60 if quick else 300, double=True)
    if quick:
        return
    large = efficientnet_lite0(1)
    if isinstance(large, str):
        skip("secant_accuracy", large)
        return
    asked = {rule: steps if rule in ("trapezoid", "secant") else (10, 20) for rule in RULES}
    classifier_accuracy(large, asked, 300, double=False)
