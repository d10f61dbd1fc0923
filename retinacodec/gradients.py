"""The derivative of a rate with respect to the stimulus: instantaneous receptive fields."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor, nn

from retinacodec.capture import tapped
from retinacodec.circuit import Circuit, evaluating, movie_tensor
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.first_layer import Filters, close, scaled_filters
from retinacodec.latent_fields import LatentFields
from retinacodec.progress import track

__all__ = ["instantaneous_fields", "latent_blocks", "latent_fields"]

_log = logging.getLogger(__name__)

Cells = Sequence[int | str] | int | str | None


def instantaneous_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    batch: int = 32,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> xr.DataArray:
    """Return the receptive field that each cell has at each moment, for any circuit.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames whose responses are asked about; all that have a response if left out.
    batch : int, default 32
        Frames computed at a time; the result does not depend on it.
    budget_gb : float, default 2.0
        Largest result, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    xarray.DataArray (time, cell, lag, y, x)
        Fields, Hz per unit contrast, in the precision of the model. Lag is in seconds from the
        frame on screen in the response bin (0, the last where the latency is 0) into the past
        (negative).

    Raises
    ------
    InputError
        If the movie does not fit, a cell or frame does not exist, or the result is larger than
        the budget.

    Notes
    -----
    ``F_n(t) = d r_n(t) / d x(t)`` at the window ``x(t)``, by one backward pass a cell and batch of
    frames over one shared forward pass.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 8; Maheswaranathan et al., Neuron 111, 2742 (2023).

    Examples
    --------
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> movie = make_stimulus(np.ones((5, 3, 3)), frame_rate=60, pixel_um=50, name="white")
    >>> dict(instantaneous_fields(Circuit(ToyCircuit(), layers=["relu1"]), movie).sizes)
    {'time': 3, 'cell': 2, 'lag': 3, 'y': 3, 'x': 3}
    """
    sweep = _Sweep.plan(circuit, movie, cells, frames, device)
    fields = sweep.collect(_whole(movie), batch, budget_gb, progress)
    return fields.project(budget_gb=budget_gb)


def latent_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    layer: str | None = None,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    batch: int = 64,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> LatentFields:
    """Return instantaneous receptive fields in their small form.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    layer : str, optional
        A ``torch.nn.Conv2d`` of the model that reads the stimulus window, as it is or scaled,
        and through which all of it passes. The first such layer if left out; where there is
        none, whole fields are stored.
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames whose responses are asked about; all that have a response if left out.
    batch : int, default 64
        Frames computed at a time; the result does not depend on it.
    budget_gb : float, default 2.0
        Largest result, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    LatentFields
        Gradients at the layer, which project into fields, their means and their cosines.

    Raises
    ------
    InputError
        If the movie does not fit, a cell or frame does not exist, the result is larger than the
        budget, or the layer asked for does not carry the whole field.

    Notes
    -----
    The backward pass stops at the layer's output. That the layer is a scaled convolution of the
    window is verified on windows of the movie and on noise, and that nothing bypasses it by
    comparing with the whole gradient there; both to 1e-4.
    """
    sweep = _Sweep.plan(circuit, movie, cells, frames, device)
    return sweep.collect(sweep.filters(layer), batch, budget_gb, progress)


def latent_blocks(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    layer: str | None = None,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    batch: int = 64,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Iterator[LatentFields]:
    """Yield `latent_fields` for a batch of frames at a time, for computations that stream.

    Parameters
    ----------
    circuit, movie, layer, cells, frames, batch, device, progress
        As in `latent_fields`.

    Yields
    ------
    LatentFields
        Fields of the next `batch` frames.

    Raises
    ------
    InputError
        As in `latent_fields`, but for the budget.
    """
    sweep = _Sweep.plan(circuit, movie, cells, frames, device)
    filters = sweep.filters(layer)
    for start, rate, slopes in sweep.run(filters, batch, progress):
        part = slice(start, start + len(rate))
        yield sweep.record(filters, part, rate.numpy(), slopes.numpy())


@dataclass(frozen=True)
class _Sweep:
    """One pass over chosen frames and cells: what to compute, on what, and what to call it."""

    circuit: Circuit
    movie: xr.Dataset
    windows: Tensor
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
    ) -> _Sweep:
        """Check what was asked for."""
        if circuit.sample != "time":
            raise InputError("fields: expected a circuit of movies, got one of images")
        windows = circuit.windows(movie_tensor(circuit, movie))
        where = resolve_device(device, circuit.model)
        parameter = next(circuit.model.parameters(), None)
        dtype = torch.float32 if parameter is None else parameter.dtype
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
        problems.raise_as("fields")
        named = tuple(names[position] for position in chosen)
        return cls(circuit, movie, windows, wanted, np.asarray(chosen), named, where, dtype)

    def filters(self, layer: str | None) -> Filters:
        """Return the map to the layer asked for, or to the first that carries whole fields."""
        convolutions = [
            name
            for name, module in self.circuit.model.named_modules()
            if isinstance(module, nn.Conv2d) and (layer is None or name == layer)
        ]
        if layer is not None and not convolutions:
            raise InputError(f"layer: expected a Conv2d of the model, got {layer!r}")
        probes = self._probes()
        whole = self._slopes(probes, None)[1]
        for name in convolutions:
            found = scaled_filters(self.circuit.model, probes, name)
            if found is not None:
                latent = self._slopes(probes, name)[1]
                fields = found.project(latent.flatten(0, 1)).view(whole.shape)
                if close(fields, whole):
                    return found
        if layer is not None:
            raise InputError(
                f"layer: {layer!r} does not carry the whole field (it does not read the window "
                "itself, or is bypassed); leave layer= out, or use instantaneous_fields"
            )
        _log.info("no convolution carries the whole field; whole fields are stored")
        return _whole(self.movie)

    def collect(
        self, filters: Filters, batch: int, budget_gb: float, progress: bool
    ) -> LatentFields:
        """Compute everything into one record, after checking that it fits the budget."""
        shape = self._slopes(self.windows[:1].to(self.device, self.dtype), filters.name or None)
        latent = shape[1].shape[2:]
        size = (len(self.frames), len(self.cells))
        need = float(np.prod((*size, *latent))) * self.dtype.itemsize / 1e9
        if need > budget_gb:
            raise InputError(
                f"fields: {size[0]} frames of {size[1]} cells need {need:.2f} GB, the budget is "
                f"{budget_gb:g} GB; pass fewer frames= or cells=, or raise budget_gb="
            )
        values = torch.empty((*size, *latent), dtype=self.dtype)
        rates = torch.empty(size, dtype=self.dtype)
        for start, rate, slopes in self.run(filters, batch, progress):
            values[start : start + len(rate)] = slopes
            rates[start : start + len(rate)] = rate
        return self.record(filters, slice(None), rates.numpy(), values.numpy())

    def run(
        self, filters: Filters, batch: int, progress: bool
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (start, rate (batch, cell), slopes (batch, cell, channel, y, x)).

        Windows lie in memory with the channels last: convolutions are several times faster so,
        forward and backward, on a CPU.
        """
        starts = range(0, len(self.frames), batch)
        for start in track(starts, "receptive fields", enabled=progress):
            rows = torch.from_numpy(self.frames[start : start + batch] - self.circuit.first_frame)
            windows = self.windows[rows].contiguous(memory_format=torch.channels_last)
            windows = windows.to(self.device, self.dtype)
            yield (start, *self._slopes(windows, filters.name or None))

    def record(
        self, filters: Filters, part: slice, rate: npt.NDArray[Any], values: npt.NDArray[Any]
    ) -> LatentFields:
        """Put names, times and places to the numbers."""
        frames = self.frames[part]
        coords: dict[str, Any] = {
            "time": self.movie["time"][frames],
            "cell": ("cell", np.asarray(self.names)),
            "frame": ("time", frames, {"units": "1", "long_name": "movie frame of the response"}),
        }
        y, x = (self.movie[axis] for axis in ("y", "x"))
        history = self.circuit.history or 1
        behind = np.arange(1 - history, 1) - (self.circuit.latency or 0)
        lag = xr.IndexVariable("lag", behind / self.movie.attrs["frame_rate"], {"units": "s"})
        latent = xr.DataArray(
            values,
            dims=("time", "cell", "channel", "y", "x"),
            coords={**coords, **filters.places(y, x, values.shape[-2:])},
            name="latent",
            attrs={"units": "Hz", "layer": filters.name},
        )
        return LatentFields(
            latent=latent,
            rate=xr.DataArray(
                rate, dims=("time", "cell"), coords=coords, name="rate", attrs={"units": "Hz"}
            ),
            filters=filters,
            lag=xr.DataArray(lag, coords={"lag": lag}),
            y=y,
            x=x,
        )

    def _slopes(self, windows: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
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

    def _probes(self) -> Tensor:
        """Return windows to try a layer on: some of the movie, and noise of its size."""
        rows = np.linspace(0, len(self.frames) - 1, 3).astype(int)
        shown = self.windows[torch.from_numpy(self.frames[rows] - self.circuit.first_frame)]
        spread = float(shown.std()) or 1.0
        generator = torch.Generator().manual_seed(0)
        noise = spread * torch.randn((3, *shown.shape[1:]), generator=generator)
        return torch.cat([shown, noise]).to(self.device, self.dtype)


def _whole(movie: xr.Dataset) -> Filters:
    """Return the map of fields that are stored as they are."""
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
    problems.require(0 <= cell < len(names), f"cells: expected 0 to {len(names) - 1}, got {cell}")
    return int(cell)


def _whole_numbers(frames: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return frame numbers, or refuse what is not one-dimensional and whole."""
    numbers = np.atleast_1d(np.asarray(frames))
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise InputError(
            f"frames: expected whole numbers (time,), got {numbers.dtype} {numbers.shape}"
        )
    return numbers.astype(np.intp)
