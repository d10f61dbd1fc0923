"""The derivative of a rate with respect to the stimulus: instantaneous receptive fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit
from retinacodec.errors import InputError
from retinacodec.field_engine import FieldEngine, field_engine
from retinacodec.field_sweep import Cells, Sweep, SweepFields, whole_fields
from retinacodec.latents import LatentFields
from retinacodec.packed import PackedFields

__all__ = ["instantaneous_fields", "latent_blocks", "latent_fields", "packed_fields"]


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
    sweep = Sweep.plan(circuit, movie, cells, frames, device)
    fields = _collect(SweepFields(sweep, whole_fields(movie)), batch, budget_gb, progress)
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
    engine = field_engine(circuit, movie, layer, cells, frames, device)
    return _collect(engine, batch, budget_gb, progress)


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
    engine = field_engine(circuit, movie, layer, cells, frames, device)
    for rows in engine.rows(batch, progress):
        yield engine.packed(rows).latents(budget_gb=np.inf)


def packed_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    batch: int = 128,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> PackedFields:
    """Return instantaneous receptive fields in their smallest exact form, in memory.

    Parameters
    ----------
    circuit, movie, cells, frames, batch, budget_gb, device, progress
        As in `latent_fields`.

    Returns
    -------
    PackedFields
        Of a stack of convolutions the slopes of a frame, shared by all cells, and the gains of
        the cells; of another circuit the latents.

    Raises
    ------
    InputError
        As in `latent_fields`.

    Notes
    -----
    A stack of convolutions needs one forward pass for all cells and no backward pass.
    """
    engine = field_engine(circuit, movie, None, cells, frames, device)
    _check_budget(_packed_bytes(engine) * len(engine.sweep.frames), engine, budget_gb)
    rows = list(engine.rows(batch, progress))
    return engine.packed(xr.concat(rows, "time", data_vars="minimal", coords="minimal"))


def _collect(engine: FieldEngine, batch: int, budget_gb: float, progress: bool) -> LatentFields:
    """Compute everything into one record, after checking that it fits the budget."""
    sweep = engine.sweep
    shape = (len(sweep.frames), len(sweep.cells), *engine.latent_shape)
    _check_budget(float(np.prod(shape)) * sweep.dtype.itemsize, engine, budget_gb)
    values = torch.empty(shape, dtype=sweep.dtype).numpy()
    rates, done, block = [], 0, None
    for rows in engine.rows(batch, progress):
        block = engine.packed(rows).latents(budget_gb=np.inf)
        values[done : done + len(block.latent)] = block.latent.values
        rates.append(block.rate)
        done += len(block.latent)
    if block is None:
        raise InputError("fields: no frames")
    rate = xr.concat(rates, "time")
    latent = xr.DataArray(
        values,
        dims=block.latent.dims,
        coords={**block.latent.coords, **rate.coords},
        name=block.latent.name,
        attrs=block.latent.attrs,
    )
    return replace(block, latent=latent, rate=rate)


def _check_budget(need: float, engine: FieldEngine, budget_gb: float) -> None:
    """Raise `InputError` if a result is larger than the budget."""
    if need > budget_gb * 1e9:
        sweep = engine.sweep
        raise InputError(
            f"fields: {len(sweep.frames)} frames of {len(sweep.cells)} cells need "
            f"{need / 1e9:.2f} GB, the budget is {budget_gb:g} GB; pass fewer frames= or cells=, "
            "or raise budget_gb="
        )


def _packed_bytes(engine: FieldEngine) -> int:
    """Return the bytes of one packed frame, by computing one."""
    return engine.packed(next(engine.rows(1, False))).nbytes
