"""Fields of a stack of convolutions from one forward pass: slopes and gains, no backward pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from retinacodec.chords import derivative
from retinacodec.circuit import Circuit, evaluating
from retinacodec.descent import Descent
from retinacodec.field_rows import batch_starts
from retinacodec.field_sweep import Sweep
from retinacodec.first_layer import Filters, close, scaled_filters
from retinacodec.packed import PackedFields, pack_slopes
from retinacodec.progress import track
from retinacodec.stack import Layer, Stack
from retinacodec.stack_reader import recognise

__all__ = ["StackFields"]

_log = logging.getLogger(__name__)

_RUN = 256  # frames of one transform
_WIDE = (1.0, 10.0, 100.0)  # sizes of noise at which cells that are silent in between show drives
_DENSE = 5  # where fewer than one window in so many is asked for, it is computed by itself


@dataclass(frozen=True)
class StackFields:
    """What a sweep computes of a model that is a stack of convolutions.

    Parameters
    ----------
    sweep : Sweep
        Frames and cells.
    stack : Stack
        The model's pieces.
    filters : Filters
        The map to the first convolution.
    descent : Descent
        The way back to it.
    """

    sweep: Sweep
    stack: Stack
    filters: Filters
    descent: Descent

    @classmethod
    def match(cls, sweep: Sweep, layer: str | None) -> StackFields | None:
        """Return the fast way for a sweep, or None if there is none.

        Parameters
        ----------
        sweep : Sweep
            Frames and cells of any circuit.
        layer : str or None
            The layer asked for, which must be the first convolution.

        Returns
        -------
        StackFields or None
            None if the model is no stack of convolutions, or if fields made of slopes and gains
            differ from whole gradients at some windows.
        """
        size = (sweep.movie.sizes["y"], sweep.movie.sizes["x"])
        bare = Circuit(
            sweep.circuit.model, (), history=sweep.circuit.history, latency=sweep.circuit.latency
        )
        with evaluating(bare.model, sweep.device):
            stack = recognise(bare, size)
        if stack is None:
            return None
        probes = sweep.probes()
        filters = _filters(stack.layers[0], sweep, probes)
        if layer is not None and filters.name != layer:
            return None
        with torch.no_grad():
            values = stack.values(stack.layers[0].conv(probes))
            owners = _owners(stack, sweep, stack.drives(values[-1][1]))
        found = cls(sweep, stack, filters, Descent.of(stack, owners))
        rows = found._rows(stack.layers[0].conv(probes), None)
        latents = found.packed(rows).latents(budget_gb=np.inf).latent.values
        weights = torch.randn(len(sweep.cells), generator=torch.Generator().manual_seed(1))
        mixed = torch.einsum("tn...,n->t...", torch.from_numpy(latents), weights.to(sweep.dtype))
        if not close(filters.project(mixed), sweep.mixed_slopes(probes, weights)):
            _log.info("fields by slopes differ from whole gradients; those are computed instead")
            return None
        return found

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        return self.descent.shape

    def rest(self, done: int) -> StackFields:
        """Return what computes the frames after the first `done`."""
        return replace(self, sweep=replace(self.sweep, frames=self.sweep.frames[done:]))

    def packed(self, rows: xr.Dataset) -> PackedFields:
        """Return rows as fields."""
        return PackedFields(rows, self.descent, self.filters, *self.sweep.axes)

    def rows(self, batch: int, progress: bool) -> Iterator[xr.Dataset]:
        """Yield rate, gains and slopes of some frames at a time, in order.

        Parameters
        ----------
        batch : int
            Frames at a time.
        progress : bool
            Show how far it has come.

        Yields
        ------
        xarray.Dataset
            Rows of `PackedFields`.
        """
        starts = batch_starts(len(self.sweep.frames), batch)
        for start in track(starts, "receptive fields", enabled=progress):
            part = slice(start, start + batch)
            yield self._rows(self._bare(self.sweep.windows_of(part)), part)

    def _bare(self, wanted: npt.NDArray[np.intp]) -> Tensor:
        """Return the first convolution (frame, channel, y, x) of windows, by runs where dense."""
        sweep, layer = self.sweep, self.stack.layers[0]
        history = sweep.circuit.history or 1
        out = torch.empty((len(wanted), *layer.shape), dtype=sweep.dtype, device=sweep.device)
        runs = wanted // (_RUN - history + 1 if history < _RUN else 1)
        with torch.no_grad():
            for run in np.unique(runs):
                places = np.flatnonzero(runs == run)
                first, last = wanted[places].min(), wanted[places].max()
                if _DENSE * len(places) < last - first + 1 or history >= _RUN:
                    windows = sweep.windows[torch.from_numpy(wanted[places])].contiguous()
                    found = layer.conv(windows.to(sweep.device, sweep.dtype))
                else:
                    span = sweep.contrast[first : last + history].to(sweep.device, sweep.dtype)
                    found = layer.over(span)[torch.from_numpy(wanted[places] - first)]
                out[torch.from_numpy(places)] = found
        return out

    def _rows(self, bare: Tensor, part: slice | None) -> xr.Dataset:
        """Return the rows of a part of the frames, or of probes, from their first convolution."""
        stack, slopes = self.stack, []
        with torch.no_grad():
            values = stack.values(bare.contiguous(memory_format=torch.channels_last))
            for layer, (linear, _) in zip(stack.layers, values, strict=True):
                inputs = layer.scale * linear + layer.shift
                slopes.append(inputs > 0 if layer.rectifier else derivative(layer.function, inputs))
            drives = stack.drives(values[-1][1])
        rate, gains = _gains(stack, self.sweep, drives)
        dims: tuple[str, ...] = ("time", "cell", "drive")
        if self.descent.owners is not None:
            own = torch.tensor(self.descent.owners, device=gains.device)[None, :, None]
            kept = gains.gather(2, own.expand(len(gains), -1, -1))[..., 0]
            if int((gains != 0).sum()) != int((kept != 0).sum()):
                raise RuntimeError("a cell's rate depends on a drive that it did not depend on")
            gains, dims = kept, ("time", "cell")
        variables = {
            "rate": (("time", "cell"), rate.cpu().numpy(), {"units": "Hz"}),
            "gain": (dims, gains.cpu().numpy(), {"units": "Hz"}),
            **pack_slopes(self.descent, slopes),
        }
        return xr.Dataset(variables, coords=None if part is None else self.sweep.coords(part))


def _filters(layer: Layer, sweep: Sweep, probes: Tensor) -> Filters:
    """Return the first convolution as a map, named after the module that it is."""
    weight = layer.weight.detach().cpu()
    for name, module in sweep.circuit.model.named_modules():
        if not isinstance(module, torch.nn.Conv2d) or module.weight.shape != weight.shape:
            continue
        found = scaled_filters(sweep.circuit.model, probes, name)
        if found is not None and close(found.weight, weight):
            return found
    size = (int(probes.shape[2]), int(probes.shape[3]))
    return Filters("first convolution", weight, size, **layer.options)


def _gains(stack: Stack, sweep: Sweep, drives: Tensor) -> tuple[Tensor, Tensor]:
    """Return rates (frame, cell) and their gradients (frame, cell, drive) for the drives."""
    with torch.enable_grad(), evaluating(sweep.circuit.model, sweep.device):
        leaf = drives.detach().requires_grad_()
        rate = stack.head(leaf)
        gains = [
            torch.autograd.grad(
                rate[:, cell].sum(), leaf, retain_graph=True, materialize_grads=True
            )[0]
            for cell in sweep.cells
        ]
    return rate.detach()[:, sweep.cells], torch.stack(gains, dim=1)


def _owners(stack: Stack, sweep: Sweep, drives: Tensor) -> tuple[int, ...] | None:
    """Return the drive of each cell, or None where a rate depends on several or none is seen."""
    generator = torch.Generator().manual_seed(0)
    spread = drives.std(dim=0, keepdim=True).clamp_min(1e-3).cpu()
    wide = torch.tensor(_WIDE).repeat_interleave(64)[:, None] * spread
    noise = wide * torch.randn((len(wide), drives.shape[1]), generator=generator)
    noise = noise + drives.mean(dim=0, keepdim=True).cpu()
    _, gains = _gains(stack, sweep, torch.cat([drives, noise.to(drives)]))
    used = (gains != 0).any(dim=0)
    if bool((used.sum(dim=1) != 1).any()):
        return None
    return tuple(used.to(torch.uint8).argmax(dim=1).tolist())
