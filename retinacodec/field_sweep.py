"""One pass over chosen frames and cells: what is asked for, gradients, and their names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor, nn

from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor, precision
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.field_rows import batch_starts
from retinacodec.first_layer import Filters, close, scaled_filters
from retinacodec.packed import PackedFields
from retinacodec.progress import track
from retinacodec.schema import lag_axis

__all__ = ["Cells", "Sweep", "SweepFields", "whole_fields"]

_log = logging.getLogger(__name__)

Cells = Sequence[int | str] | int | str | None
"""Positions or names of cells; all if None."""


@dataclass(frozen=True)
class Sweep:
    """One pass over chosen frames and cells: what to compute, on what, and what to call it."""

    circuit: Circuit
    movie: xr.Dataset
    contrast: Tensor
    frames: npt.NDArray[np.intp]
    cells: npt.NDArray[np.intp]
    names: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def plan(
        cls,
        circuit: Circuit,
        movie: xr.Dataset,
        cells: Cells,
        frames: npt.ArrayLike | None,
        device: str | torch.device | None,
    ) -> Sweep:
        """Check what was asked for."""
        if circuit.sample != "time":
            raise InputError("fields: expected a circuit of movies, got one of images")
        contrast = movie_tensor(circuit, movie)
        windows = circuit.windows(contrast)
        where = resolve_device(device, circuit.model)
        dtype = precision(circuit.model)
        with torch.no_grad(), evaluating(circuit.model, where) as model:
            outputs = model(windows[:1].to(where, dtype)).shape[1]
        names = circuit.output_names(outputs)
        last = circuit.first_frame + len(windows)
        wanted = np.arange(circuit.first_frame, last) if frames is None else _whole_numbers(frames)
        problems = Problems()
        outside = wanted[(wanted < circuit.first_frame) | (wanted >= last)]
        problems.require(wanted.size > 0, "no frames")
        problems.require(
            outside.size == 0,
            f"frames: expected {circuit.first_frame} to {last - 1}, got {outside[:5].tolist()}",
        )
        chosen = [_position(cell, names, problems) for cell in _listed(cells, outputs)]
        problems.require(len(chosen) > 0, "no cells; leave cells= out for all")
        problems.raise_as("fields")
        named = tuple(names[position] for position in chosen)
        return cls(circuit, movie, contrast, wanted, np.asarray(chosen), named, where, dtype)

    @property
    def windows(self) -> Tensor:
        """Every stimulus window (window, history, y, x), a view of the contrast."""
        return self.circuit.windows(self.contrast)

    def filters(self, layer: str | None) -> Filters:
        """Return the map to the layer asked for, or to the first that carries whole fields."""
        convolutions = [
            name
            for name, module in self.circuit.model.named_modules()
            if isinstance(module, nn.Conv2d) and (layer is None or name == layer)
        ]
        if layer is not None and not convolutions:
            raise InputError(f"layer: expected a Conv2d of the model, got {layer!r}")
        probes = self.probes()
        whole = self.slopes(probes, None)[1]
        for name in convolutions:
            found = scaled_filters(self.circuit.model, probes, name)
            if found is not None:
                latent = self.slopes(probes, name)[1]
                fields = found.project(latent.flatten(0, 1)).view(whole.shape)
                if close(fields, whole):
                    return found
        if layer is not None:
            raise InputError(
                f"layer: {layer!r} does not carry the whole field (it does not read the window "
                "itself, or is bypassed); leave layer= out, or use instantaneous_fields"
            )
        _log.info("no convolution carries the whole field; whole fields are stored")
        return whole_fields(self.movie)

    @property
    def axes(self) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        """Axes of the fields: lag in s, y and x in um."""
        past = self.circuit.history or 1, self.circuit.latency or 0
        lag = lag_axis(*past, self.movie.attrs["frame_rate"])
        return lag, self.movie["y"], self.movie["x"]

    def coords(self, part: slice) -> dict[str, Any]:
        """Return the times, frames and cells of a part of the frames."""
        frames = self.frames[part]
        return {
            "time": self.movie["time"][frames],
            "cell": ("cell", np.asarray(self.names)),
            "frame": ("time", frames, {"units": "1", "long_name": "movie frame of the response"}),
        }

    def windows_of(self, part: slice) -> npt.NDArray[np.intp]:
        """Return the numbers of the windows of a part of the frames."""
        return self.frames[part] - self.circuit.first_frame

    def slopes(self, windows: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
        """Return rates (batch, cell) and their gradients at the layer, or at the windows."""
        with torch.enable_grad(), evaluating(self.circuit.model, self.device) as model:
            leaf = windows.detach().requires_grad_(layer is None)
            with tapped(model, [layer] if layer else []) as taps:
                rate = model(leaf)
            root = taps[layer][0] if layer else leaf
            if not rate.requires_grad:
                raise InputError("circuit: the rates have no gradient; is the model detached?")
            slopes = [
                torch.autograd.grad(
                    rate[:, cell].sum(), root, retain_graph=True, materialize_grads=True
                )[0]
                for cell in self.cells
            ]
        return rate.detach()[:, self.cells].cpu(), torch.stack(slopes, dim=1).cpu()

    def mixed_slopes(self, windows: Tensor, weights: Tensor) -> Tensor:
        """Return the gradients (batch, history, y, x) of a weighted sum of the chosen cells."""
        with torch.enable_grad(), evaluating(self.circuit.model, self.device) as model:
            leaf = windows.detach().requires_grad_()
            mixed = (model(leaf)[:, self.cells] @ weights.to(self.device, self.dtype)).sum()
            return torch.autograd.grad(mixed, leaf, materialize_grads=True)[0].cpu()

    def probes(self) -> Tensor:
        """Return windows to try a layer on: some of the movie, and noise of its size."""
        rows = np.linspace(0, len(self.frames) - 1, 3).astype(int)
        shown = self.windows[torch.from_numpy(self.frames[rows] - self.circuit.first_frame)]
        spread = float(shown.std()) or 1.0
        generator = torch.Generator().manual_seed(0)
        noise = spread * torch.randn((3, *shown.shape[1:]), generator=generator)
        return torch.cat([shown, noise]).to(self.device, self.dtype)


@dataclass(frozen=True)
class SweepFields:
    """What a sweep computes of any circuit: one backward pass a cell and batch of frames.

    Parameters
    ----------
    sweep : Sweep
        Frames and cells.
    filters : Filters
        The map to the layer at which gradients are taken; whole fields where there is none.
    """

    sweep: Sweep
    filters: Filters

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        sweep = self.sweep
        one = sweep.windows[:1].to(sweep.device, sweep.dtype)
        channels, rows, columns = sweep.slopes(one, self.filters.name or None)[1].shape[2:]
        return channels, rows, columns

    def rest(self, done: int) -> SweepFields:
        """Return what computes the frames after the first `done`."""
        return replace(self, sweep=replace(self.sweep, frames=self.sweep.frames[done:]))

    def packed(self, rows: xr.Dataset) -> PackedFields:
        """Return rows as fields."""
        return PackedFields(rows, None, self.filters, *self.sweep.axes)

    def rows(self, batch: int, progress: bool) -> Iterator[xr.Dataset]:
        """Yield rate and latent of some frames at a time, in order.

        Windows lie in memory with the channels last: convolutions are several times faster so,
        forward and backward, on a CPU.
        """
        sweep = self.sweep
        starts = batch_starts(len(sweep.frames), batch)
        for start in track(starts, "receptive fields", enabled=progress):
            part = slice(start, start + batch)
            windows = sweep.windows[torch.from_numpy(sweep.windows_of(part))]
            windows = windows.contiguous(memory_format=torch.channels_last)
            rate, latent = sweep.slopes(
                windows.to(sweep.device, sweep.dtype), self.filters.name or None
            )
            dims = ("time", "cell", "channel", "latent_y", "latent_x")
            yield xr.Dataset(
                {
                    "rate": (dims[:2], rate.numpy(), {"units": "Hz"}),
                    "latent": (dims, latent.numpy(), {"units": "Hz"}),
                },
                coords=sweep.coords(part),
            )


def whole_fields(movie: xr.Dataset) -> Filters:
    """Return the map of fields that are stored as they are.

    Parameters
    ----------
    movie : xarray.Dataset
        The Stimulus.

    Returns
    -------
    Filters
        Without a layer: latent and field are the same.
    """
    return Filters(name="", weight=torch.empty(0), size=(movie.sizes["y"], movie.sizes["x"]))


def _listed(cells: Cells, outputs: int) -> Sequence[int | str]:
    """Return the cells asked for as a sequence."""
    if cells is None:
        return range(outputs)
    return [cells] if isinstance(cells, int | str | np.integer) else cells


def _position(cell: int | str, names: tuple[str, ...], problems: Problems) -> int:
    """Return the position of a cell, or note that there is none."""
    if isinstance(cell, str):
        if problems.require(cell in names, f"no cell {cell!r}; there are {', '.join(names[:20])}"):
            return names.index(cell)
        return 0
    whole = isinstance(cell, int | np.integer) and not isinstance(cell, bool)
    fits = whole and 0 <= cell < len(names)
    problems.require(fits, f"cells: expected names or 0 to {len(names) - 1}, got {cell!r}")
    return int(cell)


def _whole_numbers(frames: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return frame numbers, or refuse what is not one-dimensional and whole."""
    numbers = np.atleast_1d(np.asarray(frames))
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise InputError(
            f"frames: expected whole numbers (time,), got {numbers.dtype} {numbers.shape}"
        )
    return numbers.astype(np.intp)
