"""Contributions of all 16 blocks of a residual network of 50 layers, beside captum."""

from __future__ import annotations

import logging
import multiprocessing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from meter import Measured, matrix_rate, measure, report
from networks import ResNet50, resnet50
from torch import Tensor, nn

import retinacodec as rc
from retinacodec.rules import Rule

__all__ = ["resnet50_blocks"]

BLOCKS = tuple(
    f"layer{stage + 1}.{number}"
    for stage, count in enumerate((3, 4, 6, 3))
    for number in range(count)
)
PEER_BLOCKS = (0, 3, 7, 13, 15)
CLASS = 3
BUDGET_GB = 0.75


def captum_seconds(model: nn.Module, image: Tensor, steps: int) -> tuple[float, list[float]]:
    """Return the CPU seconds of captum for one image and all blocks, and those measured.

    Some blocks spread over the depth are measured, the others interpolated between them.
    """
    from captum.attr import LayerConductance

    def attribute(block: int) -> None:
        conductance = LayerConductance(model, model.get_submodule(BLOCKS[block]))
        conductance.attribute(image, target=CLASS, n_steps=steps, method="riemann_trapezoid")

    found = [
        measure(lambda block=block: attribute(block), repeats=1).cpu_s for block in PEER_BLOCKS
    ]
    return float(np.interp(range(len(BLOCKS)), PEER_BLOCKS, found).sum()), found


def operations(model: ResNet50, size: int) -> tuple[float, float]:
    """Return the operations of a forward pass, and of one backward to the first block's output."""
    forward: dict[str, float] = {}

    def count(name: str) -> Any:
        def hook(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            forward[name] = 2 * output[0].numel() * module.weight[0].numel()

        return hook

    convolutions = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    handles = [module.register_forward_hook(count(name)) for name, module in convolutions]
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    before = {"conv1"} | {name for name in forward if name.startswith("layer1.0.")}
    whole = sum(forward.values())
    return whole, whole - sum(forward[name] for name in before)


def completeness(tree: xr.DataTree) -> list[float]:
    """Return for each block the worst |residual| over |change of the target| of the images."""
    root = tree.to_dataset()
    change = np.abs(root["value"] - root["baseline_value"])
    nodes = (node.to_dataset() for node in tree.children.values())
    return [float((np.abs(node["residual"]) / change).max()) for node in nodes]


def _images(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def _measured(rule: Rule, batch: int, size: int, repeats: int) -> Measured:
    """Return what a rule takes, with the worst residual of each block as the result."""
    logging.getLogger("retinacodec").setLevel(logging.ERROR)
    circuit = rc.Circuit(resnet50(), BLOCKS, sample="image", output="class")
    options = {"rule": rule, "budget_gb": BUDGET_GB, "progress": False}
    images = _images(batch, size)
    work = partial(rc.contributions, circuit, images, rc.Class(CLASS), **options)
    found = measure(work, repeats=repeats)
    return replace(found, result=completeness(found.result))


def _alone(rule: Rule, *sizes: int) -> Measured:
    """Return the same from a process of its own, whose memory nothing else has used."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (rule, *sizes))


def resnet50_blocks(quick: bool) -> None:
    """Twenty steps at 224 px for a batch of four; quick: five steps at 96 px for two."""
    size, batch, steps = (96, 2, 5) if quick else (224, 4, 20)
    model, images = resnet50(), _images(batch, size)
    repeats = 3 if quick else 1
    ours = _alone(rc.IntegratedGradients(steps), batch, size, repeats)
    secant = _alone(rc.Secant(steps), batch, size, repeats)
    peer, measured = captum_seconds(model, images[:1], steps)
    forward, backward = operations(model, size)
    limit = batch * (steps + 1) * (forward + backward) / matrix_rate()
    report(
        "resnet50_blocks",
        ours,
        n={"images": batch, "size": size, "steps": steps, "layers": len(BLOCKS)},
        peer="captum LayerConductance, one image, layer by layer",
        peer_cpu_s=batch * peer,
        limit_cpu_s=limit,
        error=max(ours.result),
        rule="trapezoid; error is the worst residual of a block",
        secant=_secant(secant, peer * batch),
        cpu_s_per_image=ours.cpu_s / batch,
        peer_measured={BLOCKS[k]: round(s, 2) for k, s in zip(PEER_BLOCKS, measured, strict=True)},
        peer_note=f"{len(PEER_BLOCKS)} of 16 blocks measured, the others interpolated over depth",
        limit_note="convolutions forward and back to the first block at the rate of a product",
    )


def _secant(secant: Measured, peer_cpu_s: float) -> dict[str, float]:
    found = {
        "cpu_s": secant.cpu_s,
        "peak_mb": secant.peak_mb,
        "ratio": peer_cpu_s / secant.cpu_s,
        "worst_residual": max(secant.result),
    }
    return {key: float(f"{value:.3g}") for key, value in found.items()}
