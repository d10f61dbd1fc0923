"""Modes of a small classifier: what they stand for, in pictures.

Discs, squares and bars of random size, place and colour are drawn; a network of three
convolutions learns to tell them apart in seconds; modes of one of its layers are shown with
their classes, their best images, and the pixels that made their channels contribute.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import retinacodec as rc
from retinacodec.analyses import class_gallery
from retinacodec.cli_gallery import write_gallery
from retinacodec.preprocessing import Preprocess

NAMES = ("disc", "square", "bar")
SIDE = 32


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (image, y, x, 3) of uint8, and which shape each shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    labels = rng.integers(0, len(NAMES), count)
    pictures = rng.integers(90, 130, (count, SIDE, SIDE, 3))
    for picture, label in zip(pictures, labels, strict=True):
        radius, (up, along) = rng.uniform(5, 8), rng.uniform(9, SIDE - 9, 2)
        far_y, far_x = np.abs(y - up), np.abs(x - along)
        inside = (
            np.hypot(far_y, far_x) < radius,
            np.maximum(far_y, far_x) < 0.88 * radius,
            (far_x < 2) & (far_y < 1.4 * radius),
        )[label]
        picture[inside] = rng.integers(170, 256, 3)
    return pictures.astype(np.uint8), labels


def train(pictures: np.ndarray, labels: np.ndarray, way: Preprocess, epochs: int) -> nn.Module:
    """Return a network of three convolutions that has learned the shapes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 12, 5, 2), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        nn.Linear(16, len(NAMES)),
    )
    images = torch.from_numpy(np.stack([way(one) for one in pictures]))
    truth = torch.from_numpy(labels)
    steps = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            steps.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), truth[chosen]).backward()
            steps.step()
    return model.eval()


def main(folder: Path, epochs: int, images: int) -> None:
    """Train, look for modes, and write the page."""
    way = Preprocess(size=None, mean=(0.5,), std=(0.25,))
    model = train(*shapes(800, seed=0), way, epochs)
    pictures, labels = shapes(images, seed=1)

    circuit = rc.classifier(model, ["1", "3", "5"], preprocess=way, labels=NAMES)
    found = rc.classify(circuit, pictures, labels=labels, progress=False)
    source = rc.open_images(pictures, labels=labels)
    gallery = class_gallery(circuit, source, layer="5", modes=4, progress=False)
    page = write_gallery(folder, found, gallery, title="shapes", overwrite=True)

    print(f"{float(found['accuracy']):.0%} of {images} new pictures are right")
    for mode in gallery["mode"].values.tolist():
        row = gallery.sel(mode=mode)
        r, p = float(row["top_correlation"]), float(row["p"])
        print(f"mode {mode}: {row['top_class'].item()}, r = {r:.2f}, p = {p:.2g}")
    print(page.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Folder of the page.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=150)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        main(options.out or Path(name), options.epochs, options.images)
