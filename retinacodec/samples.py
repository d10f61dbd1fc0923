"""Samples: the windows of a movie, or images, as the rows that a circuit reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.circuit import Circuit, evaluating, movie_tensor, precision
from retinacodec.errors import InputError

__all__ = ["Images", "Samples", "rows_for"]

Images = xr.DataArray | npt.NDArray[Any] | Tensor


@dataclass(frozen=True)
class Samples:
    """What a circuit reads, one row a response.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    frames : torch.Tensor (time, y, x) or (image, channel, y, x)
        The whole movie, or all images, in the precision of the model.
    coordinate : xarray.DataArray (time,) or (image,)
        Times, s, or names of the responses.
    attrs : dict
        Name and, for movies, frame rate of the source.
    """

    circuit: Circuit
    frames: Tensor = field(repr=False)
    coordinate: xr.DataArray = field(repr=False)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.coordinate)

    @property
    def moving(self) -> bool:
        """Whether they are windows of a movie."""
        return self.circuit.sample == "time"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row: (history, y, x) or (channel, y, x)."""
        frame = tuple(self.frames.shape[1:])
        return (self.circuit.history or 1, *frame) if self.moving else frame

    def numbers(self, start: int, stop: int) -> Tensor:
        """Return the numbers (row,) of the movie frames or images of some rows."""
        first = self.circuit.first_frame if self.moving else 0
        return torch.arange(start, stop) + first

    def take(self, start: int, stop: int) -> Tensor:
        """Return some rows (row, *shape); of a movie row i belongs to the i-th response."""
        if self.moving:
            return self.circuit.windows(self.frames)[start:stop]
        return self.frames[start:stop]

    def outputs(self, device: torch.device, batch: int = 64) -> Tensor:
        """Return the outputs (row, output) of the circuit for all rows, on the CPU."""
        with torch.no_grad(), evaluating(self.circuit.model, device) as model:
            starts = range(0, len(self), batch)
            parts = [self.take(at, min(at + batch, len(self))).contiguous() for at in starts]
            return torch.cat([model(part.to(device)).cpu() for part in parts])


def rows_for(circuit: Circuit, source: xr.Dataset | Images) -> Samples:
    """Return what a circuit reads of a movie or of images, after checking that it fits.

    Parameters
    ----------
    circuit : Circuit
        The circuit; its `sample` says which of the two it reads.
    source : xarray.Dataset, or xarray.DataArray, ndarray or torch.Tensor
        A Stimulus with ``contrast`` (time, y, x); or preprocessed images
        (image, channel, y, x).

    Returns
    -------
    Samples
        The rows.

    Raises
    ------
    InputError
        If it is not what the circuit reads.
    """
    if circuit.sample == "time":
        if not isinstance(source, xr.Dataset):
            raise InputError(
                "contributions: expected a movie (a Dataset with contrast over time, y, x), got "
                f"{type(source).__name__}; for images make the circuit with sample='image'"
            )
        times = source["time"][circuit.first_frame :]
        attrs = {"movie": source.attrs.get("name", ""), "frame_rate": source.attrs["frame_rate"]}
        return Samples(circuit, movie_tensor(circuit, source), times, attrs)
    if isinstance(source, xr.Dataset):
        raise InputError("contributions: expected images (image, channel, y, x), got a Dataset")
    pixels = _pixels(source, circuit.sample).to("cpu", precision(circuit.model))
    if pixels.ndim != 4 or not len(pixels):
        raise InputError(
            f"contributions: expected images (image, channel, y, x), got {tuple(pixels.shape)}"
        )
    if not bool(pixels.isfinite().all()):
        raise InputError("contributions: images hold NaN or infinite values; mend them first")
    return Samples(circuit, pixels, _image_names(source, len(pixels), circuit.sample))


def _pixels(source: Images, dim: str) -> Tensor:
    """Return images as a tensor; those with named dims in the order (image, channel, y, x)."""
    if isinstance(source, Tensor):
        return source.detach()
    if isinstance(source, xr.DataArray):
        order = (dim, "channel", "y", "x")
        named = set(source.dims) == set(order)
        source = (source.transpose(*order) if named else source).values
    return torch.from_numpy(np.ascontiguousarray(source))


def _image_names(source: xr.Dataset | Images, count: int, dim: str) -> xr.DataArray:
    if isinstance(source, xr.DataArray) and dim in source.coords:
        return source[dim]
    return xr.DataArray(np.arange(count), dims=dim, name=dim)
