"""Fields of long movies on disk: the size said beforehand, written as they come, resumable."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit
from retinacodec.descent import Descent
from retinacodec.errors import InputError
from retinacodec.field_engine import FieldEngine, field_engine
from retinacodec.field_sweep import Cells
from retinacodec.first_layer import Filters
from retinacodec.journal import Journal, unfinished_run
from retinacodec.packed import PackedFields
from retinacodec.store import open_result, provenance, save
from retinacodec.streaming import streamed

__all__ = ["FieldPlan", "open_fields", "plan_fields", "stream_fields"]

_NETWORK = "network"
_AXES = ("lag", "y", "x")
_BATCH = 256


@dataclass(frozen=True)
class FieldPlan:
    """What fields will take before they are computed.

    Parameters
    ----------
    frames, cells : int
        How many.
    form : str
        ``"slopes"`` of a stack of convolutions, ``"latents"`` at the first layer, or ``"fields"``
        as they are.
    stored_gb : float
        What is kept, GB, before compression.
    latent_gb, field_gb : float
        The same fields as latents and as whole fields, GB.
    """

    frames: int
    cells: int
    form: str
    stored_gb: float
    latent_gb: float
    field_gb: float

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.frames} frames of {self.cells} cells, kept as {self.form}: "
            f"{self.stored_gb:.3g} GB (latents {self.latent_gb:.3g} GB, whole fields "
            f"{self.field_gb:.3g} GB)"
        )


def plan_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    device: str | torch.device | None = None,
) -> FieldPlan:
    """Say what the fields of a movie will take, from the fields of one frame.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames; all that have a response if left out.
    device : str or torch.device, optional
        Where to compute.

    Returns
    -------
    FieldPlan
        Sizes; printing it says them in one line.

    Raises
    ------
    InputError
        If the movie does not fit, or a cell or frame does not exist.
    """
    return _plan(field_engine(circuit, movie, None, cells, frames, device))


def stream_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    out: str | Path,
    cells: Cells = None,
    frames: npt.ArrayLike | None = None,
    batch: int = _BATCH,
    resume: bool = False,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> PackedFields:
    """Compute the fields of a movie into a folder, a batch of frames at a time.

    Parameters
    ----------
    circuit, movie, cells, frames, device
        As in `plan_fields`.
    out : str or Path
        Where to, with a name that ends in .zarr.
    batch : int, default 256
        Frames computed and written at a time; the result does not depend on it.
    resume : bool, default False
        Go on with a run that was not finished.
    overwrite : bool, default False
        Replace an earlier result, or begin an unfinished run anew.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    PackedFields
        Opened from the folder; values are read when they are asked for.

    Raises
    ------
    InputError
        If something is there already, the unfinished run was another one, or as in `plan_fields`.

    Notes
    -----
    Every batch is a whole file in a folder beside the result until the last one is there, so
    that a run that was killed loses one batch. The file holds the network's weights on the way
    from the rates to the stimulus, and needs no model to be opened.
    """
    if batch < 1:
        raise InputError(f"batch: expected at least 1 frame, got {batch}")
    target = Path(out)
    engine = field_engine(circuit, movie, None, cells, frames, device)
    said = {"plan": str(_plan(engine)), "batch": batch, "input": _fingerprint(engine)}
    journal = unfinished_run(target, said, resume=resume, overwrite=overwrite)
    for rows in engine.rest(journal.row).rows(batch, progress):
        part = _part(journal, journal.row)
        save(rows, part, overwrite=True)
        journal.mark("fields", journal.row + rows.sizes["time"], {})
    network = _network(engine)
    with streamed(target, along="time", overwrite=overwrite) as writer:
        for start in range(0, journal.row, batch):
            rows = _loaded(_part(journal, start))
            rows.attrs |= {"kind": "packed_fields", "provenance": provenance()}
            writer.append(xr.DataTree.from_dict({"/": rows, _NETWORK: network}))
    journal.discard()
    return open_fields(target)


def open_fields(path: str | Path) -> PackedFields:
    """Open fields that `stream_fields` wrote.

    Parameters
    ----------
    path : str or Path
        The folder.

    Returns
    -------
    PackedFields
        Values are read when they are asked for.

    Raises
    ------
    InputError
        If there is nothing, or something else than fields.
    """
    tree = open_result(path, load=False)
    if not isinstance(tree, xr.DataTree) or _NETWORK not in tree.children:
        raise InputError(f"{path}: expected fields, as stream_fields writes them; check the name")
    network = tree.children[_NETWORK].to_dataset(inherit=False).load()
    settings = json.loads(network.attrs["settings"])
    arrays = {str(name): network[name].values for name in network.data_vars}
    weight = torch.from_numpy(arrays.pop("filter")) if "filter" in arrays else torch.empty(0)
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings["filters"].items()
    }
    descent = settings["descent"]
    return PackedFields(
        tree.to_dataset(inherit=False),
        None if descent is None else Descent.unpack(arrays, descent),
        Filters(weight=weight, **options),
        *(network[axis] for axis in _AXES),
    )


def _plan(engine: FieldEngine) -> FieldPlan:
    """Return the plan of an engine, from one frame."""
    packed = engine.packed(next(engine.rows(1, False)))
    frames, cells = len(engine.sweep.frames), len(engine.sweep.cells)
    each = frames * cells * engine.sweep.dtype.itemsize / 1e9
    whole = float(np.prod([axis.size for axis in engine.sweep.axes]))
    form = "fields" if packed.filters.stored else "latents"
    return FieldPlan(
        frames,
        cells,
        form if packed.descent is None else "slopes",
        frames * packed.nbytes / 1e9,
        each * float(np.prod(engine.latent_shape)),
        each * whole,
    )


def _network(engine: FieldEngine) -> xr.Dataset:
    """Return all that does not change from frame to frame."""
    packed = engine.packed(xr.Dataset())
    arrays, descent = ({}, None) if packed.descent is None else packed.descent.pack()
    filters = packed.filters
    names = ("name", "size", "stride", "padding", "dilation", "groups", "lead", "trail")
    settings = {"descent": descent, "filters": {name: getattr(filters, name) for name in names}}
    if not filters.stored:
        arrays["filter"] = filters.weight.numpy()
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(values.ndim)), values)
        for name, values in arrays.items()
    }
    coords = {axis: one.variable for axis, one in zip(_AXES, engine.sweep.axes, strict=True)}
    return xr.Dataset(variables, coords=coords, attrs={"settings": json.dumps(settings)})


def _fingerprint(engine: FieldEngine) -> str:
    """Return a hash of the circuit, the movie, and the frames and cells asked for.

    A model is known by its modules and weights; what only its code says is not seen.
    """
    sweep, digest = engine.sweep, hashlib.sha256()
    circuit, movie = sweep.circuit, sweep.movie
    axes = [movie[axis].values.tolist() for axis in ("y", "x")]
    said = (circuit.history, circuit.latency, sweep.names, movie.attrs["frame_rate"], axes)
    modules = re.sub(r" at 0x[0-9a-f]+", "", repr(circuit.model))  # addresses change every time
    digest.update(repr(said).encode() + modules.encode())
    for name, value in circuit.model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    digest.update(np.ascontiguousarray(sweep.contrast.numpy()).data)
    digest.update(sweep.frames.tobytes() + sweep.cells.tobytes())
    return digest.hexdigest()[:16]


def _part(journal: Journal, start: int) -> Path:
    return journal.path.parent / f"frames_{start:09d}.nc"


def _loaded(path: Path) -> xr.Dataset:
    rows: Any = open_result(path)
    return rows if isinstance(rows, xr.Dataset) else rows.to_dataset()
