"""What a simulated retina knows about itself: spikes, interneuron traces, pathway contributions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from retinacodec.circuit import Circuit, movie_tensor, predict
from retinacodec.devices import resolve_device
from retinacodec.errors import InputError, Problems
from retinacodec.schema import check_stimulus, make_recording

if TYPE_CHECKING:
    from retinacodec.models.circuit_retina import CircuitRetina

__all__ = ["interneuron_traces", "pathway_contributions", "simulate"]

Array = NDArray[Any]
_BATCH = 128


def simulate(
    retina: CircuitRetina, movie: xr.Dataset, *, repeats: int = 0, seed: int
) -> xr.Dataset:
    """Record Poisson spikes of every cell of a simulated retina while a movie is shown.

    Parameters
    ----------
    retina : CircuitRetina
        The retina.
    movie : xarray.Dataset
        Stimulus with the retina's frame size, pixel size and frame rate.
    repeats : int, default 0
        Number of repeats of the movie; 0 shows it once, without a repeat axis.
    seed : int
        Seed of the spikes.

    Returns
    -------
    xarray.Dataset
        Recording with ``spike_count`` (time, cell), NaN where the first windows are not full,
        ``repeats`` (repeat, time, cell) if asked for, and the true ``rate`` (time, cell), Hz.

    Raises
    ------
    InputError
        If the movie does not fit the retina.

    Examples
    --------
    >>> import numpy as np
    >>> from retinacodec.models import CircuitRetina
    >>> from retinacodec.schema import make_stimulus
    >>> movie = make_stimulus(np.zeros((30, 32, 32)), frame_rate=60, pixel_um=50, name="grey")
    >>> recording = simulate(CircuitRetina(cells=2), movie, seed=0)
    >>> dict(recording.sizes)
    {'time': 30, 'cell': 2}
    """
    _check(retina, movie, repeats)
    circuit = Circuit(retina, layers=())
    rate = predict(circuit, movie, batch=_BATCH).values
    counts = np.full((max(repeats, 1), movie.sizes["time"], retina.cells), np.nan, np.float32)
    rng = np.random.default_rng(seed)
    drawn = rng.poisson(rate / retina.frame_rate, (len(counts), *rate.shape))
    counts[:, circuit.first_frame :] = drawn
    true = np.full(counts.shape[1:], np.nan, np.float32)
    true[circuit.first_frame :] = rate
    recording = make_recording(
        counts.mean(0),
        time=movie["time"].values,
        frame_rate=retina.frame_rate,
        cells=retina.cell_names,
        repeats=counts if repeats else None,
        name="CircuitRetina",
        parameters={"retina": retina.config(), "seed": seed},
    )
    recording["rate"] = (("time", "cell"), true, {"units": "Hz", "long_name": "true rate"})
    return recording


def interneuron_traces(retina: CircuitRetina, movie: xr.Dataset, *, every: int = 4) -> xr.Dataset:
    """Return the traces of the bipolar and amacrine cells on a regular mosaic.

    Parameters
    ----------
    retina : CircuitRetina
        The retina.
    movie : xarray.Dataset
        Stimulus that fits it.
    every : int, default 4
        Keep the cells at every so many pixels in y and x.

    Returns
    -------
    xarray.Dataset
        ``potential`` and ``release`` (time, type, y, x), in units of contrast, before and after
        the rectifier; time starts at the first frame with a full window. The coordinate
        ``pathway`` (type) says ON, OFF or amacrine.

    Raises
    ------
    InputError
        If the movie does not fit the retina.
    """
    _check(retina, movie)
    if every < 1:
        raise InputError(f"every: expected pixels of at least 1, got {every}")
    start = [every // 2, every // 2]
    now = slice(0, len(retina.bipolars))
    potential: list[Array] = []
    release: list[Array] = []
    for x in _windows(retina, movie):
        slow = retina.bipolar.potential(x)
        bipolar = retina.bipolar.release(slow)
        wide = retina.amacrine.potential(bipolar)
        amacrine = retina.amacrine.release(wide)
        for store, first, second in ((potential, slow, wide), (release, bipolar, amacrine)):
            both = torch.cat([first[:, now], second], dim=1)
            store.append(both[..., start[0] :: every, start[1] :: every].cpu().numpy())
    dims = ("time", "type", "y", "x")
    units = {"units": "1"}
    return xr.Dataset(
        {
            "potential": (dims, np.concatenate(potential), units),
            "release": (dims, np.concatenate(release), units),
        },
        coords={
            "time": movie["time"][retina.history - 1 :],
            "type": list(retina.interneuron_names),
            "pathway": ("type", list(_pathway_of(retina))),
            "y": movie["y"][start[0] :: every],
            "x": movie["x"][start[1] :: every],
        },
        attrs={"kind": "interneuron traces", "frame_rate": retina.frame_rate},
    )


def pathway_contributions(
    retina: CircuitRetina,
    movie: xr.Dataset,
    *,
    event_hz: float = 30.0,
    share: float = 0.25,
) -> xr.Dataset:
    """Return what each interneuron type and pathway gave to the drive of each cell.

    Parameters
    ----------
    retina : CircuitRetina
        The retina.
    movie : xarray.Dataset
        Stimulus that fits it.
    event_hz : float, default 30
        An event is the largest rate within 50 ms on either side, if it is at least this, Hz.
    share : float, default 0.25
        A pathway is active while it moves the drive by at least this share of all excitation.

    Returns
    -------
    xarray.Dataset
        ``contribution`` (time, cell, type) to the drive, relative to mean grey; its sums
        ``pathway_contribution`` (time, cell, pathway); ``drive`` and ``baseline`` (cell);
        ``rate`` (time, cell), Hz; ``event`` (time, cell); ``active`` (time, cell, pathway); and
        ``dominant`` (time, cell), the excitatory pathway that gave most to the event, as its
        position on ``pathway``, -1 where there is no event. The coordinate ``type_pathway`` (type)
        says which pathway each type belongs to.

    Raises
    ------
    InputError
        If the movie does not fit the retina.

    Notes
    -----
    The drive is a weighted sum of releases, so that ``C_i = sum_yx w_i (r_i - r_i(grey))`` is the
    integrated gradient without quadrature, and ``sum_i C_i = drive - baseline`` exactly.
    """
    _check(retina, movie)
    grey = retina.received(
        torch.zeros(1, retina.history, *retina.size, device=retina.ganglion.weights.device)
    )
    gained: list[Array] = []
    drives: list[Tensor] = []
    for x in _windows(retina, movie):
        received = retina.received(x)
        change = torch.einsum("bcyx,ncyx->bnc", received - grey, retina.ganglion.weights)
        gained.append(change.cpu().numpy())
        drives.append(retina.ganglion(received))
    drive = torch.cat(drives)
    truth = xr.Dataset(
        {
            "contribution": (("time", "cell", "type"), np.concatenate(gained), {"units": "1"}),
            "drive": (("time", "cell"), drive.cpu().numpy(), {"units": "1"}),
            "baseline": ("cell", retina.ganglion(grey)[0].cpu().numpy(), {"units": "1"}),
            "rate": (("time", "cell"), retina.rate(drive).cpu().numpy(), {"units": "Hz"}),
        },
        coords={
            "time": movie["time"][retina.history - 1 :],
            "cell": list(retina.cell_names),
            "type": list(retina.interneuron_names),
            "type_pathway": ("type", list(_pathway_of(retina))),
            "pathway": ["ON", "OFF", "amacrine"],
        },
        attrs={"kind": "pathways", "event_hz": event_hz, "share": share},
    )
    return truth.assign(_active(truth, _pathway_of(retina), retina.frame_rate))


def _active(truth: xr.Dataset, kinds: tuple[str, ...], frame_rate: float) -> dict[str, Any]:
    """Sum types to pathways, and say which pathways are active and which one made each event."""
    given, rate = truth["contribution"].values, truth["rate"].values
    names = truth["pathway"].values
    summed = np.stack([given[..., np.array(kinds) == name].sum(-1) for name in names], axis=-1)
    event = _events(rate, truth.attrs["event_hz"], frame_rate)
    excited = np.maximum(summed[..., :2], 0)
    total = excited.sum(-1, keepdims=True)
    moved = np.concatenate([excited, np.abs(summed[..., 2:])], axis=-1)
    active = (moved >= truth.attrs["share"] * total) & (total > 0)
    best = np.where(event, excited.argmax(-1), -1).astype(np.int8)
    return {
        "pathway_contribution": (("time", "cell", "pathway"), summed, {"units": "1"}),
        "event": (("time", "cell"), event),
        "active": (("time", "cell", "pathway"), active),
        "dominant": (("time", "cell"), best),
    }


def _pathway_of(retina: CircuitRetina) -> tuple[str, ...]:
    """Return the pathway of each interneuron type."""
    return (*(kind.pathway for kind in retina.bipolars), *["amacrine"] * len(retina.amacrines))


def _windows(retina: CircuitRetina, movie: xr.Dataset) -> Iterator[Tensor]:
    """Yield batches of windows of the movie."""
    circuit = Circuit(retina, layers=())
    where = resolve_device(None, retina)
    with torch.no_grad():
        for part in circuit.windows(movie_tensor(circuit, movie)).split(_BATCH):
            yield part.contiguous().to(where)


def _events(rate: Array, event_hz: float, frame_rate: float) -> NDArray[np.bool_]:
    """Return where the rate peaks within 50 ms on either side."""
    width = 2 * max(1, round(0.05 * frame_rate)) + 1
    padded = np.pad(rate, ((width // 2, width // 2), (0, 0)), constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)
    return (rate >= around.max(axis=-1)) & (rate >= event_hz)


def _check(retina: CircuitRetina, movie: xr.Dataset, repeats: int = 0) -> None:
    """Raise unless the movie has the retina's frame rate and pixels."""
    check_stimulus(movie)
    problems = Problems()
    for name in ("frame_rate", "pixel_um"):
        mine, have = getattr(retina, name), movie.attrs[name]
        fits = abs(have - mine) <= 0.01 * mine
        problems.require(fits, f"{name}: the retina has {mine:g}, the movie {have:g}")
    problems.require(repeats >= 0, f"repeats: expected 0 or more, got {repeats}")
    problems.raise_as("simulated retina")
