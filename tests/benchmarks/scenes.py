"""A retina network of the paper's size with the structure of a fitted one, and a movie for it."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor, nn

from retinacodec.circuit import Circuit
from retinacodec.models.deep_retina import DeepRetina
from retinacodec.schema import make_stimulus

__all__ = ["CELLS", "HISTORY", "SIDE", "jittered_movie", "structured_retina"]

HISTORY, CELLS, SIDE = 40, 26, 50


def pink_image(side: int, generator: torch.Generator) -> Tensor:
    """Return an image with the spectrum of natural scenes, mean 0, deviation 1."""
    noise = torch.fft.rfft2(torch.randn(side, side, generator=generator))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    image = torch.fft.irfft2(noise / (down**2 + across**2).sqrt().clamp_min(1 / side))
    return (image - image.mean()) / image.std()


def jittered_movie(frames: int, seed: int = 1) -> xr.Dataset:
    """Return a natural image that drifts with the eye and jumps now and then."""
    generator = torch.Generator().manual_seed(seed)
    image = pink_image(128, generator)
    steps = torch.randn(frames + HISTORY - 1, 2, generator=generator)
    steps[::150] *= 20
    corners = (steps.cumsum(0).long() % (128 - SIDE)).tolist()
    contrast = torch.stack([image[y : y + SIDE, x : x + SIDE] for y, x in corners])
    return make_stimulus(contrast.numpy(), frame_rate=100, pixel_um=50, name="jitter", seed=seed)


def structured_retina(cells: int = CELLS, seed: int = 0) -> DeepRetina:
    """Return a network of the paper's size that responds as a fitted one."""
    generator = torch.Generator().manual_seed(seed)
    model = DeepRetina(cells, size=(SIDE, SIDE), history=HISTORY, seed=seed)
    with torch.no_grad():
        for filters in model.conv1.weight:
            filters.copy_(_space_time_filter(generator))
        for norm in (model.norm1, model.norm2):
            norm.weight.uniform_(0.6, 1.4, generator=generator)
            norm.bias.normal_(0, 0.4, generator=generator)
        place = torch.arange(26) - 12.5
        for weights in model.readout.linear.weight:
            down, across = (torch.rand(2, generator=generator) - 0.5) * 16
            field = torch.exp(-((place[:, None] - down) ** 2 + (place - across) ** 2) / 18)
            signs = torch.randn(8, 1, 1, generator=generator)
            rest = 0.01 * torch.randn(8, 26, 26, generator=generator)
            weights.copy_((signs * field + rest).flatten())
        _settle_norms(model)
    return model.eval()


def _space_time_filter(generator: torch.Generator) -> Tensor:
    """Return a biphasic filter (lag, y, x) of two blobs, with a little noise."""
    lag, place = torch.arange(HISTORY).float(), torch.arange(15) - 7.0
    time = torch.exp(-((lag - 28) ** 2) / 30) - 0.7 * torch.exp(-((lag - 20) ** 2) / 50)
    space = torch.zeros(15, 15)
    for _ in range(2):
        width = 2 + 2 * torch.rand(1, generator=generator)
        down, across, sign = torch.randn(3, generator=generator) * torch.tensor([2.0, 2.0, 1.0])
        far = (place[:, None] - down) ** 2 + (place - across) ** 2
        space += sign * torch.exp(-far / (2 * width**2))
    whole = time[:, None, None] * space
    return whole / whole.norm() + 0.02 * torch.randn(whole.shape, generator=generator) / 15


def _settle_norms(model: nn.Module) -> None:
    """Give the normalisations the statistics of a movie."""
    circuit = Circuit(model, ())
    windows = circuit.windows(torch.from_numpy(jittered_movie(256, 77)["contrast"].values))
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    model.train()
    model(windows[::2].contiguous())
