"""The cell types of the simulated retina: their sizes, times and weights, and whence they come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AMACRINES",
    "BIPOLARS",
    "GANGLIONS",
    "AmacrineType",
    "BipolarType",
    "GanglionType",
    "gaussian",
    "mosaic",
]

Array = NDArray[np.float64]
Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class BipolarType:
    """A bipolar cell type: centre, antagonistic surround, biphasic time course, rectifier.

    Parameters
    ----------
    name : str
        Name of the type.
    pathway : {"ON", "OFF"}
        Sign of the response to light.
    tau_ms, rebound_ms : float
        Times to peak of the two low-pass filters whose difference is the time course, ms.
    rebound : float
        Weight of the later filter, 0 for a monophasic response.
    centre_um, surround_um : float
        Standard deviations of the centre and surround Gaussians, um.
    surround : float
        Volume of the surround relative to the centre.
    threshold : float
        Contrast at which release starts; below 0 for a cell that releases in the dark grey.
    order : int, default 5
        Order of the low-pass filters: ``order + 1`` stages of ``tau_ms / order`` each, which
        include the photoreceptors' cascade.

    Notes
    -----
    ``k(t) = (t/tau)^n e^{n (1 - t/tau)} - rebound (t/rho)^n e^{n (1 - t/rho)}``, rho =
    ``rebound_ms``; the kernel is scaled so that its positive lobe sums to 1.

    References
    ----------
    .. [1] Chichilnisky & Kalmar, J Neurosci 22:2737, 2002 (difference of low-pass filters; OFF
       cells rectify more than ON cells).
    .. [2] Dacey et al., Vision Res 40:1801, 2000 (centre and surround of bipolar cells).
    .. [3] Awatramani & Slaughter, J Neurosci 20:7087, 2000 (transient and sustained types).
    """

    name: str
    pathway: str
    tau_ms: float
    rebound_ms: float
    rebound: float
    centre_um: float = 40.0
    surround_um: float = 140.0
    surround: float = 0.8
    threshold: float = 0.0
    order: int = 5

    def time_course(self, time_ms: Array) -> Array:
        """Return the impulse response at times (ms) after a flash, positive for the own sign."""
        n = self.order
        first, second = (
            (time_ms / tau) ** n * np.exp(n * (1 - time_ms / tau))
            for tau in (self.tau_ms, self.rebound_ms)
        )
        return np.where(time_ms > 0, first - self.rebound * second, 0.0)

    def kernel(self, frames: int, frame_rate: float) -> Array:
        """Return the weights (lag,) of the latest frames, newest first, with the type's sign.

        The frame at lag k counts with the time course in its middle, ``(k + 1/2) / frame_rate``.
        """
        middles: Array = (np.arange(frames, dtype=np.float64) + 0.5) * 1000 / frame_rate
        course = self.time_course(middles)
        sign = 1.0 if self.pathway == "ON" else -1.0
        return sign * course / course[course > 0].sum()


@dataclass(frozen=True)
class AmacrineType:
    """An amacrine cell type: pools rectified bipolar output in space and time, and rectifies.

    Parameters
    ----------
    name : str
        Name of the type.
    inputs : tuple of (str, float)
        Bipolar types and their weights.
    sigma_um : float
        Standard deviation of the Gaussian field, um.
    tau_ms : float
        Time constant of the low-pass filter, ms.
    threshold : float
        Input at which release starts.

    References
    ----------
    .. [1] Masland, Vis Neurosci 29:3, 2012 (narrow and wide fields).
    .. [2] Molnar & Werblin, J Neurophysiol 98:2857, 2007 (crossover inhibition).
    .. [3] Baccus, Olveczky, Manu, Meister, J Neurosci 28:6807, 2008 (a wide-field amacrine cell
       that pools transient subunits of both signs).
    """

    name: str
    inputs: Weights
    sigma_um: float
    tau_ms: float
    threshold: float = 0.0


@dataclass(frozen=True)
class GanglionType:
    """A ganglion cell type: what it pools, what inhibits it, and how it fires.

    Parameters
    ----------
    name : str
        Name of the type.
    excitation : tuple of (str, float)
        Bipolar types and their weights.
    inhibition : tuple of (str, float)
        Amacrine types and their weights, as positive numbers.
    pool_um : float
        Standard deviation of the dendritic field, um.
    threshold : float
        Drive at which firing starts.
    gain_hz : float
        Rate per unit drive above threshold, Hz.
    softness : float
        Width of the soft corner at threshold, in units of drive.

    References
    ----------
    .. [1] Demb, Zaghloul, Haarsma, Sterling, J Neurosci 21:7447, 2001 (rectified bipolar
       subunits pooled by ganglion cells).
    .. [2] Olveczky, Baccus, Meister, Nature 423:401, 2003 (object motion sensitive cells).
    """

    name: str
    excitation: Weights
    inhibition: Weights
    pool_um: float
    threshold: float
    gain_hz: float
    softness: float = 0.02


BIPOLARS = (
    BipolarType("ON transient", "ON", 70.0, 115.0, 0.6, threshold=-0.03),
    BipolarType("ON sustained", "ON", 95.0, 170.0, 0.15, threshold=-0.03),
    BipolarType("OFF transient", "OFF", 62.0, 100.0, 0.6, threshold=0.05),
    BipolarType("OFF sustained", "OFF", 90.0, 160.0, 0.15, threshold=0.06),
)

AMACRINES = (
    AmacrineType("amacrine ON", (("ON transient", 0.5), ("ON sustained", 0.5)), 60.0, 40.0, 0.04),
    AmacrineType(
        "amacrine OFF", (("OFF transient", 0.5), ("OFF sustained", 0.5)), 60.0, 40.0, 0.02
    ),
    AmacrineType(
        "amacrine wide", (("ON transient", 1.0), ("OFF transient", 1.0)), 250.0, 20.0, 0.06
    ),
)

GANGLIONS = (
    GanglionType(
        "OFF transient", (("OFF transient", 1.4),),
        (("amacrine ON", 0.5), ("amacrine wide", 0.5)), 90.0, 0.03, 550.0,
    ),
    GanglionType(
        "OFF sustained", (("OFF sustained", 1.0),),
        (("amacrine ON", 0.5), ("amacrine wide", 0.3)), 75.0, 0.06, 700.0,
    ),
    GanglionType(
        "ON", (("ON transient", 0.9), ("ON sustained", 0.25)),
        (("amacrine OFF", 0.8), ("amacrine wide", 0.6)), 90.0, 0.08, 600.0,
    ),
    GanglionType(
        "ON-OFF", (("ON transient", 0.5), ("OFF transient", 0.8)),
        (("amacrine wide", 0.4),), 70.0, 0.045, 650.0,
    ),
    GanglionType(
        "object motion", (("ON transient", 1.0), ("OFF transient", 1.0)),
        (("amacrine wide", 1.6),), 60.0, 0.05, 500.0,
    ),
)  # fmt: skip


def gaussian(sigma_um: float, pixel_um: float) -> Array:
    """Return a Gaussian integrated over pixels, (2 r + 1,) weights that sum to 1, r = 3 sigma."""
    reach = max(1, math.ceil(3 * sigma_um / pixel_um))
    edges = (np.arange(-reach, reach + 2) - 0.5) * pixel_um / (sigma_um * math.sqrt(2))
    weights = np.diff([math.erf(edge) for edge in edges])
    return np.asarray(weights / weights.sum())


def mosaic(count: int, spacing_um: float) -> Array:
    """Return the (count, 2) positions y, x (um) of a hexagonal mosaic nearest to the centre."""
    reach = np.arange(-count, count + 1)
    row, column = (axis.ravel() for axis in np.meshgrid(reach, reach, indexing="ij"))
    y = row * spacing_um * math.sqrt(3) / 2
    x = (column + 0.5 * (row % 2)) * spacing_um
    order = np.lexsort((x, y, np.round(np.hypot(y, x), 6)))[:count]
    return np.stack([y[order], x[order]], axis=1)
