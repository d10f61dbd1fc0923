"""How the eye moves over a scene: drift, tremor and saccades, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import Problems
from retinacodec.stimuli.checks import (
    check_fields_of,
    check_number,
    check_range,
    check_seed,
    check_whole,
)

__all__ = ["EyeMovements", "fixational_path", "still_path"]

Array = npt.NDArray[np.float64]

_TREMOR_TONES = 64
_TRIES = 64


@dataclass(frozen=True)
class EyeMovements:
    """How far and how often an eye moves; the defaults are those of a primate.

    Angles are turned into distances on the retina with 200 um per degree (macaque; Perry and
    Cowey 1985), so that one minute of arc is 3.3 um.

    Parameters
    ----------
    diffusion : float, default 444
        Diffusion constant D of the drift, um^2/s: along each axis the variance of the displacement
        grows as 2 D t. The default is 40 arcmin^2/s, as for the human eye (Kuang et al. 2012);
        macaques drift alike (Ko, Snodderly, Poletti 2016).
    relaxation_s : float, optional
        Time in which drift returns to the point of fixation, s: an Ornstein-Uhlenbeck process.
        Without it drift is Brownian motion.
    tremor_um : float, default 1
        Standard deviation of the tremor along each axis, um (some 20 arcsec).
    tremor_hz : (float, float), default (50, 100)
        Band of the tremor (Ko, Snodderly, Poletti 2016). Frames slower than twice that alias it,
        as a display does.
    fixation_s : (float, float), default (0.3, 1)
        Shortest and longest fixation between two saccades, s, uniform between them.
    saccade_um : float, default 800
        Mean amplitude of saccades, um (4 degrees). Amplitudes beyond `smallest_um` are
        exponential, as in natural viewing (Bahill, Adler, Stark 1975); those that would leave the
        field are drawn again.
    smallest_um : float, default 100
        Smallest amplitude of a saccade, um (half a degree).
    saccade_s : (float, float), default (0.021, 1.1e-5)
        Main sequence: a saccade of amplitude A um lasts ``saccade_s[0] + saccade_s[1] A``
        seconds; the default is 21 ms and 2.2 ms per degree (Carpenter 1988; Bahill, Clark,
        Stark 1975).

    References
    ----------
    Bahill, Adler, Stark 1975, Most naturally occurring human saccades have magnitudes of 15
    degrees or less, Invest Ophthalmol 14, 468. Bahill, Clark, Stark 1975, The main sequence, Math
    Biosci 24, 191. Carpenter 1988, Movements of the eyes. Ko, Snodderly, Poletti 2016, Eye
    movements between saccades, Vision Res 122, 93. Kuang, Poletti, Victor, Rucci 2012, Temporal
    encoding of spatial information during active visual fixation, Curr Biol 22, 510. Perry, Cowey
    1985, The ganglion cell and cone distributions in the monkey's retina, Vision Res 25, 1795.
    """

    diffusion: float = 444.0
    relaxation_s: float | None = None
    tremor_um: float = 1.0
    tremor_hz: tuple[float, float] = (50.0, 100.0)
    fixation_s: tuple[float, float] = (0.3, 1.0)
    saccade_um: float = 800.0
    smallest_um: float = 100.0
    saccade_s: tuple[float, float] = (0.021, 1.1e-5)

    def check(self, problems: Problems) -> None:
        """Note every value that cannot be used."""
        check_number(problems, "EyeMovements diffusion", self.diffusion, least=0)
        if self.relaxation_s is not None:
            check_number(problems, "EyeMovements relaxation_s", self.relaxation_s, above=0)
        check_number(problems, "EyeMovements tremor_um", self.tremor_um, least=0)
        check_range(problems, "EyeMovements tremor_hz", self.tremor_hz, least=0)
        if check_range(problems, "EyeMovements fixation_s", self.fixation_s, least=0):
            check_number(problems, "EyeMovements fixation_s", self.fixation_s[0], above=0)
        if check_number(problems, "EyeMovements smallest_um", self.smallest_um, least=0):
            mean = self.saccade_um
            check_number(problems, "EyeMovements saccade_um", mean, above=self.smallest_um)
        good = isinstance(self.saccade_s, tuple | list) and len(self.saccade_s) == 2
        wanted = "EyeMovements saccade_s: expected (seconds, seconds per um)"
        if problems.require(good, f"{wanted}, got {self.saccade_s!r}"):
            for part in self.saccade_s:
                check_number(problems, "EyeMovements saccade_s", part, least=0)


@dataclass(frozen=True)
class _Saccade:
    """One flight of the gaze: when it starts and ends (s) and where it lands (x, y in um)."""

    start: float
    end: float
    target: Array


def fixational_path(
    frames: int,
    *,
    frame_rate: float = 60.0,
    eye: EyeMovements | None = None,
    field_um: tuple[float, float] = (1000.0, 1000.0),
    seed: int,
) -> xr.Dataset:
    """Draw where the eye looks in every frame.

    Parameters
    ----------
    frames : int
        Number of frames.
    frame_rate : float, default 60
        Frames per second, Hz.
    eye : EyeMovements, optional
        Drift, tremor and saccades.
    field_um : (float, float), default (1000, 1000)
        Farthest the gaze goes from the middle along y and x, um; drift is reflected there.
    seed : int
        Which path.

    Returns
    -------
    xarray.Dataset
        Over ``time`` (s): ``gaze_x`` and ``gaze_y`` (um on the retina), ``gaze_velocity_x`` and
        ``gaze_velocity_y`` (um/s, the movement since the frame before) and ``saccade`` (bool: the
        eye was in flight at some time since the frame before).

    Raises
    ------
    InputError
        Naming every argument that cannot be used.

    Notes
    -----
    Position = fixation point + drift + tremor. Drift is d_t = a d_(t-1) + s n_t with n normal;
    Brownian: a = 1, s^2 = 2 D dt; Ornstein-Uhlenbeck with relaxation time T: a = exp(-dt / T),
    s^2 = D T (1 - a^2). It starts at 0 after each saccade. Tremor is the sum of 64 tones of
    random frequency in the band and random phase. A saccade from p to q takes the duration of
    the main sequence and goes along p + (q - p)(10 u^3 - 15 u^4 + 6 u^5), u from 0 to 1.

    References
    ----------
    Those of `EyeMovements`; Flash, Hogan 1985, The coordination of arm movements, J Neurosci 5,
    1688 (the minimum-jerk course).

    Examples
    --------
    >>> path = fixational_path(600, frame_rate=60, seed=0)
    >>> bool(abs(path.gaze_x).max() <= 1000), 8 <= int(path.saccade.sum()) <= 120
    (True, True)
    """
    eye = eye or EyeMovements()
    problems = Problems()
    check_whole(problems, "frames", frames, least=1)
    check_number(problems, "frame_rate", frame_rate, above=0)
    check_fields_of(problems, "eye", eye, (EyeMovements,))
    good = isinstance(field_um, tuple | list) and len(field_um) == 2
    if problems.require(good, f"field_um: expected (y, x) in um, got {field_um!r}"):
        for half in field_um:
            check_number(problems, "field_um", half, least=0)
    check_seed(problems, seed)
    problems.raise_as("fixational_path")

    rng = np.random.default_rng(seed)
    reach = np.asarray(field_um, dtype=np.float64)[::-1]  # (x, y)
    time = (np.arange(frames + 1) - 1) / frame_rate  # from the frame before the first
    first = reach * rng.uniform(-0.5, 0.5, 2)
    flights = _schedule(time[-1], first, reach, eye, rng)
    gaze = _positions(time, first, flights, eye, frame_rate, rng)
    gaze = _reflect(gaze + _tremor(time, eye, rng), reach)
    flying = np.zeros(frames + 1, dtype=bool)
    for flight in flights:
        flying |= (time > flight.start) & (time - 1 / frame_rate < flight.end)
    return _dataset(time[1:], gaze[1:], np.diff(gaze, axis=0) * frame_rate, flying[1:])


def still_path(frames: int, *, frame_rate: float) -> xr.Dataset:
    """Return the path of an eye that does not move, as `fixational_path` returns one that does."""
    rest = np.zeros((frames, 2))
    return _dataset(np.arange(frames) / frame_rate, rest, rest, np.zeros(frames, dtype=bool))


def _schedule(
    end: float, first: Array, reach: Array, eye: EyeMovements, rng: np.random.Generator
) -> list[_Saccade]:
    """Draw fixations and saccades until the path is over."""
    flights: list[_Saccade] = []
    here, now = first, 0.0
    while now <= end:
        start = now + rng.uniform(*eye.fixation_s)
        target = _target(here, reach, eye, rng)
        lasts = eye.saccade_s[0] + eye.saccade_s[1] * float(np.hypot(*(target - here)))
        flights.append(_Saccade(start, start + lasts, target))
        here, now = target, start + lasts
    return flights


def _target(here: Array, reach: Array, eye: EyeMovements, rng: np.random.Generator) -> Array:
    """Draw where the next saccade lands, inside the field."""
    for _ in range(_TRIES):
        angle = rng.uniform(0, 2 * np.pi)
        amplitude = eye.smallest_um + rng.exponential(eye.saccade_um - eye.smallest_um)
        target = here + amplitude * np.array([np.cos(angle), np.sin(angle)])
        if (np.abs(target) <= reach).all():
            return target
    return reach * rng.uniform(-1, 1, 2)


def _positions(
    time: Array,
    first: Array,
    flights: list[_Saccade],
    eye: EyeMovements,
    frame_rate: float,
    rng: np.random.Generator,
) -> Array:
    """Return the gaze (frame, xy) without tremor: fixations with drift, and the flights between."""
    keep, sd = _drift(eye, 1 / frame_rate)
    step = sd * rng.standard_normal((len(time), 2))
    gaze = np.empty((len(time), 2))
    point, done = first, 0
    for flight in flights:
        leave, land = np.searchsorted(time, [flight.start, flight.end], side="right")
        gaze[done:leave] = point + _wander(step[done:leave], keep)
        last = gaze[leave - 1] if leave > done else point
        u = (time[leave:land] - flight.start) / max(flight.end - flight.start, 1e-12)
        course = u**3 * (10 - 15 * u + 6 * u**2)
        gaze[leave:land] = last + course[:, None] * (flight.target - last)
        point, done = flight.target, int(land)
    gaze[done:] = point
    return gaze


def _wander(step: Array, keep: float) -> Array:
    """Add up the steps (frame, xy) of the drift, of which every frame keeps a share."""
    if keep == 1:
        return np.cumsum(step, axis=0)
    drift, now = np.empty_like(step), np.zeros(2)
    for k, new in enumerate(step):
        now = keep * now + new
        drift[k] = now
    return drift


def _drift(eye: EyeMovements, dt: float) -> tuple[float, float]:
    """Return how much of the drift a frame keeps, and the standard deviation that it adds."""
    if eye.relaxation_s is None:
        return 1.0, math.sqrt(2 * eye.diffusion * dt)
    keep = math.exp(-dt / eye.relaxation_s)
    return keep, math.sqrt(eye.diffusion * eye.relaxation_s * (1 - keep**2))


def _tremor(time: Array, eye: EyeMovements, rng: np.random.Generator) -> Array:
    """Return band-limited noise (frame, xy): many tones of random frequency and phase."""
    tone = rng.uniform(*eye.tremor_hz, (_TREMOR_TONES, 2))
    phase = rng.uniform(0, 2 * np.pi, (_TREMOR_TONES, 2))
    sway = np.zeros((len(time), 2))
    for hz, turn in zip(tone, phase, strict=True):
        sway += np.cos(2 * np.pi * time[:, None] * hz + turn)
    return eye.tremor_um * math.sqrt(2 / _TREMOR_TONES) * sway


def _reflect(gaze: Array, reach: Array) -> Array:
    """Fold positions beyond the field back into it."""
    reach = np.maximum(reach, 1e-9)
    folded: Array = reach - np.abs((gaze + reach) % (4 * reach) - 2 * reach)
    return folded


def _dataset(
    time: Array, gaze: Array, velocity: Array, flying: npt.NDArray[np.bool_]
) -> xr.Dataset:
    """Name the columns of a path and give them units."""
    return xr.Dataset(
        {
            "gaze_x": ("time", gaze[:, 0], {"units": "um"}),
            "gaze_y": ("time", gaze[:, 1], {"units": "um"}),
            "gaze_velocity_x": ("time", velocity[:, 0], {"units": "um/s"}),
            "gaze_velocity_y": ("time", velocity[:, 1], {"units": "um/s"}),
            "saccade": ("time", flying, {"units": "1"}),
        },
        coords={"time": ("time", time, {"units": "s"})},
    )
