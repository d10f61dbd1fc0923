"""The true local receptive fields of a simulated retina, written down from its wiring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d
from scipy.special import expit

from retinacodec.circuit import Circuit, movie_tensor
from retinacodec.errors import InputError
from retinacodec.models.retina_cells import gaussian
from retinacodec.schema import lag_axis

if TYPE_CHECKING:
    from retinacodec.models.circuit_retina import CircuitRetina

__all__ = ["pathway_fields"]

Array = NDArray[np.float64]


def pathway_fields(
    retina: CircuitRetina, movie: xr.Dataset, *, frames: ArrayLike, cells: ArrayLike | None = None
) -> xr.DataArray:
    """Return the true receptive field of each cell at some frames, by interneuron type.

    Parameters
    ----------
    retina : CircuitRetina
        The retina.
    movie : xarray.Dataset
        Stimulus with the retina's frame size.
    frames : array_like of int
        Movie frames whose responses are asked about.
    cells : array_like of int, optional
        Positions of cells; all if left out.

    Returns
    -------
    xarray.DataArray (time, cell, type, lag, y, x)
        The part of the field that passes through each type's synapses onto the cell, Hz per unit
        contrast; bipolar types first. Summed over types it is the cell's local field.

    Raises
    ------
    InputError
        If a frame has no whole window, or a cell does not exist.

    Notes
    -----
    With gates ``b`` and ``a`` of bipolar and amacrine release (1 above threshold, else 0), the
    synaptic weights ``w`` of a cell and ``f`` the slope of its firing, the part through a bipolar
    type is ``f K^T D (b_0 w)`` and that through an amacrine type
    ``f K^T D (b_l c_l G (a w))`` summed over the lags l it remembers: K the bipolar time courses,
    D centre minus surround, G the amacrine pool, c its weights. Everything is computed in double
    precision from the retina's parameters; no derivative is taken.
    """
    circuit = Circuit(retina, layers=())
    wanted = np.atleast_1d(np.asarray(frames))
    chosen = np.arange(retina.cells) if cells is None else np.atleast_1d(np.asarray(cells))
    windows = circuit.windows(movie_tensor(circuit, movie)).numpy()
    first, last = circuit.first_frame, circuit.first_frame + len(windows) - 1
    if wanted.min() < first or wanted.max() > last:
        raise InputError(f"frames: expected {first} to {last}, got {wanted.min()}, {wanted.max()}")
    if chosen.min() < 0 or chosen.max() >= retina.cells:
        raise InputError(f"cells: expected 0 to {retina.cells - 1}, got {chosen.tolist()}")
    wiring = _Wiring(retina)
    fields = np.stack([wiring.fields(windows[frame - first], chosen) for frame in wanted])
    return xr.DataArray(
        fields,
        dims=("time", "cell", "type", "lag", "y", "x"),
        coords={
            "time": movie["time"][wanted],
            "cell": np.asarray(retina.cell_names)[chosen],
            "type": list(retina.interneuron_names),
            "lag": lag_axis(retina.history, 0, retina.frame_rate),
            "y": movie["y"],
            "x": movie["x"],
        },
        name="field",
        attrs={"units": "Hz", "long_name": "rate change per unit contrast"},
    )


class _Wiring:
    """The retina's parameters as arrays in double precision."""

    def __init__(self, retina: CircuitRetina) -> None:
        self.retina, lags = retina, retina.lags
        span = retina.history - lags + 1
        types = len(retina.bipolars)
        self.courses = np.zeros((lags, types, retina.history))
        for lag in range(lags):
            for number, kind in enumerate(retina.bipolars):
                if kind.pathway in retina.pathways:
                    end = retina.history - lag
                    course = kind.kernel(span, retina.frame_rate)[::-1]
                    self.courses[lag, number, end - span : end] = course
        self.inputs = np.zeros((len(retina.amacrines), lags, types))
        for number, amacrine in enumerate(retina.amacrines):
            decay = np.exp(-np.arange(lags) * 1000 / (retina.frame_rate * amacrine.tau_ms))
            given = dict(amacrine.inputs)
            row = np.array([given.get(kind.name, 0.0) for kind in retina.bipolars])
            self.inputs[number] = decay[:, None] / decay.sum() * row
        self.weights = retina.ganglion.weights.numpy().astype(np.float64)

    def fields(self, window: Array, cells: NDArray[Any]) -> Array:
        """Return the parts (cell, type, lag, y, x) of the fields at one window."""
        retina = self.retina
        potential = self._centre_surround(np.einsum("lth,hyx->ltyx", self.courses, window))
        limits = np.array(
            [kind.threshold * (kind.pathway in retina.pathways) for kind in retina.bipolars]
        )[:, None, None]
        release, gates = _release(potential, limits, retina.linear)
        pooled = np.stack(
            [
                self._blur(np.einsum("lt,ltyx->yx", self.inputs[number], release), kind.sigma_um)
                for number, kind in enumerate(retina.amacrines)
            ]
        )
        limits = np.array([kind.threshold for kind in retina.amacrines])[:, None, None]
        amacrine, open_amacrine = _release(pooled, limits, retina.linear)
        received = np.concatenate([release[0], amacrine])
        drives = np.einsum("nsyx,syx->n", self.weights, received)
        found = []
        for cell in cells:
            kind = retina.ganglions[cell % len(retina.ganglions)]
            slope = kind.gain_hz * expit((drives[cell] - kind.threshold) / kind.softness)
            found.append(slope * self._parts(self.weights[cell], gates, open_amacrine))
        return np.stack(found)

    def _parts(self, weights: Array, gates: Array, open_amacrine: Array) -> Array:
        """Return the parts (type, lag, y, x) of the gradient of a cell's drive."""
        retina, parts = self.retina, []
        types = len(retina.bipolars)
        for number in range(types):
            pull = np.zeros_like(gates)
            pull[0, number] = weights[number] * gates[0, number]
            parts.append(self._to_window(pull))
        for number, kind in enumerate(retina.amacrines):
            synapses = weights[types + number] * open_amacrine[number]
            back = self._blur(synapses, kind.sigma_um)
            parts.append(self._to_window(self.inputs[number][:, :, None, None] * back * gates))
        return np.stack(parts)

    def _to_window(self, pull: Array) -> Array:
        """Return the gradient (history, y, x) at the window for that at the bipolar potentials."""
        return np.einsum("lth,ltyx->hyx", self.courses, self._centre_surround(pull))

    def _centre_surround(self, maps: Array) -> Array:
        """Return centre minus surround of maps (lag, type, y, x); its own transpose."""
        found = np.empty_like(maps)
        for number, kind in enumerate(self.retina.bipolars):
            centre = self._blur(maps[:, number], kind.centre_um)
            found[:, number] = centre - kind.surround * self._blur(
                maps[:, number], kind.surround_um
            )
        return found

    def _blur(self, maps: Array, sigma_um: float) -> Array:
        """Return maps (..., y, x) blurred by a Gaussian, mean grey beyond the frame."""
        weights = gaussian(sigma_um, self.retina.pixel_um)
        rows = convolve1d(maps, weights, axis=-2, mode="constant")
        return np.asarray(convolve1d(rows, weights, axis=-1, mode="constant"))


def _release(potential: Array, limits: Array, linear: bool) -> tuple[Array, Array]:
    """Return release and its slope."""
    if linear:
        return potential, np.ones_like(potential)
    above = potential > limits
    return np.where(above, potential - limits, 0.0), above.astype(np.float64)
