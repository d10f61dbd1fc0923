"""A simulated retina whose wiring is known: its own contributions are the truth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn

from retinacodec.errors import Problems
from retinacodec.models.retina_cells import (
    AMACRINES,
    BIPOLARS,
    GANGLIONS,
    AmacrineType,
    BipolarType,
    GanglionType,
    mosaic,
)
from retinacodec.models.retina_fields import pathway_fields
from retinacodec.models.retina_stages import Amacrines, Bipolars, Concatenation, Pools, Rates
from retinacodec.models.retina_truth import (
    interneuron_traces,
    pathway_contributions,
    simulate,
)

__all__ = ["PATHWAYS", "CircuitRetina"]

PATHWAYS = ("ON", "OFF", "amacrine")


class CircuitRetina(nn.Module):
    """A feed-forward retina with ON, OFF and amacrine pathways and known weights.

    Bipolar cells (ON and OFF, transient and sustained) filter contrast in space and time and
    rectify. Amacrine cells (narrow ON, narrow OFF, wide) pool bipolar release of the last
    frames, low-pass it and rectify. Ganglion cells pool bipolar release, subtract amacrine
    release and fire above a threshold. Photoreceptors are the low-pass stages inside the
    bipolar time courses. Types, sizes and times, with their sources, are the frozen records
    `BIPOLARS`, `AMACRINES` and `GANGLIONS`; pass changed ones to build another retina.

    Parameters
    ----------
    size : (int, int), default (32, 32)
        Pixels of a frame (y, x).
    cells : int, default 10
        Ganglion cells, on a hexagonal mosaic around the centre; the types take turns.
    pixel_um : float, default 50
        Side of a pixel on the retina, um.
    frame_rate : float, default 60
        Frames per second, Hz.
    history : int, default 24
        Frames of a window.
    memory_ms : float, default 100
        How long amacrine cells remember bipolar release, ms: they see that many frames of it,
        and the bipolar time courses keep the rest of the window.
    spacing_um : float, default 220
        Distance between neighbouring ganglion cells, um.
    pathways : sequence of {"ON", "OFF", "amacrine"}, default all three
        Pathways that are present. Leave out ``"amacrine"`` to silence all amacrine cells, name
        one for a retina of a single pathway.
    linear : bool, default False
        Remove all rectifiers before the ganglion cell: a linear-nonlinear retina.
    bipolars, amacrines, ganglions : sequence of types, optional
        The cell types.

    Attributes
    ----------
    latency : int
        0: the newest frame of a window is on screen in the response bin.
    cell_names : tuple of str
        Type and number of each ganglion cell.
    positions_um : ndarray (cell, 2)
        Where each cell sits (y, x) relative to the frame's centre, um.
    interneuron_names : tuple of str
        The channels of the layer ``interneurons``.
    layers : tuple of str
        Layers that are full cuts: ``bipolar`` (batch, lag * type, y, x), with the types at lag 0
        first, and ``interneurons`` (batch, bipolar types + amacrine types, y, x).

    Raises
    ------
    InputError
        If an argument is out of range or names something that is not there.

    Notes
    -----
    With contrast s, ``*`` for space and time filters, and release r:

    ``r_b = relu(k_b * (G_centre - w_b G_surround) * s - theta_b)``;
    ``r_a = relu(G_a * sum_lag e^(-lag/tau_a) sum_b w_ab r_b(t - lag) - theta_a)``;
    ``drive = sum_b w_b <P, r_b> - sum_a w_a <P, r_a>``;
    ``rate = gain softness softplus((drive - theta) / softness)``.

    Only convolutions, rectifiers and one softplus, so that the secant rule is exact on it. The
    layer ``bipolar`` holds several lags of each type because amacrine cells need them; row
    ``lag * types + type`` of window t is row ``type`` of window ``t - lag``.

    References
    ----------
    .. [1] Olveczky, Baccus, Meister, Nature 423:401, 2003.
    .. [2] Baccus, Olveczky, Manu, Meister, J Neurosci 28:6807, 2008.
    .. [3] Gollisch & Meister, Neuron 65:150, 2010 (pools of rectified subunits).

    Examples
    --------
    >>> import torch
    >>> retina = CircuitRetina(cells=2)
    >>> tuple(retina(torch.zeros(1, 24, 32, 32)).shape)
    (1, 2)
    """

    latency = 0
    layers = ("bipolar", "interneurons")

    def __init__(
        self,
        size: tuple[int, int] = (32, 32),
        cells: int = 10,
        *,
        pixel_um: float = 50.0,
        frame_rate: float = 60.0,
        history: int = 24,
        memory_ms: float = 100.0,
        spacing_um: float = 220.0,
        pathways: Sequence[str] = PATHWAYS,
        linear: bool = False,
        bipolars: Sequence[BipolarType] = BIPOLARS,
        amacrines: Sequence[AmacrineType] = AMACRINES,
        ganglions: Sequence[GanglionType] = GANGLIONS,
    ) -> None:
        super().__init__()
        self.size = (int(size[0]), int(size[1]))
        self.cells, self.history, self.linear = cells, history, linear
        self.pixel_um, self.frame_rate = float(pixel_um), float(frame_rate)
        self.memory_ms, self.spacing_um = float(memory_ms), float(spacing_um)
        self.pathways = tuple(pathways)
        self.bipolars, self.amacrines = tuple(bipolars), tuple(amacrines)
        self.ganglions = tuple(ganglions)
        self._check()
        kinds = [self.ganglions[i % len(self.ganglions)] for i in range(cells)]
        self.cell_names = tuple(f"{kind.name} {i}" for i, kind in enumerate(kinds))
        self.positions_um = mosaic(cells, self.spacing_um)
        self.interneuron_names = self._names()
        self._build(kinds)
        self.eval()

    def _check(self) -> None:
        """Raise one error that names every argument that cannot be used."""
        problems = Problems()
        problems.require(min(self.size) > 0, f"size: expected pixels > 0, got {self.size}")
        problems.require(self.cells > 0, f"cells: expected at least 1, got {self.cells}")
        for name in ("pixel_um", "frame_rate", "memory_ms", "spacing_um"):
            value = getattr(self, name)
            problems.require(value > 0, f"{name}: expected a number > 0, got {value}")
        problems.require(
            self.history > self.lags,
            f"history: expected more than the {self.lags} frames of memory_ms, got {self.history}",
        )
        strange = set(self.pathways) - set(PATHWAYS)
        problems.require(not strange, f"pathways: expected some of {PATHWAYS}, got {strange}")
        wired = [pair for kind in self.amacrines for pair in kind.inputs]
        wired += [pair for kind in self.ganglions for pair in (*kind.excitation, *kind.inhibition)]
        lost = sorted({name for name, _ in wired} - set(self._names()))
        problems.require(not lost, f"wiring: no interneuron type named {lost}")
        problems.raise_as("CircuitRetina")

    def _names(self) -> tuple[str, ...]:
        """Return the names of the interneuron types, bipolar cells first."""
        bipolars = [kind.name for kind in self.bipolars]
        return (*bipolars, *(kind.name for kind in self.amacrines))

    def _build(self, kinds: list[GanglionType]) -> None:
        """Make the stages."""
        common: dict[str, Any] = {
            "lags": self.lags, "frame_rate": self.frame_rate, "pixel_um": self.pixel_um,
            "linear": self.linear,
        }  # fmt: skip
        present = [kind.pathway in self.pathways for kind in self.bipolars]
        self.bipolar = Bipolars(self.bipolars, present, history=self.history, **common)
        self.amacrine = Amacrines(self.amacrines, self.bipolars, **common)
        self.interneurons = Concatenation()
        self.ganglion = Pools(
            kinds,
            self.positions_um,
            self.interneuron_names,
            size=self.size,
            pixel_um=self.pixel_um,
            inhibition="amacrine" in self.pathways,
        )
        self.rate = Rates(kinds)

    @property
    def lags(self) -> int:
        """Number of frames of bipolar release that an amacrine cell sees."""
        return max(1, round(self.memory_ms * self.frame_rate / 1000))

    def config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this retina, ready for JSON."""
        names = ("size", "cells", "pixel_um", "frame_rate", "history", "memory_ms", "spacing_um",
                 "pathways", "linear")  # fmt: skip
        arguments: dict[str, Any] = {name: getattr(self, name) for name in names}
        for name in ("bipolars", "amacrines", "ganglions"):
            arguments[name] = [dataclasses.asdict(kind) for kind in getattr(self, name)]
        plain: dict[str, Any] = json.loads(json.dumps(arguments))
        return plain

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CircuitRetina:
        """Rebuild a retina from what `config` returned."""
        records = {"bipolars": BipolarType, "amacrines": AmacrineType, "ganglions": GanglionType}
        arguments = dict(config)
        for name, record in records.items():
            if name in arguments:
                arguments[name] = tuple(record(**_tuples(kind)) for kind in arguments[name])
        return cls(**arguments)

    def received(self, x: Tensor) -> Tensor:
        """Return the releases (batch, type, y, x) onto ganglion cells, for windows of contrast."""
        bipolar = self.bipolar(x)
        now = bipolar[:, : len(self.bipolars)]
        both: Tensor = self.interneurons(now, self.amacrine(bipolar))
        return both

    def forward(self, x: Tensor) -> Tensor:
        """Return the firing rates.

        Parameters
        ----------
        x : Tensor (batch, history, y, x)
            Windows of contrast, oldest frame first; beyond the frame is mean grey.

        Returns
        -------
        Tensor (batch, cell)
            Rates, Hz.
        """
        rates: Tensor = self.rate(self.ganglion(self.received(x)))
        return rates

    def simulate(self, movie: xr.Dataset, *, repeats: int = 0, seed: int) -> xr.Dataset:
        """Record Poisson spikes of every cell while a movie is shown; see `simulate`."""
        return simulate(self, movie, repeats=repeats, seed=seed)

    def interneuron_traces(self, movie: xr.Dataset, *, every: int = 4) -> xr.Dataset:
        """Return what every interneuron type did; see `interneuron_traces`."""
        return interneuron_traces(self, movie, every=every)

    def pathway_contributions(self, movie: xr.Dataset, *, event_hz: float = 30.0) -> xr.Dataset:
        """Return what each pathway gave to each cell; see `pathway_contributions`."""
        return pathway_contributions(self, movie, event_hz=event_hz)

    def pathway_fields(
        self, movie: xr.Dataset, *, frames: ArrayLike, cells: ArrayLike | None = None
    ) -> xr.DataArray:
        """Return the true field of each cell by interneuron type; see `pathway_fields`."""
        return pathway_fields(self, movie, frames=frames, cells=cells)


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists of a JSON record into tuples."""
    return {
        key: tuple(map(tuple, value)) if isinstance(value, list) else value
        for key, value in record.items()
    }
